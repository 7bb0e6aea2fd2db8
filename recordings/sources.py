"""Where a calibration set and held-out recordings come from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from console.program import log, warn
from preprocess.errors import UsageError
from preprocess.spec import PreprocessSpec

from .actions import action_code, class_indices
from .batches import FeatureLoader
from .calibration import CalibrationSet, balanced_order, calibration_set
from .catalogue import OnError, scan
from .protocols import Split, split
from .recording import RecordingRef
from .synthetic.cached import CALIBRATION_SEED, HELD_OUT_SEED, cached_recordings

Refs = Sequence[RecordingRef]

_SHOWN = 5  # warnings about single recordings


class ModelInputs(Protocol):
    """What is to be known of a model to choose and prepare recordings for it; a configuration and a manifest say it."""

    @property
    def codes(self) -> Sequence[str]: ...

    @property
    def spec(self) -> PreprocessSpec: ...


@dataclass(frozen=True)
class DataSource:
    """What is calibrated with and compared on.

    Attributes:
        folder: recordings of the user, or None for synthetic ones.
        audio: folder of their sound, if it is elsewhere.
        protocol: calibrate on its training part and compare on its test part; None: draw both from all recordings.
        missing_list: file with names of recordings to leave out.
        on_error: `raise` or `skip`.
        seed: of every choice.
        workers: processes that prepare inputs.
    """

    folder: Path | None = None
    audio: Path | None = None
    protocol: str | None = None
    missing_list: Path | None = None
    on_error: OnError = "raise"
    seed: int = 0
    workers: int = 2

    @classmethod
    def of(cls, options: argparse.Namespace) -> DataSource:
        """From the options that `console.options.add_recordings` adds."""
        return cls(
            folder=options.data,
            audio=options.audio,
            protocol=getattr(options, "protocol", None),
            missing_list=getattr(options, "missing_list", None),
            on_error=options.on_error,
            seed=options.seed,
            workers=options.workers,
        )

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; use 0 or more")

    def recordings(self) -> Refs:
        """All recordings of the folder; those that are left out are reported.

        Raises:
            DataError: as `scan`.
        """
        assert self.folder is not None
        catalogue = scan(self.folder, audio_root=self.audio, missing_list=self.missing_list, on_error=self.on_error)
        if catalogue.excluded:
            log(f"{len(catalogue.excluded)} recordings with missing skeletons are excluded")
        for problem in catalogue.problems[:_SHOWN]:
            warn(problem)
        if len(catalogue.problems) > _SHOWN:
            warn(f"and {len(catalogue.problems) - _SHOWN} more; `python -m recordings inspect` lists them")
        return catalogue.refs

    def split(self) -> Split:
        """The parts of the protocol. Raises as `protocols.split`."""
        assert self.protocol is not None
        return split(self.recordings(), self.protocol, seed=self.seed)

    def to_test(self) -> Refs:
        """The test part of the protocol; without a protocol, all recordings."""
        return self.split().test if self.protocol else self.recordings()

    def draw(self, config: ModelInputs, *, calibration: int, held_out: int) -> tuple[CalibrationSet | None, Refs]:
        """A calibration set of at most `calibration` recordings (None for 0), and at most `held_out` others.

        Raises:
            UsageError: there are not enough recordings for both.
        """
        to_calibrate, to_verify = self._parts(config, calibration, held_out)
        if not to_verify:
            if self.protocol:
                raise UsageError(f"--protocol {self.protocol} leaves nothing to test on; leave it out or take another")
            raise UsageError(f"{self.folder} holds too few recordings to calibrate with and to verify on")
        chosen = None
        if calibration:
            chosen = self._preprocessed(to_calibrate, config, calibration)
        return chosen, self._balanced(to_verify, config.codes, held_out)

    def held_out(self, codes: Sequence[str], count: int) -> Refs:
        """At most `count` recordings to compare on, in the catalogue's order: of all without a protocol.

        Raises:
            UsageError: the model's classes, whose codes are given, are not those of the synthetic recordings.
        """
        if self.folder is None:
            return self._synthetic(codes, count, HELD_OUT_SEED)
        return self._balanced(self.to_test(), codes, count)

    def two_sets(self, config: ModelInputs, calibration: int, held_out: int) -> tuple[CalibrationSet, CalibrationSet]:
        """A calibration set and another set to compare on, both preprocessed and in memory.

        Raises:
            UsageError: there are not enough recordings for both.
        """
        chosen, refs = self.draw(config, calibration=calibration, held_out=held_out)
        assert chosen is not None
        return chosen, self._preprocessed(refs, config, len(refs))

    def training_samples(self, config: ModelInputs, count: int) -> CalibrationSet:
        """At most `count` recordings of the training part, preprocessed; synthetic ones without a folder."""
        return self._preprocessed(self._parts(config, count, 1)[0], config, count)

    def _preprocessed(self, refs: Refs, config: ModelInputs, count: int) -> CalibrationSet:
        labels = class_indices(refs, config.codes).tolist()
        return calibration_set(
            refs, labels, config.spec, count=count, seed=self.seed, workers=self.workers, on_error=self.on_error
        )

    def loader(self, refs: Refs, config: ModelInputs) -> FeatureLoader:
        return FeatureLoader(
            refs,
            class_indices(refs, config.codes),
            config.spec,
            batch_size=16,
            workers=self.workers,
            on_error=self.on_error,
        )

    def _parts(self, config: ModelInputs, calibration: int, held_out: int) -> tuple[Refs, Refs]:
        if self.folder is None:
            first = self._synthetic(config.codes, calibration, CALIBRATION_SEED) if calibration else ()
            return first, self._synthetic(config.codes, held_out, HELD_OUT_SEED)
        if self.protocol:
            parts = self.split()
            return parts.train, parts.test
        refs = self.recordings()
        order = balanced_order(class_indices(refs, config.codes).tolist(), seed=self.seed)
        count = min(calibration, max(1, len(refs) // 2))
        return [refs[i] for i in order[:count]], [refs[i] for i in order[count:]]

    def _synthetic(self, codes: Sequence[str], count: int, seed: int) -> Refs:
        refs = scan(cached_recordings(count, seed=seed, workers=max(1, self.workers))).refs
        if not {action_code(ref.format, ref.action) for ref in refs} <= set(codes):
            raise UsageError("the model's classes are not those of the synthetic recordings; give --data DIR")
        return refs

    def _balanced(self, refs: Refs, codes: Sequence[str], count: int) -> Refs:
        """At most `count` of `refs`, balanced over classes, in their own order."""
        if len(refs) <= count:
            return refs
        order = balanced_order(class_indices(refs, codes).tolist(), seed=self.seed)
        return [refs[i] for i in sorted(order[:count])]

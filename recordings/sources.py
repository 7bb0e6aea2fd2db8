"""Recordings for a command: from the user's folder, or synthetic ones; to train, to calibrate with, to compare on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from console.program import log, warn
from preprocess.errors import UsageError
from preprocess.spec import PreprocessSpec

from .actions import action_code, class_indices
from .batches import FeatureLoader
from .calibration import CalibrationSet, balanced_order, calibration_set
from .catalogue import OnError, scan
from .recording import RecordingRef
from .splits import Split, split
from .synthetic.generate import CALIBRATION_SEED, HELD_OUT_SEED, SELECTION_SEED, cached_recordings

Refs: TypeAlias = Sequence[RecordingRef]

_BATCH_SIZE = 16
_SHOWN = 5  # warnings about single recordings


class ModelInputs(Protocol):
    """The properties of a model for which recordings are chosen and prepared; a configuration and a manifest are one.

    Attributes:
        codes: of the classes, as file names write the actions.
        spec: of the inputs.
    """

    @property
    def codes(self) -> Sequence[str]: ...

    @property
    def spec(self) -> PreprocessSpec: ...


@dataclass(frozen=True)
class DataSource:
    """Recordings to calibrate with and to compare on.

    Attributes:
        folder: recordings of the user, or None for synthetic ones.
        audio: folder of their sound, if it is elsewhere.
        protocol: calibrate on its training part and compare on its test part; None: draw both from all recordings.
        missing_list: file with names of recordings to leave out.
        on_error: `raise` or `skip`.
        seed: of every choice, 0 or more.
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
            protocol=options.protocol,
            missing_list=options.missing_list,
            on_error=options.on_error,
            seed=options.seed,
            workers=options.workers,
        )

    def recordings(self) -> Refs:
        """All recordings of the folder; the number and causes of those left out are logged. Raises as `scan`."""
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
        """The parts of the protocol. Raises as `recordings` and `recordings.splits.split`."""
        assert self.protocol is not None
        return split(self.recordings(), self.protocol, seed=self.seed)

    def to_test(self) -> Refs:
        """The test part of the protocol; without a protocol, all recordings."""
        return self.split().test if self.protocol else self.recordings()

    def draw(self, model: ModelInputs, *, calibration: int, held_out: int) -> tuple[CalibrationSet | None, Refs]:
        """A calibration set of at most `calibration` recordings (None for 0), and at most `held_out` others.

        Raises:
            UsageError: there are not enough recordings for both.
        """
        to_calibrate, to_compare = self._parts(model, calibration, held_out)
        if not to_compare:
            if self.protocol:
                raise UsageError(f"--protocol {self.protocol} leaves nothing to test on; omit it or use another")
            raise UsageError(f"{self.folder} holds too few recordings to calibrate with and to verify on")
        samples = self._preprocessed(to_calibrate, model, calibration) if calibration else None
        return samples, self._balanced(to_compare, model.codes, held_out)

    def draw_with_selection(
        self, model: ModelInputs, *, calibration: int, held_out: int
    ) -> tuple[CalibrationSet | None, Refs, Refs]:
        """`draw`, and between its two sets at most `held_out` further recordings to choose a recipe on.

        The set to choose on and the set to verify on share no recording: half of what the folder has at most, or
        synthetic recordings of different seeds.

        Raises:
            UsageError: there are not enough recordings for all three.
        """
        if self.folder is None:
            calibrated, refs = self.draw(model, calibration=calibration, held_out=held_out)
            return calibrated, self._synthetic(model.codes, held_out, SELECTION_SEED), refs
        calibrated, refs = self.draw(model, calibration=calibration, held_out=2 * held_out)
        selection = self._balanced(refs, model.codes, len(refs) // 2)
        names = {ref.name for ref in selection}
        return calibrated, selection, [ref for ref in refs if ref.name not in names]

    def held_out(self, codes: Sequence[str], count: int) -> Refs:
        """At most `count` recordings to compare on, in the catalogue's order: of the test part, if there is a protocol.

        Raises:
            UsageError: the model's classes, given by their codes, are not those of the synthetic recordings.
        """
        if self.folder is None:
            return self._synthetic(codes, count, HELD_OUT_SEED)
        return self._balanced(self.to_test(), codes, count)

    def two_sets(self, model: ModelInputs, calibration: int, held_out: int) -> tuple[CalibrationSet, CalibrationSet]:
        """A calibration set and another set to compare on, both preprocessed and in memory. Raises as `draw`."""
        samples, refs = self.draw(model, calibration=calibration, held_out=held_out)
        assert samples is not None
        return samples, self._preprocessed(refs, model, len(refs))

    def training_samples(self, model: ModelInputs, count: int) -> CalibrationSet:
        """At most `count` recordings of the training part, preprocessed; synthetic ones without a folder."""
        return self._preprocessed(self._parts(model, count, 1)[0], model, count)

    def loader(self, refs: Refs, model: ModelInputs) -> FeatureLoader:
        """Batches of recordings, as for evaluation."""
        return FeatureLoader(
            refs,
            class_indices(refs, model.codes),
            model.spec,
            batch_size=_BATCH_SIZE,
            workers=self.workers,
            on_error=self.on_error,
        )

    def _preprocessed(self, refs: Refs, model: ModelInputs, count: int) -> CalibrationSet:
        labels = class_indices(refs, model.codes).tolist()
        return calibration_set(
            refs, labels, model.spec, count=count, seed=self.seed, workers=self.workers, on_error=self.on_error
        )

    def _parts(self, model: ModelInputs, calibration: int, held_out: int) -> tuple[Refs, Refs]:
        if self.folder is None:
            to_calibrate = self._synthetic(model.codes, calibration, CALIBRATION_SEED) if calibration else ()
            return to_calibrate, self._synthetic(model.codes, held_out, HELD_OUT_SEED)
        if self.protocol:
            parts = self.split()
            return parts.train, parts.test
        refs = self.recordings()
        order = balanced_order(class_indices(refs, model.codes).tolist(), seed=self.seed)
        count = min(calibration, max(1, len(refs) // 2))
        return [refs[i] for i in order[:count]], [refs[i] for i in order[count:]]

    def _synthetic(self, codes: Sequence[str], count: int, seed: int) -> Refs:
        refs = scan(cached_recordings(count, seed=seed, workers=max(1, self.workers))).refs
        if not {action_code(ref.format, ref.action) for ref in refs} <= set(codes):
            raise UsageError("the model's classes are not those of the synthetic recordings; give --data DIR")
        return refs

    def _balanced(self, refs: Refs, codes: Sequence[str], count: int) -> Refs:
        """At most `count` of `refs`, balanced over classes, in their order."""
        if len(refs) <= count:
            return refs
        order = balanced_order(class_indices(refs, codes).tolist(), seed=self.seed)
        return [refs[i] for i in sorted(order[:count])]

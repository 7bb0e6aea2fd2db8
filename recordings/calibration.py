"""Calibration sets for quantization: few recordings, balanced over the classes, preprocessed as for evaluation."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from console.program import warn
from preprocess.errors import UsageError
from preprocess.spec import PreprocessSpec

from .batches import Batch, FeatureLoader
from .catalogue import OnError
from .recording import RecordingRef


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Preprocessed samples and where they come from. `calibration_set` gives read-only arrays.

    Attributes:
        names: the recordings' names.
        labels: int32 [N], class indices.
        skeleton: float32 [N, S, S, channels] in [0, 1].
        audio: float32 [N, bands, frames, 3].
        seed: of the choice.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    skeleton: npt.NDArray[np.float32]
    audio: npt.NDArray[np.float32]
    seed: int

    @cached_property
    def sha256(self) -> str:
        """Hash of the names (UTF-8, one a line), then of the bytes of both tensors (little endian, C order)."""
        digest = hashlib.sha256("".join(f"{name}\n" for name in self.names).encode())
        for tensor in (self.skeleton, self.audio):
            digest.update(np.ascontiguousarray(tensor, "<f4").data)
        return digest.hexdigest()

    @property
    def class_counts(self) -> dict[int, int]:
        """Number of samples of every class that occurs, in order of the class index."""
        return dict(sorted(Counter(self.labels.tolist()).items()))

    def batch(self, start: int, size: int) -> dict[str, npt.NDArray[np.float32]]:
        """The tensors `skeleton` and `audio` of at most `size` samples."""
        own = slice(start, start + size)
        return {"skeleton": self.skeleton[own], "audio": self.audio[own]}

    def head(self, count: int) -> CalibrationSet:
        """The first `count` samples, as balanced as the whole."""
        return CalibrationSet(
            self.names[:count], self.labels[:count], self.skeleton[:count], self.audio[:count], self.seed
        )

    def provenance(self) -> dict[str, Any]:
        """What a manifest says of the set, in plain JSON types."""
        return {
            "sha256": self.sha256,
            "size": len(self.names),
            "class_counts": {str(label): count for label, count in self.class_counts.items()},
            "seed": self.seed,
        }


def calibration_set(
    refs: Sequence[RecordingRef],
    labels: Sequence[int],
    spec: PreprocessSpec,
    *,
    count: int,
    seed: int,
    workers: int = 2,
    on_error: OnError = "skip",
) -> CalibrationSet:
    """Draws and preprocesses a balanced set: one recording of every class in turn, until there are `count`.

    A class with too few gives what it has. A recording that cannot be used is left out, with a warning, and the next
    in turn takes its place, unless `on_error` is `raise`. There are fewer than `count` samples only when the
    recordings are used up.

    Args:
        refs: the recordings to choose from, those of the training part.
        labels: class index of each.
        spec: sizes and constants.
        count: samples wanted, at least 1.
        seed: of the choice, 0 or more.
        workers: processes that read.
        on_error: `skip` or `raise`.

    Raises:
        UsageError: `count` or `seed` is out of range.
        DataError: no recording can be used, or one cannot with `raise`.
    """
    if count < 1:
        raise UsageError(f"the calibration set's size is {count}; use at least 1")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use 0 or more")
    order = balanced_order(labels, seed=seed)
    with FeatureLoader(
        [refs[index] for index in order],
        [labels[index] for index in order],
        spec,
        batch_size=min(count, len(refs)),
        seed=seed,
        workers=workers,
        on_error=on_error,
    ) as loader:
        batch = next(loader.epoch(0))
        problems = loader.problems
    if problems:
        warn(f"the calibration set leaves out {len(problems)} recording(s); the first: {problems[0].reason}")
    return _from_batch(batch, seed)


def _from_batch(batch: Batch, seed: int) -> CalibrationSet:
    assert batch.skeleton is not None
    assert batch.audio is not None
    for array in (batch.labels, batch.skeleton, batch.audio):
        array.setflags(write=False)
    return CalibrationSet(batch.names, batch.labels, batch.skeleton, batch.audio, seed)


def balanced_order(labels: Sequence[int], *, seed: int) -> list[int]:
    """All indices of `labels`, the classes taking turns: any beginning of it is as balanced as can be.

    The order of the classes and the order within each are drawn. They depend on the seed and on the labels' sequence.
    """
    rng = np.random.default_rng(seed)
    members: dict[int, list[int]] = defaultdict(list)
    for index in rng.permutation(len(labels)).tolist():
        members[int(labels[index])].append(index)
    rank = {label: position for position, label in enumerate(rng.permutation(sorted(members)).tolist())}
    turns = [(turn, rank[label], index) for label, own in members.items() for turn, index in enumerate(own)]
    return [index for _, _, index in sorted(turns)]

"""Calibration sets for quantization, and statistics of the audio input for standardisation."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from console.program import warn
from preprocess.errors import DataError
from preprocess.spec import FloatArray, PreprocessSpec

from .batches import FeatureLoader
from .catalogue import OnError
from .recording import Arrays, RecordingRef

Triple: TypeAlias = tuple[float, float, float]

_STATISTICS_BATCH = 8
_MIN_STD = 1e-6  # dB; less is silence or a constant tone, and dividing by it would only enlarge rounding errors


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Few recordings, balanced over the classes, preprocessed as for evaluation.

    Attributes:
        names: the recordings' names.
        labels: int32 [N], class indices.
        skeleton: float32 [N, S, S, channels] in [0, 1].
        audio: float32 [N, bands, frames, 3].
        seed: of the choice.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    skeleton: FloatArray
    audio: FloatArray
    seed: int

    @cached_property
    def sha256(self) -> str:
        """Hash of the names (UTF-8, one a line), then of the bytes of both tensors (little endian, C order)."""
        digest = hashlib.sha256("".join(f"{name}\n" for name in self.names).encode())
        for tensor in (self.skeleton, self.audio):
            digest.update(np.ascontiguousarray(tensor, "<f4").data)
        return digest.hexdigest()

    def batch(self, start: int, size: int) -> Arrays:
        """The tensors `skeleton` and `audio` of at most `size` samples."""
        samples = slice(start, start + size)
        return {"skeleton": self.skeleton[samples], "audio": self.audio[samples]}

    def head(self, count: int) -> CalibrationSet:
        """The first `count` samples, as balanced as the set."""
        return CalibrationSet(
            self.names[:count], self.labels[:count], self.skeleton[:count], self.audio[:count], self.seed
        )

    def provenance(self) -> dict[str, Any]:
        """The set's entry in a manifest, in plain JSON types."""
        counts = sorted(Counter(self.labels.tolist()).items())
        return {
            "sha256": self.sha256,
            "size": len(self.names),
            "class_counts": {str(label): count for label, count in counts},
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
    """Draw and preprocess a balanced set: one recording of every class in turn, until there are `count`.

    A class with too few gives all it has. A recording that cannot be used is left out, with a warning, and the next
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

    Returns:
        the set; its arrays are read-only.

    Raises:
        DataError: no recording can be used, or one cannot with `raise`.
    """
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
    if loader.problems:
        first = next(iter(loader.problems.values()))
        warn(f"the calibration set leaves out {len(loader.problems)} recording(s); the first: {first}")
    tensors = batch.tensors
    for array in (batch.labels, *tensors.values()):
        array.setflags(write=False)
    return CalibrationSet(batch.names, batch.labels, tensors["skeleton"], tensors["audio"], seed)


def balanced_order(labels: Sequence[int], *, seed: int) -> list[int]:
    """All indices of `labels`, the classes taking turns: any beginning of it is as balanced as can be.

    The order of the classes and the order within each are drawn. They depend on the seed and on the labels' sequence.
    """
    rng = np.random.default_rng(seed)
    members: dict[int, list[int]] = defaultdict(list)
    for index in rng.permutation(len(labels)).tolist():
        members[int(labels[index])].append(index)
    rank = {label: position for position, label in enumerate(rng.permutation(sorted(members)).tolist())}
    turns = [(turn, rank[label], index) for label, indices in members.items() for turn, index in enumerate(indices)]
    return [index for _, _, index in sorted(turns)]


def audio_statistics(
    refs: Sequence[RecordingRef], spec: PreprocessSpec, *, limit: int | None = None, workers: int = 2, seed: int = 0
) -> tuple[Triple, Triple]:
    """Mean and standard deviation of log-Mel, Δ and Δ² before they are standardised, for `LogMelSpec.mean` and `std`.

    Sums are in float64, over a stream of batches. Recordings without usable sound are left out, with a warning.

    Args:
        refs: the recordings of the training part.
        spec: sizes and constants; its mean and std are not used.
        limit: most recordings to read, drawn with `seed`; None for all.
        workers: processes that read.
        seed: of the draw, 0 or more.

    Returns:
        (mean, std), each of (log-Mel, Δ, Δ²), in dB and dB per frame (squared); std is that of the population.

    Raises:
        DataError: no recording can be used, or the sound of all is constant.
    """
    chosen = np.random.default_rng(seed).permutation(len(refs))[:limit]
    plain = replace(spec, audio=replace(spec.audio, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    sums, squares, values = np.zeros(3), np.zeros(3), 0
    with FeatureLoader(
        [refs[index] for index in sorted(chosen.tolist())],
        np.zeros(len(chosen), np.int32),
        plain,
        batch_size=_STATISTICS_BATCH,
        workers=workers,
        inputs=("audio",),
        on_error="skip",
    ) as loader:
        for batch in loader.epoch(0):
            channels = batch.tensors["audio"].reshape(-1, 3).astype(np.float64)
            sums += channels.sum(axis=0)
            squares += np.square(channels).sum(axis=0)
            values += len(channels)
    if loader.problems:
        first = next(iter(loader.problems.values()))
        warn(f"the audio statistics leave out {len(loader.problems)} recording(s); the first: {first}")
    mean = sums / values
    std = np.sqrt(np.maximum(squares / values - mean**2, 0))
    if std.min() < _MIN_STD:
        raise DataError(
            f"the audio of all {len(chosen)} recordings is constant, std {std.tolist()}; check the WAV files"
        )
    return tuple(mean.tolist()), tuple(std.tolist())

"""Mean and deviation of the audio input over a training set, the constants that standardise it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from console.program import warn
from preprocess.errors import DataError, UsageError
from preprocess.spec import PreprocessSpec

from .batches import FeatureLoader
from .recording import RecordingRef

Triple = tuple[float, float, float]

_BATCH_SIZE = 8
_MIN_STD = 1e-6  # dB; less is silence or a constant tone, and dividing by it would only enlarge rounding errors


def audio_statistics(
    refs: Sequence[RecordingRef], spec: PreprocessSpec, *, limit: int | None = None, workers: int = 2, seed: int = 0
) -> tuple[Triple, Triple]:
    """Mean and standard deviation of log-Mel, Δ and Δ² before they are standardised, for `LogMelSpec.mean` and `std`.

    Sums are taken in float64 while the recordings stream by. Recordings without usable sound are left out, with a
    warning.

    Args:
        refs: the recordings of the training part.
        spec: sizes and constants; its own mean and std play no part.
        limit: at most so many recordings, drawn with `seed`; None for all.
        workers: processes that read.
        seed: of the draw, 0 or more.

    Returns:
        (mean, std), each of (log-Mel, Δ, Δ²), in dB and dB per frame (squared); std is that of the population.

    Raises:
        UsageError: `limit` or `seed` is out of range.
        DataError: no recording can be used, or the sound of all is constant.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; use at least 1 recording")
    if seed < 0:
        raise UsageError(f"seed is {seed}; use 0 or more")
    chosen = np.random.default_rng(seed).permutation(len(refs))[:limit]
    plain = replace(spec, audio=replace(spec.audio, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    sums, squares, values = np.zeros(3), np.zeros(3), 0
    with FeatureLoader(
        [refs[index] for index in sorted(chosen.tolist())],
        np.zeros(len(chosen), np.int32),
        plain,
        batch_size=_BATCH_SIZE,
        workers=workers,
        inputs=("audio",),
        on_error="skip",
    ) as loader:
        for batch in loader.epoch(0):
            assert batch.audio is not None
            channels = batch.audio.reshape(-1, 3).astype(np.float64)
            sums += channels.sum(axis=0)
            squares += np.square(channels).sum(axis=0)
            values += len(channels)
        problems = loader.problems
    if problems:
        warn(f"the audio statistics leave out {len(problems)} recording(s); the first: {problems[0].reason}")
    mean = sums / values
    std = np.sqrt(np.maximum(squares / values - mean**2, 0))
    if std.min() < _MIN_STD:
        raise DataError(
            f"the audio of all {len(chosen)} recordings is constant, std {std.tolist()}; check the WAV files"
        )
    return _triple(mean), _triple(std)


def _triple(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Triple:
    first, second, third = values.tolist()
    return first, second, third

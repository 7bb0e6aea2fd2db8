"""Waveform → log-Mel spectrogram with Δ and Δ², as librosa 0.11 computes them, without librosa."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import DataError
from .spec import DELTA_WIDTH, AnyFloatArray, DoubleArray, FloatArray, LogMelSpec

# Savitzky-Golay weights (scipy.signal.savgol_coeffs): first derivative of a line, second of a parabola, width 9.
# The kernels are (anti)symmetric; the weights are those of the middle frame and of the frames 1 to 4 away from it.
_DELTA_WEIGHTS = tuple(k / 60 for k in (0, 1, 2, 3, 4))
_DELTA2_WEIGHTS = tuple(k / 462 for k in (-20, -17, -8, 7, 28))

_FFT_BLOCK_FRAMES = 48  # frames transformed at once: their spectra stay in the cache, and memory stays small
_MEL_BLOCK_BANDS = 16  # bands of a matrix product; few enough to skip most of the filters' zeros


def waveform_to_logmel(waveform: AnyFloatArray, spec: LogMelSpec) -> FloatArray:
    """The audio input of the recogniser: `fit_length`, `log_mel`, `stack_deltas`.

    Args:
        waveform: float [N], mono, at `spec.sample_rate_hz`, nominally in [−1, 1]. Any N above 0.
        spec: sizes and constants.

    Returns:
        float32 [n_mels, frames, 3]: (log-Mel in dB, Δ, Δ²), each less `spec.mean` and over `spec.std`.

    Raises:
        DataError: the waveform is empty, not one-dimensional, not floating point or not finite.
    """
    return stack_deltas(log_mel(fit_length(waveform, spec), spec), spec)


def to_mono(waveform: AnyFloatArray) -> FloatArray:
    """The mean of the channels: float [N, channels] or [N] → float32 [N].

    Raises:
        DataError: another number of dimensions, no channel, or not floating point.
    """
    samples = _floating(waveform)
    if samples.ndim == 1:
        return samples.astype(np.float32)
    if samples.ndim != 2 or not samples.shape[1]:
        raise DataError(f"waveform has shape {samples.shape}; give [samples] or [samples, channels]")
    mono: FloatArray = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mono


def fit_length(waveform: AnyFloatArray, spec: LogMelSpec) -> FloatArray:
    """The first `spec.samples` samples; zeros at the end where there are fewer: float [N] → float32 [spec.samples].

    Raises:
        DataError: as `waveform_to_logmel`.
    """
    samples = _floating(waveform)
    if samples.ndim != 1:
        raise DataError(f"waveform has shape {samples.shape}; give one channel, [samples] (see to_mono)")
    if not samples.size:
        raise DataError("waveform is empty, 0 samples; leave the recording out or record its sound again")
    with np.errstate(over="ignore"):  # refused below
        samples = samples.astype(np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        index = int(np.argmin(finite))
        raise DataError(f"waveform sample {index} is {waveform[index]}; every sample must be a finite float32 number")
    fitted = np.zeros(spec.samples, np.float32)
    kept = samples[: spec.samples]
    fitted[: kept.size] = kept
    return fitted


def _floating(waveform: AnyFloatArray) -> AnyFloatArray:
    samples = np.asarray(waveform)
    if samples.dtype.kind != "f":
        raise DataError(f"waveform has dtype {samples.dtype}; scale it to floating point in [-1, 1]")
    return samples


def log_mel(waveform: FloatArray, spec: LogMelSpec) -> FloatArray:
    """Log-Mel power spectrogram, as `librosa.feature.melspectrogram` and `librosa.power_to_db` give it.

    Args:
        waveform: float32 [spec.samples] (see `fit_length`).

    Returns:
        float32 [n_mels, frames] in dB, at most `spec.top_db` below its maximum and not below 10 · log10(amin).

    Raises:
        DataError: the waveform has another length, or is so loud that its power overflows float32.
    """
    if waveform.shape != (spec.samples,):
        raise DataError(f"waveform has shape {waveform.shape}; fit_length gives the {spec.samples} samples needed")
    mel = np.empty((spec.n_mels, spec.frames), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        for frames, power in _power_spectra(waveform, spec):
            for block in _mel_blocks(spec):
                np.matmul(block.weights, power[:, block.bins].T, out=mel[block.bands, frames])
    peak = float(mel.max())
    if not np.isfinite(peak):
        raise DataError(f"waveform peaks at {np.abs(waveform).max():g}, its power overflows; scale it to [-1, 1]")
    decibel: FloatArray = np.log(np.maximum(mel, np.float32(spec.amin), out=mel), out=mel)
    decibel *= np.float32(10 / np.log(10))  # log is vectorised in NumPy, log10 is not
    np.maximum(decibel, decibel.max() - np.float32(spec.top_db), out=decibel)
    return decibel


def _power_spectra(waveform: FloatArray, spec: LogMelSpec) -> Iterator[tuple[slice, FloatArray]]:
    """|STFT|² with `center=True` and zero padding, a few frames at a time: which they are, float32 [n, n_fft // 2 + 1].

    The window stands at the start of the transform instead of its centre, which changes the phase alone.
    """
    before = spec.n_fft // 2 - (spec.n_fft - spec.window_samples) // 2
    padded = np.zeros((spec.frames - 1) * spec.hop_samples + spec.window_samples, np.float32)
    kept = waveform[: padded.size - before]
    padded[before : before + kept.size] = kept
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.window_samples)[:: spec.hop_samples]

    windowed = np.zeros(
        (_FFT_BLOCK_FRAMES, spec.n_fft)
    )  # padded here: rfft takes four times as long when it has to pad
    for first in range(0, spec.frames, _FFT_BLOCK_FRAMES):
        block = slice(first, min(first + _FFT_BLOCK_FRAMES, spec.frames))
        count = block.stop - first
        np.multiply(frames[block], _window(spec), out=windowed[:count, : spec.window_samples])
        spectrum = np.fft.rfft(windowed[:count]).astype(np.complex64).view(np.float32)
        np.square(spectrum, out=spectrum)
        yield block, spectrum[:, 0::2] + spectrum[:, 1::2]


@lru_cache(maxsize=16)
def _window(spec: LogMelSpec) -> DoubleArray:
    """Periodic Hann, float64 [window_samples] (scipy.signal.get_window)."""
    phase = 2 * np.pi * np.arange(spec.window_samples) / spec.window_samples
    window = 0.5 - 0.5 * np.cos(phase) if spec.window_samples > 1 else np.ones(1)
    window.setflags(write=False)
    return window


class _MelBlock(NamedTuple):
    """Neighbouring bands, the bins in which any of them is not zero, and their weights there [bands, bins]."""

    bands: slice
    bins: slice
    weights: FloatArray


@lru_cache(maxsize=16)
def _mel_blocks(spec: LogMelSpec) -> tuple[_MelBlock, ...]:
    filters = mel_filters(spec)
    blocks = []
    for first in range(0, spec.n_mels, _MEL_BLOCK_BANDS):
        bands = slice(first, min(first + _MEL_BLOCK_BANDS, spec.n_mels))
        used = np.flatnonzero(filters[bands].any(0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
        weights = np.ascontiguousarray(filters[bands, bins])
        weights.setflags(write=False)
        blocks.append(_MelBlock(bands, bins, weights))
    return tuple(blocks)


def mel_filters(spec: LogMelSpec) -> FloatArray:
    """Triangular Mel filters of unit area, as `librosa.filters.mel`: float32 [n_mels, n_fft // 2 + 1].

    Warns of bands that are narrower than the distance of two bins: they hold no bin and stay at the floor.
    """
    bin_hz = np.arange(spec.n_fft // 2 + 1) * spec.sample_rate_hz / spec.n_fft
    lowest_mel, highest_mel = _hz_to_mel(np.array([spec.fmin_hz, spec.fmax_hz])).tolist()
    edges_mel = np.linspace(lowest_mel, highest_mel, spec.n_mels + 2)
    edges_hz = _mel_to_hz(edges_mel)[:, None]
    width_hz = np.diff(edges_hz, axis=0)
    rising = (bin_hz - edges_hz[:-2]) / width_hz[:-1]
    falling = (edges_hz[2:] - bin_hz) / width_hz[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    filters: FloatArray = (triangles * 2 / (edges_hz[2:] - edges_hz[:-2])).astype(np.float32)
    empty = np.count_nonzero(~filters.any(axis=1))
    if empty:
        warnings.warn(
            f"{empty} of {spec.n_mels} Mel bands hold no frequency; reduce n_mels or raise n_fft", stacklevel=2
        )
    return filters


# Slaney's scale: linear below 1 kHz, logarithmic above.
_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: DoubleArray) -> DoubleArray:
    return np.where(
        hz < _BREAK_HZ, hz / _HZ_PER_MEL, _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    )


def _mel_to_hz(mel: DoubleArray) -> DoubleArray:
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)))


def stack_deltas(log_mel: FloatArray, spec: LogMelSpec) -> FloatArray:
    """Add Δ and Δ² as channels and standardise: float32 [n_mels, frames] in dB → float32 [n_mels, frames, 3].

    As `librosa.feature.delta` of order 1 and 2, width 9, `mode="interp"`.

    Raises:
        DataError: `log_mel` has another shape.
    """
    if log_mel.shape != spec.shape[:2]:
        raise DataError(f"log-Mel has shape {log_mel.shape}; the specification says {spec.shape[:2]}")
    stacked = np.empty(spec.shape, np.float32)
    channels = (log_mel, _delta(log_mel, _DELTA_WEIGHTS, -1), _delta(log_mel, _DELTA2_WEIGHTS, 1))
    for index, (channel, mean, std) in enumerate(zip(channels, spec.mean, spec.std, strict=True)):
        centered = channel - np.float32(mean)
        np.divide(centered, np.float32(std), out=stacked[..., index])
    return stacked


def _delta(log_mel: FloatArray, weights: tuple[float, ...], symmetry: int) -> FloatArray:
    """Filter along time with a kernel of width 9.

    At the edges `mode="interp"` differentiates the polynomial fitted to the first or last 9 frames. Its degree is the
    order of the derivative, which is therefore constant there: the edge repeats the nearest full window's value.
    """
    half = DELTA_WIDTH // 2
    frames = log_mel.shape[1]
    result = np.empty(log_mel.shape, np.float32)
    inner = result[:, half : frames - half]
    np.multiply(log_mel[:, half : frames - half], np.float32(weights[0]), out=inner)
    for distance in range(1, half + 1):
        later = log_mel[:, half + distance : frames - half + distance]
        earlier = log_mel[:, half - distance : frames - half - distance]
        pair = later + earlier if symmetry > 0 else later - earlier
        pair *= np.float32(weights[distance])
        inner += pair
    result[:, :half] = result[:, half : half + 1]
    result[:, frames - half :] = result[:, frames - half - 1 : frames - half]
    return result

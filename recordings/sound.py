"""Sound: WAV files of any rate, channel count and sample format (through libsndfile), resampling, noise and rooms."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError
from preprocess.logmel import to_mono
from preprocess.spec import FloatArray

Array: TypeAlias = npt.NDArray[np.float64]
Spectrum: TypeAlias = npt.NDArray[np.complex128]

LEVEL_BLOCK_S = 0.05
_FLAT_BELOW_HZ = 40.0
_WAV_FORMATS = ("WAV", "WAVEX", "RF64")


def read_waveform(path: Path, *, sample_rate_hz: int) -> FloatArray:
    """Read a WAV file as one channel at a given rate.

    Channels are averaged. Another rate is resampled with soxr's high quality, as `librosa.resample` does by default.

    Args:
        path: the WAV file.
        sample_rate_hz: rate wanted, above 0.

    Returns:
        float32 [N], full scale is [−1, 1]; N = ceil(samples · sample_rate_hz / rate of the file).

    Raises:
        DataError: the file is missing, no WAV, truncated or empty, or holds non-finite samples.
    """
    waveform, file_rate_hz = read_native(path)
    if file_rate_hz == sample_rate_hz:
        return waveform
    import soxr

    length = -(-len(waveform) * sample_rate_hz // file_rate_hz)
    resampled = np.asarray(soxr.resample(waveform, file_rate_hz, sample_rate_hz, quality="HQ"), np.float32)[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def read_native(path: Path) -> tuple[FloatArray, int]:
    """As `read_waveform`, at the file's rate: (float32 [N], rate in Hz)."""
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: the WAV file does not exist")
    _refuse_truncated(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.format not in _WAV_FORMATS:
                raise DataError(f"{path}: the format is {file.format}, not WAV; convert it")
            channels = file.read(dtype="float32", always_2d=True)
            rate_hz = int(file.samplerate)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: not a readable WAV file ({error.error_string.strip().rstrip('.')})") from None
    if channels.size == 0:
        raise DataError(f"{path}: the WAV file holds no samples")
    if not np.isfinite(channels).all():
        first = int(np.flatnonzero(~np.isfinite(channels).all(axis=1))[0])
        raise DataError(f"{path}: sample {first} is not finite; write the file again")
    return to_mono(channels), rate_hz


def _refuse_truncated(path: Path) -> None:
    """libsndfile reads a file that was cut short without an error; the RIFF header has the true size."""
    with open(path, "rb") as file:
        header = file.read(8)
    stated = int.from_bytes(header[4:], "little") + 8
    unknown = stated - 8 in (0, 0xFFFFFFFF)  # written by a program that could not seek back
    size = path.stat().st_size
    if header[:4] == b"RIFF" and not unknown and size + 1 < stated:  # one byte of padding is often left out
        raise DataError(f"{path}: the WAV file is truncated, {size} of {stated} bytes; copy it again")


def falling_amplitude(frequencies_hz: Array, exponent: float) -> Array:
    """Amplitude at each frequency of noise whose power is proportional to 1 / f^exponent, constant below 40 Hz."""
    amplitude: Array = np.maximum(frequencies_hz, _FLAT_BELOW_HZ) ** (-exponent / 2)
    return amplitude


def random_spectrum(amplitude: Array, rng: np.random.Generator) -> Spectrum:
    """Gaussian noise: complex [bins] for `numpy.fft.irfft`, of the given amplitude and random phase; no DC."""
    spectrum: Spectrum = rng.standard_normal((len(amplitude), 2)).view(np.complex128)[:, 0]
    spectrum *= amplitude
    spectrum[0] = 0
    return spectrum


def pink_noise(samples: int, rate_hz: int, rng: np.random.Generator) -> Array:
    """Gaussian noise whose power falls by 3 dB an octave above 40 Hz: [samples], of unit RMS before it is cut."""
    size = fast_length(max(samples, int(LEVEL_BLOCK_S * rate_hz)))
    noise = np.fft.irfft(random_spectrum(falling_amplitude(np.fft.rfftfreq(size, 1 / rate_hz), 1.0), rng), size)
    unit: Array = noise[:samples] / np.sqrt(np.mean(noise**2))
    return unit


def decaying_noise(seconds: float, rate_hz: int, rng: np.random.Generator) -> Array:
    """Gaussian noise [seconds · rate_hz] that falls evenly, in dB, to −60 dB at its end."""
    count = int(seconds * rate_hz)
    tail: Array = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    return tail


def block_powers(sound: Array, rate_hz: int) -> Array:
    """Mean square of every complete block of 50 ms."""
    block = int(LEVEL_BLOCK_S * rate_hz)
    powers: Array = np.mean(sound[: len(sound) // block * block].reshape(-1, block) ** 2, axis=1)
    return powers


def fast_length(minimum: int) -> int:
    """The least 2^a · 3^b · 5^c that is at least `minimum`: transforms of such lengths are quick."""
    lengths = (int(2**a * 3**b * 5**c) for a in range(18) for b in range(4) for c in range(3))
    return min(length for length in lengths if length >= minimum)

"""Sound as rooms shape it: coloured noise, decaying tails, levels. For the generator and for corruptions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]

LEVEL_BLOCK_S = 0.05
_FLAT_BELOW_HZ = 40.0


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

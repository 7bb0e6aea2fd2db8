"""The microphone's side of a recording: the action's sounds in a room with background noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..acoustics import (
    Spectrum,
    block_powers,
    decaying_noise,
    falling_amplitude,
    fast_length,
    random_spectrum,
)
from .difficulty import Difficulty
from .figure import Array
from .grains import GRAINS, Studio
from .subject import Subject
from .take import SoundEvent

_FOREIGN_KINDS = ("thump", "key", "voice", "rustle", "clink")
_PEAK = 0.9


def dry_sound(events: Sequence[SoundEvent], samples: int, studio: Studio) -> Array:
    """The sum of the events' sounds, without room or noise, [samples]."""
    out = np.zeros(samples)
    for event in events:
        first = int(event.start_s * studio.rate_hz)
        grain = event.strength * GRAINS[event.kind](event, studio)
        stop = min(first + len(grain), samples)
        out[first:stop] += grain[: max(stop - first, 0)]
    return out


def record(
    events: Sequence[SoundEvent],
    *,
    seconds: float,
    rate_hz: int,
    subject: Subject,
    rng: np.random.Generator,
    difficulty: Difficulty,
) -> npt.NDArray[np.float32]:
    """A recording of the events, float32 [seconds · rate_hz] in [−0.9, 0.9], mono."""
    samples = round(seconds * rate_hz)
    studio = Studio(rate_hz, subject, float(2 ** rng.normal(0, difficulty.timbre_spread)), rng)
    dry = dry_sound([] if rng.random() < difficulty.silent_rate else events, samples, studio)
    size = fast_length(samples + int(0.4 * rate_hz))
    noise = _noise_spectrum(size, rate_hz, rng)
    noise_level = np.sqrt(2 * np.sum(np.abs(noise) ** 2)) / size  # RMS, by Parseval
    wet = np.fft.rfft(dry, size) * _room_spectrum(size, rate_hz, rng)
    drowned = rng.random() < difficulty.drowned_rate
    snr_db = rng.uniform(*(difficulty.drowned_db if drowned else difficulty.snr_db))
    gain = noise_level * 10 ** (snr_db / 20) / max(_loudest(dry, rate_hz), 1e-9)
    if rng.random() < difficulty.distractor_rate:
        wet = wet + np.fft.rfft(_foreign_sound(samples, studio), size) * rng.uniform(0.2, 0.7) * noise_level / gain
    sound = np.fft.irfft(gain * wet + noise, size)[:samples]
    level = 10 ** (rng.uniform(-18, 0) / 20) * _PEAK
    scaled: npt.NDArray[np.float32] = (sound * (level / np.abs(sound).max())).astype(np.float32)
    return scaled


def _foreign_sound(samples: int, studio: Studio) -> Array:
    """A sound from elsewhere, of unit level, at a random time."""
    rng = studio.rng
    kind = _FOREIGN_KINDS[int(rng.integers(len(_FOREIGN_KINDS)))]
    start_s = rng.uniform(0, samples / studio.rate_hz - 0.2)
    sound = dry_sound([SoundEvent(kind, start_s, rng.uniform(0.1, 0.3))], samples, studio)
    return sound / max(_loudest(sound, studio.rate_hz), 1e-9)


def _loudest(sound: Array, rate_hz: int) -> float:
    """RMS of the loudest block."""
    return float(np.sqrt(block_powers(sound, rate_hz).max()))


def _noise_spectrum(size: int, rate_hz: int, rng: np.random.Generator) -> Spectrum:
    """Background: noise whose power falls with frequency by a random exponent, with a random band lifted, and hum."""
    frequencies = np.fft.rfftfreq(size, 1 / rate_hz)
    slope, center, lift = rng.uniform(0.0, 1.8), np.exp(rng.uniform(np.log(150), np.log(6000))), rng.uniform(0, 2)
    shape = falling_amplitude(frequencies, slope)
    octaves = np.log2(np.maximum(frequencies, 20.0) / center)
    shape *= 1 + lift * np.exp(-(octaves**2))
    shape /= np.sqrt(np.mean(shape**2))
    spectrum = random_spectrum(shape, rng)
    if rng.random() < 0.3:
        for harmonic in (1, 2, 3):
            spectrum[round(50.0 * harmonic * size / rate_hz)] += rng.uniform(50, 250) / harmonic
    return spectrum


def _room_spectrum(size: int, rate_hz: int, rng: np.random.Generator) -> Spectrum:
    """Light reverberation: the direct sound and a decaying noise tail of 0.15 to 0.4 s (to −60 dB)."""
    tail_s, level = rng.uniform(0.15, 0.4), rng.uniform(0.02, 0.25)
    tail = decaying_noise(tail_s, rate_hz, rng)
    response = level * tail / np.sqrt(np.sum(tail**2)) * 3
    response[0] += 1.0
    spectrum: Spectrum = np.fft.rfft(response, size)
    return spectrum

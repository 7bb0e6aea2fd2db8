"""The microphone's side of a recording: short sounds of band noise and damped sines, in a room with background noise.

A sound is a function of its kind in `GRAINS`: `grain(event, studio) → samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.spec import FloatArray

from ..sound import Array, Spectrum, block_powers, decaying_noise, falling_amplitude, fast_length, random_spectrum
from .take import Difficulty, Performer, SoundEvent

_FOREIGN_KINDS = ("thump", "key", "voice", "rustle", "clink")
_PEAK = 0.9

# First four formants of five vowels, in Hz (Peterson and Barney, 1952; the fourth is typical).
_FORMANTS_HZ = np.array(
    [
        [730.0, 1090.0, 2440.0, 3400.0],
        [530.0, 1840.0, 2480.0, 3500.0],
        [270.0, 2290.0, 3010.0, 3700.0],
        [570.0, 840.0, 2410.0, 3300.0],
        [300.0, 870.0, 2240.0, 3200.0],
    ]
)
_FORMANT_WIDTHS_HZ = np.array([70.0, 90.0, 130.0, 200.0])
_FORMANT_GAINS = np.array([1.0, 0.6, 0.35, 0.2])


@dataclass(frozen=True)
class Studio:
    """Properties that all sounds of a recording share.

    Attributes:
        rate_hz: sample rate.
        subject: whose voice and hands they are.
        timbre: scale of the frequencies of all sounds but the voice.
        rng: source of randomness.
    """

    rate_hz: int
    subject: Performer
    timbre: float
    rng: np.random.Generator

    def clock(self, seconds: float) -> Array:
        """Sample times [n] in seconds; at least one sample."""
        return np.arange(max(int(seconds * self.rate_hz), 1)) / self.rate_hz

    def band_noise(self, seconds: float, low_hz: float, high_hz: float) -> Array:
        """Gaussian noise between two frequencies with soft edges, of unit RMS."""
        count = len(self.clock(seconds))
        frequencies = np.fft.rfftfreq(count, 1 / self.rate_hz) + 1e-3
        low, high = low_hz * self.timbre, high_hz * self.timbre
        shape = 1 / ((1 + (low / frequencies) ** 4) * (1 + (frequencies / high) ** 4))
        spectrum = shape * (self.rng.standard_normal(len(shape)) + 1j * self.rng.standard_normal(len(shape)))
        noise = np.fft.irfft(spectrum, count)
        unit: Array = noise / (np.sqrt(np.mean(noise**2)) + 1e-12)
        return unit

    def ring(self, seconds: float, frequency_hz: float, decay_s: float) -> Array:
        """A damped sine."""
        time = self.clock(seconds)
        sine: Array = np.exp(-time / decay_s) * np.sin(2 * np.pi * frequency_hz * self.timbre * time)
        return sine


def _strike(time: Array, attack_s: float, decay_s: float) -> Array:
    envelope: Array = (1 - np.exp(-time / attack_s)) * np.exp(-time / decay_s)
    return envelope


def _stroke(time: Array) -> Array:
    """An arch over the grain."""
    envelope: Array = np.sin(np.pi * np.arange(len(time)) / len(time)) ** 1.5
    return envelope


def _clap(event: SoundEvent, studio: Studio) -> Array:
    center = studio.rng.uniform(1000, 1900)
    noise = studio.band_noise(event.duration_s, 0.6 * center, 1.9 * center)
    return noise * _strike(studio.clock(event.duration_s), 0.0004, 0.010)


def _pat(event: SoundEvent, studio: Studio) -> Array:
    noise = studio.band_noise(event.duration_s, 300, 1300)
    return noise * _strike(studio.clock(event.duration_s), 0.001, 0.014)


def _thump(event: SoundEvent, studio: Studio) -> Array:
    time = studio.clock(event.duration_s)
    body = studio.ring(event.duration_s, studio.rng.uniform(60, 110), 0.05)
    return 1.5 * body + 0.5 * studio.band_noise(event.duration_s, 120, 700) * _strike(time, 0.001, 0.025)


def _rub(event: SoundEvent, studio: Studio) -> Array:
    return studio.band_noise(event.duration_s, 1200, 4500) * _stroke(studio.clock(event.duration_s))


def _brush(event: SoundEvent, studio: Studio) -> Array:
    noise = studio.band_noise(event.duration_s, 2200, 6500) * _stroke(studio.clock(event.duration_s))
    return noise + 0.3 * studio.band_noise(event.duration_s, 500, 900) * _stroke(studio.clock(event.duration_s))


def _scratch(event: SoundEvent, studio: Studio) -> Array:
    return studio.band_noise(event.duration_s, 2600, 6500) * _stroke(studio.clock(event.duration_s))


def _key(event: SoundEvent, studio: Studio) -> Array:
    time = studio.clock(event.duration_s)
    click = studio.band_noise(event.duration_s, 1800, 5500) * _strike(time, 0.0002, 0.004)
    return click + 0.4 * studio.ring(event.duration_s, studio.rng.uniform(350, 550), 0.008)


def _page(event: SoundEvent, studio: Studio) -> Array:
    """A swish whose brightness rises, with crackle."""
    time = studio.clock(event.duration_s)
    swell = np.linspace(0, 1, len(time))
    swish = studio.band_noise(event.duration_s, 900, 2800) * (1 - swell)
    swish += studio.band_noise(event.duration_s, 2500, 7000) * swell
    crackle = 1 + 2.5 * (studio.rng.random(len(time)) < 40 / studio.rate_hz)
    return swish * _stroke(time) * np.convolve(crackle, np.ones(64) / 64, mode="same")


def _rustle(event: SoundEvent, studio: Studio) -> Array:
    time = studio.clock(event.duration_s)
    knots = studio.rng.random(max(int(event.duration_s * 14), 2))
    uneven = np.interp(np.linspace(0, 1, len(time)), np.linspace(0, 1, len(knots)), knots)
    return 1.2 * uneven * studio.band_noise(event.duration_s, 350, 2600) * _stroke(time)


def _creak(event: SoundEvent, studio: Studio) -> Array:
    """Stick and slip: a train of pulses of rising rate through two resonances."""
    time = studio.clock(event.duration_s)
    rate = np.linspace(studio.rng.uniform(25, 60), studio.rng.uniform(50, 120), len(time))
    cycles = np.cumsum(rate) / studio.rate_hz
    pulses = np.flatnonzero(np.diff(np.floor(cycles)) > 0)
    resonance = studio.ring(0.03, studio.rng.uniform(450, 800), 0.006)
    resonance += 0.6 * studio.ring(0.03, studio.rng.uniform(1300, 2100), 0.004)
    return _train(len(time), pulses, resonance, _stroke(time))


def _gulp(event: SoundEvent, studio: Studio) -> Array:
    """A bubble: a sine that glides up, and a soft click."""
    time = studio.clock(event.duration_s)
    start = studio.rng.uniform(220, 340)
    phase = 2 * np.pi * studio.timbre * start * (time + 2.5 * time**2 / event.duration_s / 2)
    bubble: Array = np.sin(phase) * _stroke(time)
    return bubble + 0.3 * studio.band_noise(event.duration_s, 400, 1200) * _strike(time, 0.001, 0.01)


def _clink(event: SoundEvent, studio: Studio) -> Array:
    first = studio.rng.uniform(2200, 3200)
    return studio.ring(event.duration_s, first, 0.04) + 0.5 * studio.ring(event.duration_s, 1.9 * first, 0.02)


def _voice(event: SoundEvent, studio: Studio) -> Array:
    """A syllable: glottal pulses, each of which rings the formants of a vowel that changes into another."""
    rng, subject = studio.rng, studio.subject
    time = studio.clock(event.duration_s)
    pitch = subject.pitch_hz * event.pitch * np.linspace(rng.uniform(0.92, 1.08), rng.uniform(0.82, 1.1), len(time))
    pitch = pitch * (1 + 0.02 * np.sin(2 * np.pi * 5.5 * time))
    pulses = np.flatnonzero(np.diff(np.floor(np.cumsum(pitch) / studio.rate_hz)) > 0)
    ring_time = studio.clock(0.02)[:, None]
    vowels = []
    for _ in range(2):
        formants = _FORMANTS_HZ[rng.integers(len(_FORMANTS_HZ))] * subject.vocal_tract
        damped = np.exp(-np.pi * _FORMANT_WIDTHS_HZ * ring_time) * np.sin(2 * np.pi * formants * ring_time)
        vowels.append(damped @ _FORMANT_GAINS)
    turn: Array = np.clip(np.linspace(-0.5, 1.5, len(time)), 0, 1)
    loudness: Array = np.clip(np.minimum(time / 0.03, (time[-1] - time) / 0.05), 0, 1)
    syllable = _train(len(time), pulses, vowels[0], loudness * (1 - turn))
    syllable += _train(len(time), pulses, vowels[1], loudness * turn)
    consonant = studio.band_noise(0.04, 2500, 6500) * _stroke(studio.clock(0.04))
    syllable[: len(consonant)] += rng.uniform(0, 0.35) * consonant[: len(syllable)]
    return syllable


def _train(count: int, pulses: npt.NDArray[np.intp], ring: Array, gains: Array) -> Array:
    """`ring` begun at every pulse with the gain of that moment."""
    out = np.zeros(count + len(ring))
    for pulse in pulses.tolist():
        out[pulse : pulse + len(ring)] += gains[pulse] * ring
    return out[:count]


GRAINS: dict[str, Callable[[SoundEvent, Studio], Array]] = {
    "brush": _brush,
    "clap": _clap,
    "clink": _clink,
    "creak": _creak,
    "gulp": _gulp,
    "key": _key,
    "page": _page,
    "pat": _pat,
    "rub": _rub,
    "rustle": _rustle,
    "scratch": _scratch,
    "thump": _thump,
    "voice": _voice,
}


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
    subject: Performer,
    rng: np.random.Generator,
    difficulty: Difficulty,
) -> FloatArray:
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
    scaled: FloatArray = (sound * (level / np.abs(sound).max())).astype(np.float32)
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

"""Recordings as worse sensors and rooms would give them: noise, reverberation, hidden joints, bad timing, failures.

For tests of robustness. Every function leaves its argument as it was and gives a recording whose arrays have the same
shapes and dtypes. What is random comes from the generator alone, and what equal generators draw at two severities is
related: the same noise at two levels; joints of which the milder corruption loses some, the stronger these and others.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError

from .acoustics import LEVEL_BLOCK_S, Array, block_powers, decaying_noise, fast_length, pink_noise
from .augment import hide_joints
from .recording import INPUTS, Input, Recording

ACTIVE_RANGE_DB = 10.0  # with more, the background of most recordings would count as sound
DIRECT_TO_REVERBERANT_DB = 0.0


def add_noise(recording: Recording, snr_db: float, rng: np.random.Generator) -> Recording:
    """Background noise at a given level below the sound.

    The noise is pink (power ∝ 1 / f above 40 Hz): indoor noise falls with frequency, the standard room noise of
    ITU-T P.800 (Hoth 1941) by about 5 dB an octave, pink by 3. The SNR is the mean power of the sound over that of
    the noise, both within the sound's active part (`active_part`), and exact there. Noise that the recording already
    has there counts as sound. Samples may exceed 1: nothing is clipped and the sound itself keeps its level.

    A recording of digital silence stays silent, since no level is so and so many dB below nothing.

    Args:
        recording: any.
        snr_db: finite.
        rng: draws the noise.

    Raises:
        UsageError: `snr_db` is not finite.
    """
    _require(math.isfinite(snr_db), "snr_db", snr_db, "a finite number")
    sound = recording.waveform.astype(np.float64)
    if not sound.any():
        return recording
    noise = pink_noise(len(sound), recording.sample_rate_hz, rng)
    active = active_part(sound, recording.sample_rate_hz)
    gain = 10 ** (-snr_db / 20) * _rms(sound[active]) / _rms(noise[active])
    return _with_sound(recording, sound + gain * noise)


def active_part(sound: Array, rate_hz: int) -> npt.NDArray[np.bool_]:
    """Where something is heard, [samples]: blocks of 50 ms whose power is within 10 dB of the loudest block's.

    The last block may be incomplete; silence fills it. A steady sound, or one that hardly rises above the recording's
    own noise, is active throughout.
    """
    block = int(LEVEL_BLOCK_S * rate_hz)
    powers = block_powers(np.pad(sound, (0, -len(sound) % block)), rate_hz)
    loud = powers >= powers.max() * 10 ** (-ACTIVE_RANGE_DB / 10)
    active: npt.NDArray[np.bool_] = np.repeat(loud, block)[: len(sound)]
    return active


def reverberate(recording: Recording, rt60_s: float, rng: np.random.Generator) -> Recording:
    """The sound in a room with a given reverberation time.

    The impulse response is the direct sound, at once, and behind it Gaussian noise that decays exponentially, by 60 dB
    within `rt60_s` (Polack's model of diffuse reverberation, 1988), where it ends. The direct sound has as much energy
    as all the rest, as at a room's critical distance, whatever the reverberation time: only the decay differs. What
    rings on behind the end of the recording is cut, and the whole has the RMS that it had. Silence stays silence.

    Args:
        recording: any; the room that it was recorded in stays in it.
        rt60_s: time of decay by 60 dB, above 0, in seconds.
        rng: draws the room.

    Raises:
        UsageError: `rt60_s` is not positive and finite.
    """
    _require(0 < rt60_s < math.inf, "rt60_s", rt60_s, "a number of seconds above 0")
    sound = recording.waveform.astype(np.float64)
    if not sound.any():
        return recording
    tail = decaying_noise(rt60_s, recording.sample_rate_hz, rng)
    tail *= 10 ** (-DIRECT_TO_REVERBERANT_DB / 20) / max(np.linalg.norm(tail), np.finfo(np.float64).tiny)
    response = np.concatenate([[1.0], tail])
    size = fast_length(len(sound) + len(response))
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
    return _with_sound(recording, wet * (_rms(sound) / _rms(wet)))


def drop_joints(
    recording: Recording, share: float, rng: np.random.Generator, *, span_frames: int | None = None
) -> Recording:
    """Joints that something hides: confidence 0 and position 0, as readers give a joint that the sensor lost.

    In each body `share` of the joints are lost, rounded up or down at random so that the mean is exact. Every joint
    may be, the pelvis and the shoulder centre too, and those that the sensor had lost itself count among them.

    Args:
        recording: any.
        share: of the joints, in [0, 1].
        rng: draws the joints.
        span_frames: others are drawn after every so many frames; None: the same are lost for the whole recording.

    Raises:
        UsageError: `share` is outside [0, 1] or `span_frames` below 1.
    """
    _require(0 <= share <= 1, "share", share, "a number from 0 to 1")
    _require(span_frames is None or span_frames >= 1, "span_frames", span_frames, "at least 1 frame")
    frames, bodies, joints = recording.confidence.shape
    span = np.zeros(frames, np.intp)
    if span_frames is not None:
        span = (np.arange(frames) + rng.integers(span_frames)) // span_frames
    rank = rng.permuted(np.tile(np.arange(joints), (frames + 1, bodies, 1)), axis=-1)[span]
    kept = rank + rng.random((frames + 1, bodies, 1))[span] >= share * joints
    position, confidence = hide_joints(recording.joints, recording.confidence, kept)
    return replace(recording, joints=position, confidence=confidence)


def shift_audio(recording: Recording, seconds: float) -> Recording:
    """Sound late (above 0) or early against the skeleton, rounded to whole samples.

    Zeros fill the gap; what leaves the recording at the other end is lost.

    Raises:
        UsageError: `seconds` is not finite.
    """
    _require(math.isfinite(seconds), "seconds", seconds, "a finite number")
    waveform = recording.waveform
    count = min(abs(round(seconds * recording.sample_rate_hz)), len(waveform))
    gap = np.zeros(count, waveform.dtype)
    kept = len(waveform) - count
    parts = [gap, waveform[:kept]] if seconds > 0 else [waveform[count:], gap]
    return replace(recording, waveform=np.concatenate(parts))


def without(recording: Recording, sensor: Input) -> Recording:
    """What arrives where a sensor fails: no body in any frame (the heatmaps are empty), or digital silence.

    Raises:
        UsageError: `sensor` is neither `skeleton` nor `audio`.
    """
    _require(sensor in INPUTS, "sensor", sensor, " or ".join(INPUTS))
    if sensor == "audio":
        return replace(recording, waveform=np.zeros_like(recording.waveform))
    joints, confidence = np.zeros_like(recording.joints), np.zeros_like(recording.confidence)
    return replace(recording, joints=joints, confidence=confidence)


def _with_sound(recording: Recording, sound: Array) -> Recording:
    return replace(recording, waveform=sound.astype(np.float32))


def _rms(sound: Array) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def _require(condition: bool, name: str, value: object, remedy: str) -> None:
    if not condition:
        raise UsageError(f"{name} is {value!r}; use {remedy}")

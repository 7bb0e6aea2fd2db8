"""Corruptions of recordings: noise, reverberation, hidden joints, misaligned sound, failed sensors.

For tests of robustness. Every function returns a new recording whose arrays have the same shapes and dtypes. Randomness
comes from the generator alone, and equal generators give related draws at two severities: the same noise at two
levels; the joints that the milder corruption loses, the stronger one loses too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .augment import hide_joints
from .recording import Input, Recording
from .sound import LEVEL_BLOCK_S, Array, block_powers, decaying_noise, fast_length, pink_noise

ACTIVE_RANGE_DB = 10.0  # with more, the background of most recordings would count as sound
DIRECT_TO_REVERBERANT_DB = 0.0


def add_noise(recording: Recording, snr_db: float, rng: np.random.Generator) -> Recording:
    """Background noise at a given level below the sound.

    The noise is pink (power ∝ 1 / f above 40 Hz): indoor noise falls with frequency, the standard room noise of
    ITU-T P.800 (Hoth 1941) by about 5 dB an octave, pink by 3. The SNR is the mean power of the sound over that of
    the noise, both within the sound's active part (`active_part`), and exact there. Noise that the recording already
    has there counts as sound. Samples may exceed 1: nothing is clipped and the sound itself keeps its level.

    A recording of digital silence stays silent: no level is `snr_db` below zero power.

    Args:
        recording: any.
        snr_db: finite.
        rng: draws the noise.
    """
    sound = recording.waveform.astype(np.float64)
    if not sound.any():
        return recording
    noise = pink_noise(len(sound), recording.sample_rate_hz, rng)
    active = active_part(sound, recording.sample_rate_hz)
    gain = 10 ** (-snr_db / 20) * _rms(sound[active]) / _rms(noise[active])
    return _with_sound(recording, sound + gain * noise)


def active_part(sound: Array, rate_hz: int) -> npt.NDArray[np.bool_]:
    """Mask of audible samples, [samples]: blocks of 50 ms whose power is within 10 dB of the loudest block's.

    The last block may be incomplete; silence fills it. A steady sound, or one that hardly rises above the recording's
    noise, is active throughout.
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
    as all the rest, as at a room's critical distance, for every reverberation time: only the decay differs. The tail
    after the end of the recording is cut, and the RMS stays the same. Silence stays silence.

    Args:
        recording: any; the reverberation that it has stays in it.
        rt60_s: time of decay by 60 dB, above 0, in seconds.
        rng: draws the room.
    """
    sound = recording.waveform.astype(np.float64)
    if not sound.any():
        return recording
    tail = decaying_noise(rt60_s, recording.sample_rate_hz, rng)
    tail *= 10 ** (-DIRECT_TO_REVERBERANT_DB / 20) / max(np.linalg.norm(tail), np.finfo(np.float64).tiny)
    response = np.concatenate([[1.0], tail])
    size = fast_length(len(sound) + len(response))
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
    return _with_sound(recording, wet * (_rms(sound) / _rms(wet)))


def drop_joints(recording: Recording, share: float, rng: np.random.Generator) -> Recording:
    """Joints hidden for the recording: confidence 0 and position 0, as the readers give a joint that the sensor lost.

    In each body `share` of the joints are lost, rounded up or down at random so that the mean is exact. Every joint
    may be, the pelvis and the shoulder centre too; joints that the sensor had lost already count among them.

    Args:
        recording: any.
        share: of the joints, in [0, 1].
        rng: draws the joints.
    """
    frames, bodies, joints = recording.confidence.shape
    # More is drawn than used: published results depend on how far a draw moves the generator.
    rank = rng.permuted(np.tile(np.arange(joints), (frames + 1, bodies, 1)), axis=-1)[0]
    kept = rank + rng.random((frames + 1, bodies, 1))[0] >= share * joints
    position, confidence = hide_joints(recording.joints, recording.confidence, kept)
    return replace(recording, joints=position, confidence=confidence)


def shift_audio(recording: Recording, seconds: float) -> Recording:
    """Sound late (above 0) or early against the skeleton, rounded to whole samples.

    Zeros fill the gap; samples shifted beyond the other end are lost.
    """
    waveform = recording.waveform
    count = min(abs(round(seconds * recording.sample_rate_hz)), len(waveform))
    gap = np.zeros(count, waveform.dtype)
    kept = len(waveform) - count
    parts = [gap, waveform[:kept]] if seconds > 0 else [waveform[count:], gap]
    return replace(recording, waveform=np.concatenate(parts))


def without(recording: Recording, sensor: Input) -> Recording:
    """The recording of a failed sensor: no body in any frame (the heatmaps are empty), or digital silence."""
    if sensor == "audio":
        return replace(recording, waveform=np.zeros_like(recording.waveform))
    joints, confidence = np.zeros_like(recording.joints), np.zeros_like(recording.confidence)
    return replace(recording, joints=joints, confidence=confidence)


def _with_sound(recording: Recording, sound: Array) -> Recording:
    return replace(recording, waveform=sound.astype(np.float32))


def _rms(sound: Array) -> float:
    return float(np.sqrt(np.mean(sound**2)))

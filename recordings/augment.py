"""Augmentation of skeletons, waveforms and spectrograms (paper, appendix B). For training only.

Every function takes the random generator that it draws from and does not change its inputs. The paper's constants
are the defaults; the sizes of SpecAugment's warp and masks and of the time shift are not in the paper
and follow Park et al. 2019, in proportion to the length of the clips here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError, require
from preprocess.layouts import SkeletonLayout
from preprocess.spec import FloatArray

_VOCODER_N_FFT = 2048  # librosa's default; smaller transforms are not faster (more frames) and sound worse


@dataclass(frozen=True)
class SkeletonAugmentation:
    """How skeletons are varied.

    Attributes:
        rotation_deg: the body turns about the vertical axis by an angle drawn from ± this, in degrees.
        flip_probability: probability that left and right are exchanged.
        frame_step: every n-th frame is kept, starting at a random one; 1 keeps all.
        joint_dropout: probability that a joint is missing for all of the recording.
        noise_m: standard deviation of the Gaussian noise on every coordinate, in metres.
    """

    rotation_deg: float = 15.0
    flip_probability: float = 0.5
    frame_step: int = 2
    joint_dropout: float = 0.1
    noise_m: float = 0.01

    def __post_init__(self) -> None:
        _check_ranges(self)


@dataclass(frozen=True)
class AudioAugmentation:
    """How sound is varied: pitch, tempo and onset on the waveform, SpecAugment on the log-Mel.

    Attributes:
        pitch_semitones: pitch moves by a number of semitones drawn from ± this.
        stretch: tempo is multiplied by a number drawn from 1 ± this.
        shift_s: the sound starts earlier or later by a time drawn from ± this, in seconds; zeros fill the gap.
        time_warp_frames: a random frame moves by a number of frames drawn from ± this; both sides follow linearly.
        frequency_masks, frequency_mask_bands: number of frequency masks and the width of the widest.
        time_masks, time_mask_frames: number of time masks and the width of the widest.
    """

    pitch_semitones: float = 2.0
    stretch: float = 0.1
    shift_s: float = 0.2
    time_warp_frames: int = 16
    frequency_masks: int = 2
    frequency_mask_bands: int = 16
    time_masks: int = 2
    time_mask_frames: int = 32

    def __post_init__(self) -> None:
        _check_ranges(self)


_RANGES = {
    "rotation_deg": (0, 180),
    "flip_probability": (0, 1),
    "frame_step": (1, math.inf),
    "joint_dropout": (0, 1),
    "pitch_semitones": (0, 12),
    "stretch": (0, 0.5),
}  # of all others: 0 or more


def _check_ranges(augmentation: SkeletonAugmentation | AudioAugmentation) -> None:
    for item in fields(augmentation):
        value = getattr(augmentation, item.name)
        low, high = _RANGES.get(item.name, (0, math.inf))
        bounds = f"at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
        require(low <= value <= high, f"augmentation {item.name}", value, f"use a number {bounds}")
        require(math.isfinite(value), f"augmentation {item.name}", value, "use a finite number")


def augment_skeleton(
    joints: FloatArray,
    confidence: FloatArray,
    layout: SkeletonLayout,
    augmentation: SkeletonAugmentation,
    rng: np.random.Generator,
    *,
    min_frames: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """A random variation of a skeleton sequence.

    In this order: frame skipping, rotation about the vertical axis, flip, noise, joint dropout. All bodies move
    together. The axis, and the plane of the flip, pass through the mean position of the pelvis.

    Args:
        joints: float32 [T, P, J, 3], metres, y up.
        confidence: float32 [T, P, J] in [0, 1].
        layout: names the pelvis and each joint's mirror image.
        augmentation: how much of what.
        rng: source of the draws.
        min_frames: frames are skipped only if at least this many remain.

    Returns:
        joints and confidence of the same dtypes; T shrinks when frames are skipped. Joints of confidence 0 are
        zero, as from the readers.
    """
    step = augmentation.frame_step
    offset = int(rng.integers(step))
    if len(joints) // step >= min_frames:
        joints, confidence = joints[offset::step], confidence[offset::step]
    angle = math.radians(rng.uniform(-augmentation.rotation_deg, augmentation.rotation_deg))
    pivot = _mean_pelvis(joints, confidence, layout)
    joints = pivot + (joints - pivot) @ _rotation_about_y(angle).T
    if rng.random() < augmentation.flip_probability:
        joints, confidence = _flip(joints, confidence, layout, pivot)
    joints = joints + rng.normal(scale=augmentation.noise_m, size=joints.shape).astype(np.float32)
    return hide_joints(joints, confidence, _kept_joints(confidence.shape[1:], layout, augmentation.joint_dropout, rng))


def hide_joints(
    joints: FloatArray, confidence: FloatArray, kept: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Joints and confidence of a skeleton that loses all joints but `kept` (any shape that broadcasts to [T, P, J]).

    Every joint of confidence 0 is zero, as from the readers.
    """
    confidence = confidence * kept
    return np.where(confidence[..., None] > 0, joints, np.float32(0)), confidence


def _mean_pelvis(joints: FloatArray, confidence: FloatArray, layout: SkeletonLayout) -> FloatArray:
    pelvis = joints[:, :, layout.pelvis][confidence[:, :, layout.pelvis] > 0]
    finite = pelvis[np.isfinite(pelvis).all(axis=-1)]
    pivot: FloatArray = finite.mean(axis=0) if len(finite) else np.zeros(3, np.float32)
    return pivot


def _rotation_about_y(angle_rad: float) -> FloatArray:
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], np.float32)


def _flip(
    joints: FloatArray, confidence: FloatArray, layout: SkeletonLayout, pivot: FloatArray
) -> tuple[FloatArray, FloatArray]:
    mirror = list(layout.mirror)
    flipped = joints[:, :, mirror]
    flipped[..., 0] = 2 * pivot[0] - flipped[..., 0]
    return flipped, confidence[:, :, mirror]


def _kept_joints(
    shape: tuple[int, ...], layout: SkeletonLayout, dropout: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """[P, J]; false for the joints to drop. The two that define origin and scale stay: without them the rest of the
    body would be drawn at the wrong place and size, or not at all, which is no longer a missing joint."""
    kept = rng.random(shape) >= dropout
    kept[:, [layout.pelvis, layout.shoulder_center]] = True
    return kept


def augment_waveform(
    waveform: FloatArray,
    sample_rate_hz: int,
    augmentation: AudioAugmentation,
    rng: np.random.Generator,
    *,
    needed_samples: int | None = None,
) -> FloatArray:
    """A random variation of pitch, tempo and onset.

    Pitch shift and time stretch share one pass of the phase vocoder: librosa's `pitch_shift` is itself a stretch by
    2^(−n/12) followed by resampling, so that factor joins the wanted tempo.

    Args:
        waveform: float32 [N], mono.
        sample_rate_hz: its rate.
        augmentation: how much of what.
        rng: source of the draws.
        needed_samples: when the caller uses only the first `needed_samples`, the rest is not computed.

    Returns:
        float32 [M]; M follows from N, the tempo and the shift, which leaves at least half of the sound.

    Raises:
        DataError: a sample is not finite.
    """
    semitones = rng.uniform(-augmentation.pitch_semitones, augmentation.pitch_semitones)
    tempo = 1 + rng.uniform(-augmentation.stretch, augmentation.stretch)
    shift = round(rng.uniform(-augmentation.shift_s, augmentation.shift_s) * sample_rate_hz)
    if needed_samples is not None:
        reach = math.ceil((needed_samples - min(shift, 0)) * tempo)
        waveform = waveform[: reach + _VOCODER_N_FFT]
    if not np.isfinite(waveform).all():
        raise DataError("the waveform has samples that are not finite; repair the file")
    if len(waveform) and (semitones != 0 or tempo != 1):
        waveform = _shift_pitch_and_tempo(waveform, sample_rate_hz, semitones, tempo)
    if shift < 0:
        return waveform[min(-shift, len(waveform) // 2) :].copy()
    return np.concatenate([np.zeros(shift, np.float32), waveform])


def _shift_pitch_and_tempo(waveform: FloatArray, sample_rate_hz: int, semitones: float, tempo: float) -> FloatArray:
    from librosa import resample

    padded = np.pad(waveform, (0, max(0, _VOCODER_N_FFT - len(waveform))))
    ratio = 2.0 ** (semitones / 12)
    stretched = time_stretch(padded, tempo / ratio)
    shifted = resample(stretched, orig_sr=sample_rate_hz * ratio, target_sr=sample_rate_hz)
    return np.asarray(shifted, np.float32)


def time_stretch(waveform: FloatArray, rate: float) -> FloatArray:
    """As `librosa.effects.time_stretch`, with a phase vocoder that does all frames at once: about twice as fast.

    Args:
        waveform: float32 [N], N at least 2048.
        rate: tempo, above 0; 2 is twice as fast.

    Returns:
        float32 [round(N / rate)].
    """
    from librosa import istft, stft

    spectrum = stft(waveform, n_fft=_VOCODER_N_FFT).T  # [frames, bins], the order in memory
    steps = np.arange(0, len(spectrum), rate)
    spectrum = np.pad(spectrum, ((0, 2), (0, 0)))
    magnitude = np.abs(spectrum)
    before = steps.astype(np.intp)
    weight = (steps - before).astype(np.float32)[:, None]
    mixed = magnitude[before] * (1 - weight) + magnitude[before + 1] * weight

    # A bin's phase advances by what it does from the frame before a step to the frame after. librosa adds up angles,
    # which reach 10⁵ rad and lose their fraction in float32; unit phasors multiplied are the same modulo 2π.
    silent = magnitude < np.finfo(np.float32).tiny  # no phase to speak of: angle 0
    phasor = spectrum / np.where(silent, np.float32(1), magnitude)
    phasor[silent] = 1
    advance = phasor[1:] * phasor[:-1].conj()
    phases = np.cumprod(np.concatenate([phasor[:1], advance[before[:-1]]]), axis=0)
    stretched: FloatArray = istft((mixed * phases).T, n_fft=_VOCODER_N_FFT, length=round(len(waveform) / rate))
    return stretched


def spec_augment(log_mel: FloatArray, augmentation: AudioAugmentation, rng: np.random.Generator) -> FloatArray:
    """SpecAugment (Park et al. 2019): time warp, then frequency and time masks filled with the clip's mean.

    Args:
        log_mel: float32 [bands, frames], dB, before Δ and Δ².
        augmentation: how much of what.
        rng: source of the draws.

    Returns:
        float32 [bands, frames], a new array.
    """
    result = _warp_time(log_mel, augmentation.time_warp_frames, rng)
    mean = log_mel.mean()
    bands, frames = log_mel.shape
    for _ in range(augmentation.frequency_masks):
        result[_random_span(bands, augmentation.frequency_mask_bands, rng)] = mean
    for _ in range(augmentation.time_masks):
        result[:, _random_span(frames, augmentation.time_mask_frames, rng)] = mean
    return result


def _random_span(size: int, max_width: int, rng: np.random.Generator) -> slice:
    width = int(rng.integers(0, min(max_width, size), endpoint=True))
    start = int(rng.integers(0, size - width, endpoint=True))
    return slice(start, start + width)


def _warp_time(log_mel: FloatArray, max_shift: int, rng: np.random.Generator) -> FloatArray:
    """Move one inner frame and stretch both sides to follow; ends stay. Linear between neighbouring frames."""
    frames = log_mel.shape[1]
    reach = min(max_shift, (frames - 3) // 2)
    if reach < 1:
        return log_mel.copy()
    last = frames - 1
    centre = int(rng.integers(reach + 1, last - reach))
    moved = centre + int(rng.integers(-reach, reach, endpoint=True))
    source = np.interp(np.arange(frames), [0, moved, last], [0, centre, last])
    before = np.minimum(source.astype(np.intp), last - 1)
    weight = (source - before).astype(np.float32)
    warped: FloatArray = log_mel[:, before] * (1 - weight) + log_mel[:, before + 1] * weight
    return warped

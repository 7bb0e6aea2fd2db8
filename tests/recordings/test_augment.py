"""Augmentation: what it keeps, what it changes and by how much."""

from __future__ import annotations

import math
from dataclasses import replace

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.errors import DataError
from preprocess.layouts import LAYOUTS, MSR20, NTU25
from recordings.augment import (
    AudioAugmentation,
    SkeletonAugmentation,
    augment_skeleton,
    augment_waveform,
    spec_augment,
    time_stretch,
)

STILL = SkeletonAugmentation(rotation_deg=0, flip_probability=0, frame_step=1, joint_dropout=0, noise_m=0)
ROTATION = SkeletonAugmentation(rotation_deg=15, flip_probability=0, frame_step=1, joint_dropout=0, noise_m=0)
FLIP = SkeletonAugmentation(rotation_deg=0, flip_probability=1, frame_step=1, joint_dropout=0, noise_m=0)
SILENT = AudioAugmentation(0, 0, 0, 0, 0, 0, 0, 0)
RATE_HZ = 32_000


class Highest(np.random.Generator):
    """Draws the upper bound whenever a uniform number is asked for."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low, high):
        return high


class Lowest(Highest):
    def uniform(self, low, high):
        return low


def skeleton(layout=NTU25, frames=12, bodies=2, seed=0):
    rng = np.random.default_rng(seed)
    joints = rng.normal((0.5, 0.2, 3), 0.4, (frames, bodies, layout.joint_count, 3)).astype(np.float32)
    return joints, np.ones(joints.shape[:3], np.float32)


def limb_lengths(joints, layout):
    ends = np.array(layout.limbs)
    return np.linalg.norm(joints[:, :, ends[:, 0]] - joints[:, :, ends[:, 1]], axis=-1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(LAYOUTS)))
def test_rotation_keeps_limb_lengths_heights_and_the_pelvis(seed, layout_name):
    layout = LAYOUTS[layout_name]
    joints, confidence = skeleton(layout, bodies=1, seed=seed)
    joints[:, :, layout.pelvis] = (0.3, 0.1, 2.5)
    rotated, kept = augment_skeleton(joints, confidence, layout, ROTATION, np.random.default_rng(seed))
    np.testing.assert_allclose(limb_lengths(rotated, layout), limb_lengths(joints, layout), atol=1e-5)
    np.testing.assert_allclose(rotated[..., 1], joints[..., 1], atol=1e-6)
    np.testing.assert_allclose(rotated[:, :, layout.pelvis], joints[:, :, layout.pelvis], atol=1e-6)
    np.testing.assert_array_equal(kept, confidence)


def test_rotation_angles_are_uniform_within_fifteen_degrees_and_half_are_flipped():
    joints = np.zeros((1, 1, 25, 3), np.float32)
    joints[0, 0, 5] = (1, 0, 0)
    confidence = np.ones((1, 1, 25), np.float32)
    augmentation = replace(ROTATION, flip_probability=0.5)
    mirrored = NTU25.mirror[5]
    rng = np.random.default_rng(0)
    angles, flips = [], 0
    for _ in range(2000):
        moved = augment_skeleton(joints, confidence, NTU25, augmentation, rng)[0][0, 0]
        flipped = bool(moved[mirrored].any())
        x, _, z = moved[mirrored] * (-1, 1, 1) if flipped else moved[5]
        angles.append(math.degrees(math.atan2(-z, x)))
        flips += flipped
    assert -15 <= min(angles) < -14.5
    assert 14.5 < max(angles) <= 15
    assert np.std(angles) == pytest.approx(30 / math.sqrt(12), rel=0.05)
    assert 930 < flips < 1070  # 3 standard deviations


@pytest.mark.parametrize("layout", [NTU25, MSR20], ids=lambda layout: layout.name)
def test_flip_mirrors_about_the_pelvis_and_exchanges_sides(layout):
    joints, confidence = skeleton(layout)
    confidence[:, :, 5] = 0.5
    flipped, flipped_confidence = augment_skeleton(joints, confidence, layout, FLIP, np.random.default_rng(0))
    pelvis_x = joints[:, :, layout.pelvis, 0].mean()
    for joint, mirrored in enumerate(layout.mirror):
        expected = joints[:, :, mirrored] * (-1, 1, 1) + (2 * pelvis_x, 0, 0)
        np.testing.assert_allclose(flipped[:, :, joint], expected, atol=1e-5)
        np.testing.assert_array_equal(flipped_confidence[:, :, joint], confidence[:, :, mirrored])


def test_every_second_frame_is_kept_from_a_random_one_and_all_of_a_short_recording():
    joints, confidence = skeleton(frames=11)
    augmentation = SkeletonAugmentation(0, 0, 2, 0, 0)
    starts = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kept, _ = augment_skeleton(joints, confidence, NTU25, augmentation, rng, min_frames=5)
        start = 0 if len(kept) == 6 else 1
        np.testing.assert_allclose(kept, joints[start::2], atol=1e-6)
        starts.add(start)
    assert starts == {0, 1}
    assert len(augment_skeleton(joints[:9], confidence[:9], NTU25, augmentation, rng, min_frames=5)[0]) == 9


def test_dropout_hides_joints_throughout_at_its_rate_but_not_those_of_origin_and_scale():
    joints, confidence = skeleton(frames=3)
    augmentation = SkeletonAugmentation(0, 0, 1, 0.1, 0)
    rng = np.random.default_rng(0)
    dropped = np.zeros(25)
    for _ in range(500):
        moved, kept = augment_skeleton(joints, confidence, NTU25, augmentation, rng)
        missing = kept == 0
        assert (missing.all(axis=0) == missing.any(axis=0)).all()
        assert not moved[missing].any()
        dropped += missing[0].sum(axis=0) / 1000
    landmarks = [NTU25.pelvis, NTU25.shoulder_center]
    assert not dropped[landmarks].any()
    others = np.delete(dropped, landmarks)
    assert others.mean() == pytest.approx(0.1, abs=0.006)  # 3 standard deviations of 23,000 draws
    assert others.min() > 0.05


def test_noise_has_its_deviation():
    joints, confidence = skeleton(frames=400)
    augmentation = SkeletonAugmentation(0, 0, 1, 0, 0.01)
    noise = augment_skeleton(joints, confidence, NTU25, augmentation, np.random.default_rng(0))[0] - joints
    assert (noise.mean(), noise.std()) == pytest.approx((0, 0.01), abs=1e-4)


def test_absent_joints_stay_zero_and_inputs_are_not_touched():
    joints, confidence = skeleton()
    confidence[3:, 1] = 0
    joints[3:, 1] = 0
    joints[0, 0, 7] = np.nan
    before = joints.copy(), confidence.copy()
    (varied, kept), (again, _) = (
        augment_skeleton(joints, confidence, NTU25, SkeletonAugmentation(), np.random.default_rng(0)) for _ in range(2)
    )
    np.testing.assert_array_equal(varied, again)
    np.testing.assert_array_equal(joints, before[0])
    np.testing.assert_array_equal(confidence, before[1])
    assert (varied.dtype, kept.dtype) == (np.float32, np.float32)
    assert not varied[kept == 0].any()
    assert np.isfinite(varied).sum() >= varied.size - 3


def test_no_augmentation_changes_nothing():
    joints, confidence = skeleton()
    same, same_confidence = augment_skeleton(joints, confidence, NTU25, STILL, np.random.default_rng(0))
    np.testing.assert_allclose(same, joints, atol=1e-6)
    np.testing.assert_array_equal(same_confidence, confidence)
    waveform = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    np.testing.assert_array_equal(augment_waveform(waveform, RATE_HZ, SILENT, np.random.default_rng(0)), waveform)
    log_mel = waveform.reshape(50, 100)
    np.testing.assert_array_equal(spec_augment(log_mel, SILENT, np.random.default_rng(0)), log_mel)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkeletonAugmentation(rotation_deg=-1), r"rotation_deg is -1; use a number in \[0, 180\]"),
        (lambda: SkeletonAugmentation(frame_step=0), "frame_step is 0; use a number at least 1"),
        (lambda: SkeletonAugmentation(noise_m=math.inf), "noise_m is inf; use a finite number"),
        (lambda: AudioAugmentation(stretch=0.9), r"stretch is 0.9; use a number in \[0, 0.5\]"),
    ],
)
def test_impossible_constants_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.13])
@pytest.mark.parametrize("samples", [2048, 40_000])
def test_time_stretch_equals_librosa(samples, rate):
    waveform = np.random.default_rng(0).normal(size=samples).astype(np.float32)
    waveform[samples // 2 :] = 0  # bins without energy
    expected = librosa.effects.time_stretch(waveform.astype(np.float64), rate=rate)
    stretched = time_stretch(waveform, rate)
    assert stretched.dtype == np.float32
    np.testing.assert_allclose(stretched, expected, atol=1e-4)  # peak 4; float32 with 80 products of phasors


@pytest.mark.parametrize(("rng", "semitones", "tempo"), [(Highest(), 2, 1.1), (Lowest(), -2, 0.9)])
def test_pitch_and_tempo_of_a_sine_are_those_of_librosas_two_calls(rng, semitones, tempo):
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    sine = np.sin(2 * np.pi * 1000 * time_s).astype(np.float32)
    varied = augment_waveform(sine, RATE_HZ, AudioAugmentation(shift_s=0), rng)
    expected = librosa.effects.time_stretch(
        librosa.effects.pitch_shift(sine, sr=RATE_HZ, n_steps=semitones), rate=tempo
    )
    assert len(varied) == pytest.approx(len(expected), abs=2)
    assert len(varied) / RATE_HZ == pytest.approx(2 / tempo, abs=1e-3)
    for sound in (varied, expected):
        assert _peak_hz(sound) == pytest.approx(1000 * 2 ** (semitones / 12), abs=2)
    middle = varied[len(varied) // 4 : 3 * len(varied) // 4]
    assert middle.std() == pytest.approx(1 / math.sqrt(2), rel=0.15)  # a vocoder loses some between bins


def _peak_hz(sound):
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return power.argmax() * RATE_HZ / len(sound)


@pytest.mark.parametrize(("rng", "start"), [(Highest(), 1500), (Lowest(), 500)], ids=["later", "earlier"])
def test_shift_moves_the_onset(rng, start):
    click = np.zeros(4000, np.float32)
    click[1000] = 1
    varied = augment_waveform(click, 1000, AudioAugmentation(pitch_semitones=0, stretch=0, shift_s=0.5), rng)
    assert np.flatnonzero(varied).tolist() == [start]


@pytest.mark.parametrize("rng", [Highest, Lowest])
def test_computing_only_the_needed_samples_does_not_change_them(rng):
    waveform = np.random.default_rng(0).normal(size=5 * RATE_HZ).astype(np.float32)
    needed = RATE_HZ
    whole = augment_waveform(waveform, RATE_HZ, AudioAugmentation(), rng())
    part = augment_waveform(waveform, RATE_HZ, AudioAugmentation(), rng(), needed_samples=needed)
    assert needed <= len(part) < 2 * needed
    np.testing.assert_allclose(part[:needed], whole[:needed], atol=1e-3)


@pytest.mark.parametrize("samples", [1, 100, 2047])
def test_very_short_sounds_survive_and_non_finite_ones_are_refused(samples):
    waveform = np.full(samples, 0.5, np.float32)
    for seed in range(5):
        varied = augment_waveform(waveform, RATE_HZ, AudioAugmentation(), np.random.default_rng(seed))
        assert len(varied) > 0
        assert np.isfinite(varied).all()
    waveform[-1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        augment_waveform(waveform, RATE_HZ, AudioAugmentation(), np.random.default_rng(0))


def test_masks_cover_no_more_than_asked_and_hold_the_mean():
    log_mel = np.random.default_rng(0).normal(-30, 10, (64, 96)).astype(np.float32)
    augmentation = AudioAugmentation(time_warp_frames=0)
    band_counts, frame_counts = [], []
    for seed in range(200):
        masked = spec_augment(log_mel, augmentation, np.random.default_rng(seed))
        filled = masked != log_mel
        np.testing.assert_array_equal(masked[filled], log_mel.mean())
        bands, frames = filled.all(axis=1), filled.all(axis=0)
        np.testing.assert_array_equal(filled, bands[:, None] | frames[None])
        band_counts.append(bands.sum())
        frame_counts.append(frames.sum())
    assert 16 < max(band_counts) <= 32
    assert 32 < max(frame_counts) <= 64
    assert np.mean(band_counts) == pytest.approx(16, rel=0.15)  # two masks of 8 on average, which may overlap


def test_time_warp_moves_a_frame_and_keeps_both_ends_and_the_order():
    frames = 100
    ramp = np.tile(np.arange(frames, dtype=np.float32), (3, 1))
    augmentation = AudioAugmentation(0, 0, 0, time_warp_frames=10, frequency_masks=0, time_masks=0)
    moves = []
    for seed in range(100):
        warped = spec_augment(ramp, augmentation, np.random.default_rng(seed))
        assert (warped == warped[0]).all()
        assert (warped[0, 0], warped[0, -1]) == (0, frames - 1)
        assert (np.diff(warped[0]) > 0).all()
        moves.append(np.abs(warped[0] - ramp[0]).max())
    assert max(moves) == pytest.approx(10, abs=0.01)
    assert min(moves) < 2
    for frames in (1, 2, 3, 4, 5, 9):
        small = np.ones((2, frames), np.float32)
        np.testing.assert_array_equal(spec_augment(small, AudioAugmentation(), np.random.default_rng(0)), small)

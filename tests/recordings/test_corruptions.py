"""Corruptions against independent measurements: SNR, spectrum, reverberation time, counts of joints, delays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from preprocess.heatmaps import skeleton_to_heatmaps
from preprocess.layouts import MSR20, NTU25
from preprocess.logmel import waveform_to_logmel
from preprocess.spec import PreprocessSpec
from recordings.catalogue import scan
from recordings.corruptions import (
    DIRECT_TO_REVERBERANT_DB,
    active_part,
    add_noise,
    drop_joints,
    reverberate,
    shift_audio,
    without,
)
from recordings.reading import read_recording
from recordings.recording import Recording

RATE_HZ = 16_000
BLOCK = RATE_HZ // 20
# Float32 samples: about 1e-7 of the loudest.
FLOAT32 = 1e-6
SNR_TOLERANCE_DB = 0.01
# A tail of Gaussian noise is one draw: the slope of its decay and the slope of its spectrum vary by a few per cent.
RT60_TOLERANCE = 0.06
SLOPE_TOLERANCE_DB = 0.4


def make(waveform=None, *, frames=20, bodies=2, layout=NTU25, rate_hz=RATE_HZ) -> Recording:
    """A recording with read-only arrays: a corruption that writes into its argument fails."""
    rng = np.random.default_rng(0)
    shape = (frames, bodies, layout.joint_count)
    waveform = np.zeros(100, np.float32) if waveform is None else np.asarray(waveform, np.float32)
    arrays = (rng.normal(size=(*shape, 3)).astype(np.float32), np.ones(shape, np.float32), waveform)
    for array in arrays:
        array.setflags(write=False)
    return Recording("a", *arrays, rate_hz, layout)


def tone(seconds: float, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)


def power(sound: np.ndarray) -> float:
    return float(np.mean(np.asarray(sound, np.float64) ** 2))


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_only_changed(recording: Recording, result: Recording, *changed: str) -> None:
    for name in ("joints", "confidence", "waveform"):
        before, after = getattr(recording, name), getattr(result, name)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        if name not in changed:
            np.testing.assert_array_equal(after, before)


CORRUPTIONS = {
    "noise": lambda recording, seed: add_noise(recording, 5, rng(seed)),
    "reverberation": lambda recording, seed: reverberate(recording, 0.4, rng(seed)),
    "joints": lambda recording, seed: drop_joints(recording, 0.5, rng(seed)),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_the_generator_decides(corrupt):
    recording = make(tone(1))
    first, same, other = corrupt(recording, 1), corrupt(recording, 1), corrupt(recording, 2)
    changed = ("waveform",) if np.array_equal(first.joints, recording.joints) else ("joints", "confidence")
    assert_only_changed(recording, first, *changed)
    for name in changed:
        np.testing.assert_array_equal(getattr(first, name), getattr(same, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


# Noise


@pytest.mark.parametrize("snr_db", [40, 20, 0, -10])
def test_snr_over_the_active_part_is_exact(snr_db):
    """A tone of one second between a second of nothing and one 14 dB below it, which is not active."""
    recording = make(np.concatenate([np.zeros(RATE_HZ), tone(1), tone(1, 0.1)]))
    noise = add_noise(recording, snr_db, rng()).waveform.astype(np.float64) - recording.waveform
    active = slice(RATE_HZ, 2 * RATE_HZ)
    measured = 10 * np.log10(power(recording.waveform[active]) / power(noise[active]))
    assert measured == pytest.approx(snr_db, abs=SNR_TOLERANCE_DB)
    assert power(noise[:RATE_HZ]) == pytest.approx(power(noise[active]), rel=0.5)  # the noise is in the pauses, too


@given(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.33, 1.0]), min_size=1, max_size=8), st.integers(0, BLOCK - 1))
def test_active_blocks_are_those_within_10_db_of_the_loudest(levels, rest):
    sound = np.repeat(levels, BLOCK)[: len(levels) * BLOCK - rest]
    expected = []
    for first in range(0, len(sound), BLOCK):
        block = sound[first : first + BLOCK]
        expected.append((sum((block**2).tolist()) / BLOCK, len(block)))
    loudest = max(mean_square for mean_square, _ in expected)
    mask = [mean_square >= 0.1 * loudest for mean_square, count in expected for _ in range(count)]
    np.testing.assert_array_equal(active_part(sound, RATE_HZ), mask)


def test_noise_falls_by_three_decibels_an_octave():
    recording = make(tone(30, 1e-3))
    noise = add_noise(recording, -60, rng()).waveform
    frequencies, density = signal.welch(noise, RATE_HZ, nperseg=8192)
    used = (frequencies > 60) & (frequencies < 7000)
    slope = np.polyfit(np.log2(frequencies[used]), 10 * np.log10(density[used]), 1)[0]
    assert slope == pytest.approx(-10 * np.log10(2), abs=SLOPE_TOLERANCE_DB)


def test_two_levels_from_equal_generators_are_the_same_noise():
    recording = make(tone(1))
    loud, soft = (add_noise(recording, snr, rng()).waveform.astype(np.float64) for snr in (0, 20))
    np.testing.assert_allclose(loud - recording.waveform, 10 * (soft - recording.waveform), atol=10 * FLOAT32)


@pytest.mark.parametrize("samples", [0, 1, 100, BLOCK + 1, 40_000])
def test_silence_stays_silent_and_short_sounds_have_a_level(samples):
    recording = make(np.zeros(samples))
    for result in (add_noise(recording, 0, rng()), reverberate(recording, 0.5, rng())):
        assert_only_changed(recording, result)
    if samples:
        waveform = np.append(np.zeros(samples - 1), 0.5)
        result = add_noise(make(waveform), 10, rng()).waveform
        assert np.isfinite(result).all()
        assert (result != waveform).any()


# Reverberation


def impulse_response(rt60_s: float, seconds: float) -> np.ndarray:
    """The response to an impulse, in units of its direct sound."""
    impulse = np.zeros(int(seconds * RATE_HZ))
    impulse[0] = 1
    response = reverberate(make(impulse), rt60_s, rng()).waveform.astype(np.float64)
    return response / response[0]


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.8, 1.6])
def test_reverberation_time_by_backward_integration_and_share_of_the_direct_sound(rt60_s):
    """Schroeder 1965; the time is that of a line through the decay from −5 to −35 dB (ISO 3382-1, T30)."""
    response = impulse_response(rt60_s, 2 * rt60_s)
    tail = response[1:]
    left_db = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1][: int(0.9 * rt60_s * RATE_HZ)] / np.sum(tail**2))
    used = (left_db < -5) & (left_db > -35)
    slope = np.polyfit(np.flatnonzero(used) / RATE_HZ, left_db[used], 1)[0]
    assert -60 / slope == pytest.approx(rt60_s, rel=RT60_TOLERANCE)
    assert np.abs(tail[int(rt60_s * RATE_HZ) :]).max() < FLOAT32
    assert np.argmax(np.abs(response)) == 0  # the direct sound comes first
    assert 10 * np.log10(1 / np.sum(tail**2)) == pytest.approx(DIRECT_TO_REVERBERANT_DB, abs=SNR_TOLERANCE_DB)


def test_reverberation_is_a_convolution_that_keeps_the_level():
    sound = rng(3).normal(0, 0.1, RATE_HZ).astype(np.float32)
    result = reverberate(make(sound), 0.3, rng()).waveform
    expected = signal.oaconvolve(sound.astype(np.float64), impulse_response(0.3, 1.0))[: len(sound)]
    expected *= np.sqrt(power(sound) / power(expected))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert power(result) == pytest.approx(power(sound), rel=1e-4)


# Joints


@given(st.floats(0, 1), st.integers(0, 2**32), st.sampled_from([NTU25, MSR20]))
def test_the_share_of_joints_is_lost_in_every_frame(share, seed, layout):
    recording = make(layout=layout)
    result = drop_joints(recording, share, rng(seed))
    assert_only_changed(recording, result, "joints", "confidence")
    lost = result.confidence == 0
    exact = share * layout.joint_count
    counts = lost.sum(axis=-1)
    assert ((counts >= np.floor(exact - 1e-9)) & (counts <= np.ceil(exact + 1e-9))).all()
    assert not result.joints[lost].any()
    np.testing.assert_array_equal(result.joints[~lost], recording.joints[~lost])
    np.testing.assert_array_equal(result.confidence[~lost], recording.confidence[~lost])
    assert (lost == lost[0]).all()


def test_the_mean_share_is_exact_and_every_joint_is_lost_alike():
    recording = make(frames=1, bodies=1)
    lost = np.stack([drop_joints(recording, 0.1, rng(seed)).confidence[0, 0] == 0 for seed in range(2000)])
    deviation = np.sqrt(0.25 / 25**2 / 2000)  # a count of 2 or 3 of 25, each in half of the draws
    assert lost.mean() == pytest.approx(0.1, abs=4 * deviation)
    assert lost.mean(axis=0) == pytest.approx(0.1, abs=4.5 * np.sqrt(0.09 / 2000))


def test_a_larger_share_loses_the_same_joints_and_others_and_lost_joints_stay_lost():
    confidence = np.ones((20, 2, 25), np.float32)
    confidence[:, 1, :5] = 0
    recording = replace(make(), confidence=confidence)
    shares = (0, 0.1, 0.25, 0.5, 0.75, 1)
    lost = [drop_joints(recording, share, rng()).confidence == 0 for share in shares]
    np.testing.assert_array_equal(lost[0], confidence == 0)
    for fewer, more in pairwise(lost):
        assert (more >= fewer).all()
        assert more.sum() > fewer.sum()


# Timing and failures


@pytest.mark.parametrize("seconds", [0.25, -0.25, 0.1, -1.0])
def test_the_delay_is_where_the_cross_correlation_peaks(seconds):
    recording = make(rng(2).normal(size=2 * RATE_HZ))
    result = shift_audio(recording, seconds)
    assert_only_changed(recording, result, "waveform")
    correlation = signal.correlate(result.waveform, recording.waveform, method="fft")
    assert np.argmax(correlation) - (len(recording.waveform) - 1) == seconds * RATE_HZ
    gap = result.waveform[: int(seconds * RATE_HZ)] if seconds > 0 else result.waveform[int(seconds * RATE_HZ) :]
    assert len(gap) == abs(seconds) * RATE_HZ
    assert not gap.any()


def test_sound_that_leaves_the_recording_is_lost_and_no_shift_changes_nothing():
    recording = make(np.ones(2 * RATE_HZ))
    silent = replace(recording, waveform=np.zeros_like(recording.waveform))
    for seconds in (5.0, -5.0, 2.0):
        assert_only_changed(silent, shift_audio(recording, seconds))
    assert_only_changed(recording, shift_audio(recording, 0.0))


def test_a_failed_sensor_gives_the_pipeline_silence_or_empty_heatmaps(recordings_folder):
    spec = PreprocessSpec.preset("nano")
    recording = read_recording(scan(recordings_folder).refs[0], sample_rate_hz=spec.audio.sample_rate_hz)
    clean = recording.tensors(spec)
    deaf, blind = (without(recording, sensor).tensors(spec) for sensor in ("audio", "skeleton"))
    silence = waveform_to_logmel(np.zeros(spec.audio.samples, np.float32), spec.audio)
    np.testing.assert_array_equal(deaf["audio"], silence[None])
    np.testing.assert_array_equal(deaf["skeleton"], clean["skeleton"])
    np.testing.assert_array_equal(blind["audio"], clean["audio"])
    assert not blind["skeleton"].any()
    assert clean["skeleton"].any()
    lost = without(recording, "skeleton")
    notes = skeleton_to_heatmaps(lost.joints, lost.confidence, spec.skeleton, layout=lost.layout).notes
    assert len(notes) == 1
    assert "the heatmaps are all zero" in notes[0]

"""The synthetic figure, its sensor and its sound: plausible, in time with each other, neither too easy nor leaking."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from preprocess.layouts import NTU25
from recordings.synthetic.body import ANKLES, FEET, FRAME_RATE_HZ, HANDS, Array, pose
from recordings.synthetic.motions import SYNTHETIC_ACTIONS, act
from recordings.synthetic.performance import Performance, perform, place_camera
from recordings.synthetic.sounds import Studio, dry_sound
from recordings.synthetic.take import Difficulty, SoundEvent, make_performer

DRINK, BRUSH, SIT, STAND, CLAP, READ, WRITE, CHEER = 1, 3, 8, 9, 10, 11, 12, 22
WAVE, KICK, HOP, JUMP, PHONE, TYPE, RUB, PALMS = 23, 24, 26, 27, 28, 30, 34, 39
LOOK_ALIKE = ((DRINK, BRUSH, PHONE), (CLAP, RUB, PALMS), (READ, WRITE, TYPE))
RATE_HZ = 32_000


def motion(action: int, seed: int, difficulty: Difficulty | None = None) -> tuple[Array, list[SoundEvent]]:
    """Joints [T, 25, 3] in the room, without a sensor, and the sound events."""
    subject = make_performer(seed, seed % 40 + 1)
    tracks, events = act(action, subject, np.random.default_rng([seed, action]), difficulty or Difficulty())
    return pose(subject.body, tracks), events


def performance(action: int, seed: int, difficulty: Difficulty) -> Performance:
    return perform(
        action,
        subject=make_performer(seed, 1),
        camera=place_camera(seed, setup=1, camera=1, replication=1),
        rng=np.random.default_rng(seed),
        difficulty=difficulty,
        sample_rate_hz=RATE_HZ,
    )


# The figure


@pytest.mark.parametrize("action", SYNTHETIC_ACTIONS)
def test_feet_stay_on_the_floor_except_in_the_actions_that_lift_them(action: int) -> None:
    for seed in range(5):
        joints, _ = motion(action, seed)
        feet = joints[:, [*FEET, *ANKLES], 1]
        if action not in (HOP, JUMP, KICK):
            assert np.ptp(joints[:, ANKLES], axis=0).max() < 1e-6
            assert 0.02 < joints[:, FEET, 1].min() <= joints[:, FEET, 1].max() < 0.05
            continue
        assert feet.min() > -0.03  # a toe that points down may touch the floor before the ankle has landed
        assert np.ptp(feet.max(axis=1)) > 0.05
        lowest = joints[:, ANKLES, 1].min(axis=1)
        on_floor = lowest < lowest.min() + 1e-3
        assert on_floor.mean() > 0.2
        assert on_floor.all() == (action == KICK)


@pytest.mark.parametrize("action", SYNTHETIC_ACTIONS)
def test_the_figure_is_human_and_every_performance_makes_a_sound(action: int) -> None:
    for seed in range(4):
        joints, events = motion(action, seed)
        for a, b in NTU25.limbs:
            lengths = np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)
            assert np.ptp(lengths) < 1e-9
            assert 0.03 < lengths[0] < 0.55
        assert (joints[:, 3, 1] > joints[:, 20, 1]).all()  # head above the shoulders
        assert (joints[:, 20, 1] > joints[:, 0, 1] + 0.2).all()  # shoulders above the pelvis
        assert np.abs(np.diff(joints, axis=0)).max() * FRAME_RATE_HZ < 12  # metres per second
        from_axis = joints[:, HANDS] - joints[:, None, 1]
        beside_spine = np.abs(from_axis[..., 1]) < 0.12
        assert (np.hypot(from_axis[..., 0], from_axis[..., 2])[beside_spine] > 0.08).all()  # outside the trunk
        assert events
        assert all(0 <= event.start_s < len(joints) / FRAME_RATE_HZ for event in events)


# Sound in time with motion


def interpolated_minima(distance: Array, below: float) -> Array:
    """Times in seconds of the local minima of a curve sampled at 30 Hz, by a parabola through three samples."""
    middle = np.flatnonzero((distance[1:-1] <= distance[:-2]) & (distance[1:-1] < distance[2:])) + 1
    middle = middle[distance[middle] < below]
    left, here, right = distance[middle - 1], distance[middle], distance[middle + 1]
    return (middle + 0.5 * (left - right) / (left - 2 * here + right)) / FRAME_RATE_HZ


def onsets(events: list[SoundEvent], seconds: float) -> Array:
    """Times at which the sound's envelope (2 ms) rises to its local maximum, from the samples alone."""
    studio = Studio(RATE_HZ, make_performer(0, 1), 1.0, np.random.default_rng(0))
    sound = dry_sound(events, int(seconds * RATE_HZ), studio)
    envelope = np.abs(sound[: len(sound) // 64 * 64]).reshape(-1, 64).max(axis=1)
    high = np.flatnonzero(envelope > 0.3 * envelope.max())
    first = high[np.diff(high, prepend=-100) > 25]  # 50 ms of quiet before
    return first * 64 / RATE_HZ


@pytest.mark.parametrize("seed", range(6))
def test_claps_sound_when_the_hands_meet(seed: int) -> None:
    joints, events = motion(CLAP, seed, Difficulty(look_alike_share=0))
    distance = np.linalg.norm(joints[:, HANDS[0]] - joints[:, HANDS[1]], axis=-1)
    sounds = onsets(events, len(joints) / FRAME_RATE_HZ)
    contacts = interpolated_minima(distance, below=0.06)
    assert len(sounds) >= 2
    inner = sounds[(sounds > 0.1) & (sounds < len(joints) / FRAME_RATE_HZ - 0.1)]
    assert np.abs(inner[:, None] - contacts).min(axis=1).max() < 0.035


@pytest.mark.parametrize("action", [HOP, JUMP])
def test_landings_sound_when_feet_touch_the_floor(action: int) -> None:
    for seed in range(4):
        joints, events = motion(action, seed)
        height = joints[:, ANKLES, 1].min(axis=1)
        in_air = height > height.min() + 2e-3
        touches = (np.flatnonzero(in_air[:-1] & ~in_air[1:]) + 1) / FRAME_RATE_HZ
        starts = np.array([event.start_s for event in events if event.kind == "thump"])
        assert len(starts) == len(touches) > 0
        np.testing.assert_allclose(starts, touches, atol=1.5 / FRAME_RATE_HZ)


# Neither too easy nor leaking


@cache
def five_frames(action: int, count: int) -> Array:
    """Features [count, 375] of performances: joints of 5 frames relative to the first pelvis, in torso lengths."""
    features = []
    for seed in range(count):
        joints, _ = motion(action, seed)
        if make_performer(seed, seed % 40 + 1).left_handed:
            joints = joints[:, NTU25.mirror] * [-1.0, 1.0, 1.0]
        torso = np.linalg.norm(joints[0, 0] - joints[0, 20])
        frames = ((np.arange(5) + 0.5) * len(joints) / 5).astype(int)
        features.append(((joints[frames] - joints[0, 0]) / torso).ravel())
    return np.array(features)


def nearest_neighbour_accuracy(groups: list[Array]) -> float:
    """Leave-one-out accuracy of the nearest neighbour over classes of features."""
    features = np.concatenate(groups)
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    squared = np.sum(features**2, axis=1)
    distance = squared[:, None] + squared - 2 * features @ features.T
    np.fill_diagonal(distance, np.inf)
    return float(np.mean(labels[distance.argmin(axis=1)] == labels))


def test_look_alike_groups_overlap_in_motion_and_differ_from_each_other() -> None:
    for group in LOOK_ALIKE:
        assert nearest_neighbour_accuracy([five_frames(action, 60) for action in group]) < 0.8
    merged = [np.concatenate([five_frames(action, 60) for action in group]) for group in LOOK_ALIKE]
    assert nearest_neighbour_accuracy(merged) > 0.85


def test_sound_alike_groups_use_the_same_sounds() -> None:
    for group in ((HOP, JUMP, KICK), (SIT, STAND), (CHEER, WAVE, PHONE)):
        kinds = [{event.kind for seed in range(6) for event in motion(action, seed)[1]} for action in group]
        assert all(other == kinds[0] for other in kinds)


def test_duration_does_not_depend_on_the_action() -> None:
    for seed in range(5):
        takes = [
            act(action, make_performer(seed, 1), np.random.default_rng(seed), Difficulty())
            for action in SYNTHETIC_ACTIONS
        ]
        assert len({len(tracks.pelvis) for tracks, _ in takes}) == 1


# The sensor


def test_without_faults_every_visible_joint_is_tracked() -> None:
    clean = Difficulty(jitter_m=0, lost_joint_rate=0, occlusion_rate=0, bystander_rate=0, gap_rate=0)
    result = performance(JUMP, 3, clean)
    assert result.present.all()
    assert set(np.unique(result.states)) <= {1, 2}
    lengths = np.linalg.norm(result.joints[..., 0, :] - result.joints[..., 1, :], axis=-1)
    assert np.ptp(lengths) < 1e-5


def test_lost_joints_come_at_the_given_rate() -> None:
    knobs = Difficulty(lost_joint_rate=0.05, occlusion_rate=0, bystander_rate=0)
    lost = [np.mean(performance(WRITE, seed, knobs).states == 0) for seed in range(40)]
    assert np.mean(lost) == pytest.approx(0.05 * 16 / 25, rel=0.2)


def test_hands_jitter_more_than_the_trunk() -> None:
    clean = Difficulty(jitter_m=0, lost_joint_rate=0, occlusion_rate=0, bystander_rate=0)
    noise = performance(WAVE, 1, replace(clean, jitter_m=0.01)).joints - performance(WAVE, 1, clean).joints
    deviation = noise.std(axis=(0, 1, 3))
    assert deviation[list(HANDS)].min() > 1.5 * deviation[[0, 1, 20]].max()
    assert 0.005 < deviation[[0, 1, 20]].mean() < 0.015


def test_a_bystander_is_a_second_body_that_moves_less() -> None:
    result = performance(CLAP, 2, Difficulty(bystander_rate=1))
    assert result.joints.shape[1] == 2
    motion_of = [result.joints[result.present[:, p], p].var(axis=0).sum() for p in range(2)]
    assert motion_of[0] > motion_of[1]


def test_silence_and_drowning_follow_their_knobs() -> None:
    loud = Difficulty(snr_db=(40, 40), drowned_rate=0, silent_rate=0, distractor_rate=0)
    levels = {}
    for name, knobs in (("loud", loud), ("silent", replace(loud, silent_rate=1))):
        sound = performance(CLAP, 4, knobs).waveform
        blocks = np.sqrt(np.mean(sound[: len(sound) // 800 * 800].reshape(-1, 800) ** 2, axis=1))
        levels[name] = blocks.max() / np.median(blocks)
    assert levels["loud"] > 10
    assert levels["silent"] < 3

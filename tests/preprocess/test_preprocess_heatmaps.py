"""Heatmaps against a slow reference that follows the equations, and the properties the definition promises."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.inputs import HEATMAP_TOLERANCE as TOLERANCE
from kit.inputs import body, scene
from kit.references import distance_to_segment, reference_heatmaps

from preprocess import MSR20, NTU25, DataError, HeatmapSpec, PreprocessSpec, SkeletonLayout, skeleton_to_heatmaps
from preprocess.heatmaps import limb_maps, normalize_skeleton, sample_frames, select_bodies

Array = npt.NDArray[Any]

SMALL = HeatmapSpec(size=32, sigma_px=1.3, sampled_frames=3)


def assert_equals_reference(joints: Array, confidence: Array, spec: HeatmapSpec, layout: SkeletonLayout) -> None:
    before = joints.copy(), confidence.copy()
    tensor = skeleton_to_heatmaps(joints, confidence, spec, layout=layout).tensor
    assert tensor.shape == spec.shape
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    np.testing.assert_array_equal(joints, before[0])
    np.testing.assert_array_equal(confidence, before[1])
    expected = reference_heatmaps(
        joints,
        confidence,
        size=spec.size,
        sigma=spec.sigma_px,
        limbs=layout.limbs,
        pelvis=layout.pelvis,
        shoulder_center=layout.shoulder_center,
        frames=spec.sampled_frames,
    )
    np.testing.assert_allclose(tensor, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("layout", [NTU25, MSR20], ids=lambda layout: layout.name)
@pytest.mark.parametrize("people", [1, 2, 3])
def test_equals_the_equations(layout: SkeletonLayout, people: int) -> None:
    bodies = [body(layout, 11, seed=people * 10 + p, at=(0.5 * p, 0.0, 3.0)) for p in range(people)]
    joints, confidence = scene(*bodies)
    confidence[:] = np.random.default_rng(people).choice([0, 0.1, 0.5, 1], confidence.shape, p=[0.1, 0.1, 0.3, 0.5])
    confidence[:, :, [layout.pelvis, layout.shoulder_center]] = 1
    assert_equals_reference(joints, confidence, SMALL, layout)


def test_equals_reference_where_points_and_limbs_leave_the_view() -> None:
    joints, confidence = scene(body(NTU25, 7, seed=1), body(NTU25, 7, seed=2, at=(1.4, 0.9, 4.3)))
    joints[:, 0, 7] += np.float32(40)
    joints[:, 0, 3, 1] -= np.float32(3000)
    assert_equals_reference(joints, confidence, SMALL, NTU25)


def test_equals_reference_with_missing_frames_and_invalid_joints() -> None:
    joints, confidence = scene(body(NTU25, 9, seed=3), body(NTU25, 9, seed=4, at=(0.4, 0.1, 2.8)))
    joints[4:, 1], confidence[4:, 1] = 0, 0
    joints[2, 0, 5, 1] = np.nan
    joints[4, 0, 9] = np.inf
    confidence[0, 0, NTU25.pelvis] = 0.1
    assert_equals_reference(joints, confidence, SMALL, NTU25)
    notes = skeleton_to_heatmaps(joints, confidence, SMALL).notes
    assert notes == ("2 of 450 joint positions are not finite (or beyond 1e+06 m); not drawn",)


@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 12), double=st.booleans())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_equals_reference_on_any_joints(seed: int, frames: int, double: bool) -> None:
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.6, (frames, 2, MSR20.joint_count, 3)).astype(np.float64 if double else np.float32)
    confidence = rng.random(joints.shape[:-1]).astype(np.float32)
    confidence[0] = np.maximum(confidence[0], np.float32(0.3))
    spec = HeatmapSpec(size=20, sigma_px=0.9, sampled_frames=2)
    assert_equals_reference(joints, confidence, spec, MSR20)


@pytest.mark.parametrize("preset", ["paper", "nano"])
def test_equals_reference_at_the_presets(preset: str) -> None:
    joints, confidence = scene(body(NTU25, 30, seed=5), body(NTU25, 30, seed=6, at=(0.9, 0.0, 3.5)))
    assert_equals_reference(joints, confidence, PreprocessSpec.preset(preset).skeleton, NTU25)


def one_view(*points: tuple[float, float]) -> Array:
    """Points as `limb_maps` takes them, for one frame, one view and one body."""
    return np.array(points, np.float64).reshape(1, 1, 1, -1, 2)


PAIR = SkeletonLayout("pair", joint_count=2, pelvis=0, shoulder_center=1, limbs=((0, 1),), mirror=(0, 1))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((10.0, 6.0), (10.0, 6.0)),
        ((10.0, 6.0), (10.0, 6.0 + 1e-9)),
        ((3.5, 20.0), (28.0, 20.0)),
        ((15.0, 2.0), (15.0, 30.0)),
        ((-500.0, -480.0), (520.0, 530.0)),
        ((16.0, 16.0), (3e8, -7e8)),
        ((-1e9, 16.0), (1e9, 16.0)),
        ((-2.0, -2.0), (-2.0, 40.0)),
    ],
    ids=["end-on", "almost end-on", "level", "upright", "across", "one end far", "both ends far", "just outside"],
)
def test_a_limb_is_the_gaussian_of_the_distance_to_its_segment(a: tuple[float, float], b: tuple[float, float]) -> None:
    image = limb_maps(one_view(a, b), np.ones((1, 1, 2), np.float32), SMALL, layout=PAIR)[0, 0]
    distance = distance_to_segment(32, a, b)
    np.testing.assert_allclose(image, np.exp(-(distance**2) / (2 * 1.3**2)), rtol=0, atol=TOLERANCE)


@given(shift=st.tuples(*[st.floats(-5, 5)] * 3), factor=st.floats(0.4, 3.0))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_place_and_size_of_the_person_do_not_matter(shift: tuple[float, float, float], factor: float) -> None:
    joints, confidence = scene(body(NTU25, 6, seed=8).astype(np.float64))
    expected = skeleton_to_heatmaps(joints, confidence, SMALL).tensor
    moved = skeleton_to_heatmaps(joints * factor + shift, confidence, SMALL).tensor
    np.testing.assert_allclose(moved, expected, rtol=0, atol=TOLERANCE)


def test_bodies_with_most_motion_stay_and_lead() -> None:
    still, slow, fast = (body(NTU25, 20, seed=9).astype(np.float64) for _ in range(3))
    still[:] = still[:1]
    fast += np.sin(np.arange(20))[:, None, None]
    joints, confidence = scene(still, slow, fast)
    np.testing.assert_array_equal(select_bodies(joints, confidence, SMALL), [2, 1])
    np.testing.assert_array_equal(select_bodies(joints, confidence, replace(SMALL, max_bodies=1)), [2])
    np.testing.assert_array_equal(select_bodies(joints, confidence, replace(SMALL, max_bodies=9)), [2, 1, 0])
    equal = scene(slow, slow, slow)  # the order of the recording
    np.testing.assert_array_equal(select_bodies(*equal, SMALL), [0, 1])


def test_absence_counts_neither_as_motion_nor_as_low_confidence() -> None:
    joints, confidence = scene(*[body(NTU25, 20, seed=11).astype(np.float64) for _ in range(2)], confidence=0.3)
    joints[:15, 0], confidence[:15, 0] = 0, 0
    np.testing.assert_array_equal(select_bodies(joints, confidence, SMALL), [1, 0])


def test_a_body_exactly_at_the_minimum_confidence_is_kept_and_one_below_dropped() -> None:
    joints, confidence = scene(*[body(NTU25, 7, seed=12).astype(np.float64)] * 2, confidence=0.2)
    confidence[:, 0] = np.nextafter(np.float32(0.2), np.float32(0))
    np.testing.assert_array_equal(select_bodies(joints, confidence, SMALL), [1])
    assert skeleton_to_heatmaps(joints, confidence.astype(np.float64), SMALL).tensor.any()


@pytest.mark.parametrize("people", [0, 1])
def test_no_body_gives_zeros_and_says_so(people: int) -> None:
    joints = np.zeros((6, people, 25, 3), np.float32)
    heatmaps = skeleton_to_heatmaps(joints, np.zeros(joints.shape[:-1], np.float32), SMALL)
    assert heatmaps.tensor.shape == SMALL.shape
    assert not heatmaps.tensor.any()
    assert heatmaps.notes == ("no body has a mean confidence of at least 0.2; the heatmaps are all zero",)


@pytest.mark.parametrize(
    ("shoulder_m", "seen", "note"),
    [
        (0.05, True, "the main body's torso length is 0.05 m; 0.5 m is used"),
        (0.0, True, "the main body's torso length is 0 m; 0.5 m is used"),
        (0.8, False, "the main body's torso length is never seen; 0.5 m is used"),
    ],
)
def test_a_torso_that_cannot_be_measured_counts_as_half_a_metre(shoulder_m: float, seen: bool, note: str) -> None:
    joints, confidence = scene(np.zeros((4, 25, 3)))
    joints[:, 0, NTU25.shoulder_center, 1] = shoulder_m
    joints[:, 0, 3, 0] = 1.0
    confidence[:, 0, NTU25.shoulder_center] = seen
    positions, notes = normalize_skeleton(joints, confidence, SMALL, layout=NTU25)
    assert notes == (note,)
    assert positions[0, 0, 3, 0] == pytest.approx(2.0)


def test_without_a_pelvis_the_mean_of_the_first_joints_seen_is_the_origin() -> None:
    joints, confidence = scene(body(NTU25, 4, seed=14).astype(np.float64))
    confidence[:, 0, NTU25.pelvis] = 0
    confidence[0] = 0
    positions, notes = normalize_skeleton(joints, confidence, SMALL, layout=NTU25)
    np.testing.assert_allclose(positions[1, 0, 1:].mean(0), 0, atol=1e-12)
    assert notes[0] == "the main body's pelvis is never seen; the mean of its first joints seen is the origin"


def test_an_absurd_coordinate_counts_as_not_finite() -> None:
    joints, confidence = scene(body(NTU25, 4, seed=15).astype(np.float64))
    joints[1, 0, 4, 2] = -1e300
    tensor, notes = skeleton_to_heatmaps(joints, confidence, SMALL)
    assert notes == ("1 of 100 joint positions are not finite (or beyond 1e+06 m); not drawn",)
    joints[1, 0, 4, 2] = np.nan
    np.testing.assert_array_equal(tensor, skeleton_to_heatmaps(joints, confidence, SMALL).tensor)


@given(total=st.integers(1, 400), frames=st.integers(2, 12))
def test_evaluation_takes_the_centre_of_every_segment(total: int, frames: int) -> None:
    expected = [math.floor((2 * i + 1) * total / (2 * frames)) for i in range(frames)]
    assert sample_frames(total, frames).tolist() == expected


@given(total=st.integers(1, 400), frames=st.integers(2, 12), seed=st.integers(0, 2**32 - 1))
def test_training_stays_inside_every_segment(total: int, frames: int, seed: int) -> None:
    drawn = sample_frames(total, frames, rng=np.random.default_rng(seed))
    for i, frame in enumerate(drawn.tolist()):
        assert i * total // frames <= frame < min(total, (i + 1) * total / frames)
    assert drawn.tolist() == sample_frames(total, frames, rng=np.random.default_rng(seed)).tolist()


def test_training_draws_uniformly() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([sample_frames(50, 5, rng=rng) for _ in range(4000)])
    assert [sorted(set(column)) for column in drawn.T.tolist()] == [list(range(10 * i, 10 * i + 10)) for i in range(5)]
    counts = np.bincount(drawn.ravel(), minlength=50)
    assert np.abs(counts - 400).max() < 5 * math.sqrt(400)  # 5 standard deviations

    class Highest(np.random.Generator):
        def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
            return np.full(size, np.nextafter(1.0, 0.0))

    assert sample_frames(7, 5, rng=Highest(np.random.PCG64(0))).max() == 6  # rounds up, but not out of the recording


def test_sampling_decides_the_frames_and_the_specification_the_layout() -> None:
    joints, confidence = scene(body(MSR20, 5, seed=17))
    by_spec = skeleton_to_heatmaps(joints, confidence, replace(SMALL, layout="msr20")).tensor
    np.testing.assert_array_equal(by_spec, skeleton_to_heatmaps(joints, confidence, SMALL, layout=MSR20).tensor)
    joints, confidence = scene(body(NTU25, 40, seed=16))
    evaluation = skeleton_to_heatmaps(joints, confidence, SMALL).tensor
    training = skeleton_to_heatmaps(joints, confidence, SMALL, rng=np.random.default_rng(1)).tensor
    again = skeleton_to_heatmaps(joints, confidence, SMALL, rng=np.random.default_rng(1)).tensor
    assert not np.array_equal(evaluation, training)
    np.testing.assert_array_equal(training, again)


GOOD_JOINTS, GOOD_CONFIDENCE = np.zeros((4, 1, 25, 3), np.float32), np.ones((4, 1, 25), np.float32)


@pytest.mark.parametrize(
    ("joints", "confidence", "message"),
    [
        (GOOD_JOINTS[0], GOOD_CONFIDENCE, r"joints has shape \(1, 25, 3\); give \[frames, bodies, joints, 3\]"),
        (GOOD_JOINTS, GOOD_CONFIDENCE[:3], r"confidence has shape \(3, 1, 25\); joints need one for each"),
        (GOOD_JOINTS[:, :, :20], GOOD_CONFIDENCE[:, :, :20], r"joints has 20 joints per body, layout ntu25 has 25"),
        (GOOD_JOINTS[:0], GOOD_CONFIDENCE[:0], r"no frame; leave the recording out"),
        (GOOD_JOINTS.astype(int), GOOD_CONFIDENCE, r"joints has dtype int64; give float32 or float64"),
        (GOOD_JOINTS, GOOD_CONFIDENCE * 2, r"confidence 2 lies outside \[0, 1\]; map"),
        (GOOD_JOINTS, GOOD_CONFIDENCE - 1.5, r"confidence -0.5 lies outside \[0, 1\]; map"),
        (GOOD_JOINTS, GOOD_CONFIDENCE * np.float32("nan"), r"confidence nan lies outside \[0, 1\]; map"),
    ],
)
def test_wrong_input_is_refused_with_value_and_remedy(joints: Array, confidence: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        skeleton_to_heatmaps(joints, confidence, SMALL)

"""The C++ heatmaps against the NumPy code and, beyond the range of NumPy's float32, against the slow reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.inputs import HEATMAP_TOLERANCE, body, scene
from kit.native import (
    BAD_DATA,
    BASELINE,
    INT8,
    KERNELS,
    NOTE_INVALID_JOINTS,
    NOTE_NO_BODY,
    NOTE_NO_PELVIS,
    NOTE_NO_TORSO,
    WRONG_USE,
    Har,
    library,
    manifest_json,
    spec_of,
)
from kit.references import distance_to_segment

from preprocess import MSR20, NTU25, HeatmapSpec, PreprocessSpec, SkeletonLayout, skeleton_to_heatmaps
from runtime.manifest import TensorInfo
from runtime.native import HarError
from runtime.runners import quantize

Array = npt.NDArray[Any]
SMALL = HeatmapSpec(size=36, sigma_px=1.3, sampled_frames=3)


def har(spec: HeatmapSpec, *options: str, int8: tuple[float, int] | None = None) -> Har:
    return Har(library(*options), manifest_json(spec_of(spec), int8={"skeleton": int8} if int8 else None))


def numpy_notes(notes: tuple[str, ...]) -> int:
    fragments = {
        NOTE_NO_BODY: "no body",
        NOTE_NO_PELVIS: "the main body's pelvis",
        NOTE_NO_TORSO: "the main body's torso",
        NOTE_INVALID_JOINTS: "joint positions are not finite",
    }
    return sum(bit for bit, fragment in fragments.items() if any(fragment in note for note in notes))


def assert_equals_numpy(native: Har, joints: Array, confidence: Array, spec: HeatmapSpec, layout: Any) -> None:
    expected = skeleton_to_heatmaps(joints, confidence, spec, layout=layout)
    result = native.heatmaps(joints, confidence, layout=layout.name)
    np.testing.assert_allclose(result, expected.tensor, rtol=0, atol=HEATMAP_TOLERANCE)
    assert result.min() >= 0
    assert result.max() <= 1
    assert native.notes == numpy_notes(expected.notes)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("layout", [NTU25, MSR20], ids=lambda layout: layout.name)
@pytest.mark.parametrize("preset", ["paper", "nano"])
def test_equals_numpy_at_the_presets(kernels: str, layout: SkeletonLayout, preset: str) -> None:
    spec = PreprocessSpec.preset(preset).skeleton
    native = har(spec, *KERNELS[kernels])
    for people in (1, 2, 3):
        joints, confidence = scene(*[body(layout, 17, seed=9 + p, at=(0.4 * p, 0.1, 3.0)) for p in range(people)])
        confidence[:] = np.random.default_rng(people).choice([0, 0.1, 0.5, 1], confidence.shape, p=[0.1, 0.1, 0.3, 0.5])
        assert_equals_numpy(native, joints, confidence, spec, layout)


def test_the_kernels_of_this_machine_are_chosen() -> None:
    assert library(BASELINE).kernels == "baseline"
    assert library().kernels in ("avx2", "baseline")


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Array, Array, HeatmapSpec, SkeletonLayout]:
    """Recordings with missing frames, absent bodies, and joints that are not finite or far away."""
    layout = draw(st.sampled_from([NTU25, MSR20]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames, bodies = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    shape = (frames, bodies, layout.joint_count)
    joints = rng.normal(0, draw(st.sampled_from([0.05, 0.5, 3.0])), (*shape, 3)).astype(np.float32)
    confidence = rng.choice(np.float32([0, 0.1, 0.2, 0.5, 1]), shape, p=draw(st.sampled_from([
        [0, 0, 0, 0, 1], [0.2, 0.1, 0.1, 0.3, 0.3], [0.9, 0.02, 0.02, 0.03, 0.03], [1, 0, 0, 0, 0],
    ])))  # fmt: skip
    if draw(st.booleans()):
        joints[rng.random(shape) < 0.05] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 2e6, 25.0]))
    if draw(st.booleans()):
        joints[:] = joints[:1]
    if draw(st.booleans()):
        absent = rng.random(shape[:2]) < 0.4
        confidence[absent] = joints[absent] = 0
    if draw(st.booleans()):
        confidence[..., layout.pelvis] = 0
    if draw(st.booleans()):
        joints[:, :, layout.shoulder_center] = joints[:, :, layout.pelvis] + np.float32(0.01)
    spec = HeatmapSpec(
        size=draw(st.sampled_from([8, 21, 32])),
        sigma_px=draw(st.sampled_from([0.3, 0.9, 2.0, 15.0])),
        sampled_frames=draw(st.integers(2, 6)),
        max_bodies=draw(st.integers(1, 3)),
        layout=layout.name,
    )
    return joints, confidence, spec, layout


@given(recordings())
@settings(max_examples=75)
def test_equals_numpy_on_anything(recording: tuple[Array, Array, HeatmapSpec, SkeletonLayout]) -> None:
    joints, confidence, spec, layout = recording
    for options in KERNELS.values():
        assert_equals_numpy(har(spec, *options), joints, confidence, spec, layout)


@pytest.mark.parametrize("zero_point", [-128, -3, 127])
@pytest.mark.parametrize("kernels", KERNELS)
def test_int8_equals_numpy_except_near_ties(kernels: str, zero_point: int) -> None:
    spec = PreprocessSpec.preset("paper").skeleton
    scale = 1 / 255 if zero_point == -128 else 0.013
    native = har(spec, *KERNELS[kernels], int8=(scale, zero_point))
    info = TensorInfo("skeleton", (), "int8", scale, zero_point)
    differing = count = 0
    for seed in range(4):
        joints, confidence = scene(body(NTU25, 20, seed=seed), body(NTU25, 20, seed=seed + 50, at=(0.8, 0.0, 3.2)))
        confidence[:, 1] = np.float32(0.77)
        tensor = skeleton_to_heatmaps(joints, confidence, spec).tensor
        expected = quantize(tensor, info)
        result = native.heatmaps(joints, confidence, type=INT8)
        differs = result != expected
        assert np.abs(result.astype(int) - expected)[differs].max(initial=0) <= 1
        steps = tensor[differs] / np.float32(scale)
        assert np.abs(np.abs(steps - np.trunc(steps)) - 0.5).max(initial=0) < HEATMAP_TOLERANCE / scale
        differing, count = differing + np.count_nonzero(differs), count + differs.size
        # and exactly the quantization of the library's float32
        np.testing.assert_array_equal(result, quantize(native.heatmaps(joints, confidence), info))
    assert differing / count < 1e-4


def test_a_limb_from_far_to_far_is_exact() -> None:
    """NumPy's float32 misses the tolerance here; the C++ code measures distances from the view."""
    spec = HeatmapSpec(size=32, sigma_px=1.3, sampled_frames=2, min_confidence=0.1)
    joints, confidence = np.zeros((2, 1, 25, 3), np.float32), np.zeros((2, 1, 25), np.float32)
    confidence[:, 0, [0, 20, 2, 3]] = 1
    joints[:, 0, 20] = (0, 1, 0)  # a torso of one metre is 6.2 px
    joints[:, 0, 2] = (-1e5, -7e4, 0)
    joints[:, 0, 3] = (1e5, 7e4 + 0.5, 0)

    def pixel(joint: int) -> tuple[float, float]:
        x, y = joints[0, 0, joint, :2].tolist()
        return (x / 2.5 + 1) / 2 * 31, (-y / 2.5 + 1) / 2 * 31

    distances = [distance_to_segment(32, pixel(a), pixel(b)) for a, b in ((3, 2), (2, 20))]
    expected = np.minimum(sum(np.exp(-(distance**2) / (2 * 1.3**2)) for distance in distances), 1)
    limbs_xy = 3
    result = har(spec).heatmaps(joints, confidence)[..., limbs_xy]
    np.testing.assert_allclose(result, expected, rtol=0, atol=HEATMAP_TOLERANCE)
    by_numpy = skeleton_to_heatmaps(joints, confidence, spec).tensor[..., limbs_xy]
    assert np.abs(by_numpy - expected).max() > HEATMAP_TOLERANCE


@pytest.mark.parametrize(
    ("shape", "layout", "confidence", "status", "message"),
    [
        ((0, 1, 25), None, 1.0, BAD_DATA, "the recording has no frame"),
        ((2, 1, 25), "kinect", 1.0, BAD_DATA, "layout is 'kinect'; use one of ntu25, msr20"),
        ((2, 1, 25), None, 1.5, BAD_DATA, "confidence 1.5 lies outside"),
        ((2, 1, 25), None, np.nan, BAD_DATA, "confidence nan lies outside"),
        ((1, 2000, 25), None, 1.0, WRONG_USE, "bodies is 2000; use 0 to 1024"),
    ],
)
def test_bad_recordings_are_refused(shape: Any, layout: Any, confidence: float, status: int, message: str) -> None:
    with pytest.raises(HarError, match=message) as error:
        har(SMALL).heatmaps(np.zeros((*shape, 3)), np.full(shape, confidence), layout=layout)
    assert error.value.status == status


def test_without_a_body_the_maps_are_background() -> None:
    native = har(SMALL, int8=(0.01, -100))
    nobody = np.zeros((3, 0, 25, 3)), np.zeros((3, 0, 25))
    assert not native.heatmaps(*nobody).any()
    assert native.notes == NOTE_NO_BODY
    assert (native.heatmaps(*nobody, type=INT8) == -100).all()
    with pytest.raises(HarError, match="the model's input is not int8"):
        har(SMALL).heatmaps(*nobody, type=INT8)

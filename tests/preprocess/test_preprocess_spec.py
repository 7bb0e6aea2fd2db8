"""The specification: JSON round trip, and refusal of every value that cannot work."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess import LAYOUTS, MSR20, NTU25, DataError, HeatmapSpec, LogMelSpec, PreprocessSpec, SkeletonLayout

positive = st.floats(1e-6, 1e6, allow_subnormal=False)

heatmap_specs = st.builds(
    HeatmapSpec,
    size=st.integers(8, 512),
    sampled_frames=st.integers(2, 32),
    sigma_px=positive,
    field_of_view_torso=positive,
    min_confidence=st.floats(1e-6, 1),
    max_bodies=st.integers(1, 6),
    default_torso_m=positive,
    min_torso_m=positive,
    layout=st.sampled_from(sorted(LAYOUTS)),
)


@st.composite
def logmel_specs(draw: st.DrawFn) -> LogMelSpec:
    rate = draw(st.integers(1000, 192_000))
    n_fft = 2 * draw(st.integers(1, 4096))
    low, high = sorted(draw(st.lists(st.floats(0, rate / 2), min_size=2, max_size=2, unique=True)))
    triple = st.tuples(*[st.floats(-1e3, 1e3)] * 3)
    return LogMelSpec(
        sample_rate_hz=rate,
        window_samples=draw(st.integers(1, n_fft)),
        n_fft=n_fft,
        hop_samples=draw(st.integers(1, 10_000)),
        n_mels=draw(st.integers(1, 256)),
        fmin_hz=low,
        fmax_hz=high,
        frames=draw(st.integers(9, 2000)),
        amin=draw(st.floats(1e-20, 1)),
        top_db=draw(positive),
        mean=draw(triple),
        std=draw(st.tuples(*[positive] * 3)),
    )


@given(skeleton=heatmap_specs, audio=logmel_specs())
def test_json_round_trip(skeleton: HeatmapSpec, audio: LogMelSpec) -> None:
    spec = PreprocessSpec(skeleton=skeleton, audio=audio)
    again = PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)


def test_presets_have_the_documented_shapes() -> None:
    paper, nano = PreprocessSpec.preset("paper"), PreprocessSpec.preset("nano")
    assert paper == PreprocessSpec()
    assert paper.skeleton.shape == (224, 224, 31)
    assert paper.audio.shape == (128, 384, 3)
    assert paper.audio.samples == 122_560
    assert nano.skeleton.shape == (96, 96, 31)
    assert nano.audio.shape == (64, 192, 3)
    assert nano.skeleton.sigma_px / nano.skeleton.size == pytest.approx(paper.skeleton.sigma_px / paper.skeleton.size)
    with pytest.raises(DataError, match="preset 'pico' does not exist; use one of paper, nano"):
        PreprocessSpec.preset("pico")


def test_only_the_last_digits_of_mean_and_std_may_differ() -> None:
    spec = PreprocessSpec(audio=LogMelSpec(mean=(-39.4, -0.23, -0.004), std=(24.7, 1.4, 0.7)))

    def other(**changes: Any) -> PreprocessSpec:
        return replace(spec, audio=replace(spec.audio, **changes))

    assert spec.is_close(spec)
    assert spec.is_close(other(mean=(-39.4 * (1 + 1e-9), -0.23, -0.004)))
    assert spec != other(mean=(-39.4 * (1 + 1e-9), -0.23, -0.004))
    assert not spec.is_close(other(mean=(-39.4, -0.23, -0.00401)))
    assert not spec.is_close(other(std=(24.7, 1.4001, 0.7)))
    assert not spec.is_close(other(fmax_hz=spec.audio.fmax_hz / 2))
    assert not spec.is_close(replace(spec, skeleton=HeatmapSpec(size=96)))


INVALID_SKELETON = [
    ("size", 7, "size is 7; use at least 8 pixels"),
    ("sampled_frames", 1, "sampled_frames is 1; the motion map needs at least 2"),
    ("sigma_px", 0.0, "sigma_px is 0.0; use a positive number of pixels"),
    ("field_of_view_torso", -1.0, "field_of_view_torso is -1.0; use a positive length"),
    ("min_confidence", 0.0, r"min_confidence is 0.0; use a number in \(0, 1\]"),
    ("min_confidence", 1.1, "min_confidence is 1.1"),
    ("max_bodies", 0, "max_bodies is 0; keep at least one body"),
    ("default_torso_m", 0.0, "default_torso_m is 0.0; use a positive length in metres"),
    ("min_torso_m", 0.0, "min_torso_m is 0.0; use a positive length in metres"),
    ("layout", "coco17", "layout is 'coco17'; use one of ntu25, msr20"),
    ("sigma_px", math.nan, "sigma_px is nan; every number of a specification must be finite"),
]

INVALID_AUDIO = [
    ("sample_rate_hz", 0, "sample_rate_hz is 0; use a positive rate"),
    ("window_samples", 0, "window_samples is 0; use 1 to n_fft = 1024 samples"),
    ("window_samples", 1025, "window_samples is 1025; use 1 to n_fft = 1024 samples"),
    ("n_fft", 1023, "n_fft is 1023; use an even length"),
    ("hop_samples", 0, "hop_samples is 0; use a positive number of samples"),
    ("n_mels", 0, "n_mels is 0; use at least one band"),
    ("fmin_hz", -1.0, r"fmin_hz, fmax_hz is \(-1.0, 16000.0\); use 0 <= fmin_hz < fmax_hz <= 16000"),
    ("fmax_hz", 16_001.0, r"fmin_hz, fmax_hz is \(0.0, 16001.0\); use"),
    ("frames", 8, "frames is 8; Δ needs at least 9 frames"),
    ("amin", 0.0, r"amin is 0.0; use a power in \(0, 1\]"),
    ("top_db", 0.0, "top_db is 0.0; use a positive range in dB"),
    ("mean", (0.0, 1.0), r"mean is \(0.0, 1.0\); give one number for each of log-Mel, Δ and Δ²"),
    ("std", (1.0,), r"std is \(1.0,\); give one number for each"),
    ("std", (1.0, 0.0, 1.0), r"std is \(1.0, 0.0, 1.0\); every deviation must be positive"),
    ("mean", (0.0, math.inf, 0.0), r"mean is \(0.0, inf, 0.0\); every number of a specification must be finite"),
]


INVALID = [
    (kind, *case) for kind, cases in ((HeatmapSpec, INVALID_SKELETON), (LogMelSpec, INVALID_AUDIO)) for case in cases
]


@pytest.mark.parametrize(("kind", "field", "value", "message"), INVALID)
def test_an_invalid_field_is_refused(kind: type, field: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kind(**{field: value})


def test_every_field_has_an_invalid_value_here() -> None:
    for kind in (HeatmapSpec, LogMelSpec):
        assert {case[1] for case in INVALID if case[0] is kind} == {field.name for field in fields(kind)}


def _put(part: str, field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data[part].update({field: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["skeleton"].pop("size"), "part 'skeleton' has missing or unknown fields: size"),
        (_put("audio", "htk", True), "specification part 'audio' has missing or unknown fields: htk"),
        (_put("skeleton", "size", "224"), "skeleton.size is '224'; it must be of type int"),
        (_put("skeleton", "size", 224.0), "skeleton.size is 224.0; it must be of type int"),
        (_put("skeleton", "size", True), "skeleton.size is True; it must be of type int"),
        (_put("skeleton", "sigma_px", None), "skeleton.sigma_px is None; it must be of type float"),
        (_put("audio", "std", [1, "1", 1]), "audio.std is '1'; it must be of type float"),
        (_put("audio", "std", 1.0), "audio.std is 1.0; it must be of type tuple"),
        (_put("audio", "top_db", math.nan), "top_db is nan; every number of a specification must be finite"),
        (lambda data: data.pop("audio"), "specification part 'audio' is missing or not a JSON object"),
        (lambda data: data.update(skeleton=3), "specification part 'skeleton' is missing or not a JSON object"),
        (lambda data: data.update(video={}), r"unknown parts \['video'\]; it holds skeleton and audio"),
        (lambda data: data.update(version=99), "specification version is 99; this release reads 1"),
        (lambda data: data.pop("version"), "specification version is None; this release reads 1"),
    ],
)
def test_json_that_does_not_fit_is_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    data = PreprocessSpec().to_dict()
    change(data)
    with pytest.raises(DataError, match=message):
        PreprocessSpec.from_dict(data)
    with pytest.raises(DataError, match="a specification must be a JSON object, not list"):
        PreprocessSpec.from_dict([])


def test_whole_numbers_are_read_as_floats() -> None:
    data = PreprocessSpec().to_dict()
    data["audio"].update(fmax_hz=16_000, mean=[1, 2, 3])
    audio = PreprocessSpec.from_dict(data).audio
    assert audio.mean == (1.0, 2.0, 3.0)
    assert isinstance(audio.fmax_hz, float)


@pytest.mark.parametrize("layout", [NTU25, MSR20], ids=lambda layout: layout.name)
def test_a_layout_is_one_connected_body_and_mirrors_onto_itself(layout: SkeletonLayout) -> None:
    assert len(layout.limbs) == layout.joint_count - 1
    reached = {layout.pelvis}
    for _ in layout.limbs:
        reached |= {joint for limb in layout.limbs if set(limb) & reached for joint in limb}
    assert reached == set(range(layout.joint_count))
    assert layout.shoulder_center in reached
    assert [layout.mirror[j] for j in layout.mirror] == list(range(layout.joint_count))
    bones = {frozenset(limb) for limb in layout.limbs}
    assert {frozenset(layout.mirror[j] for j in bone) for bone in bones} == bones

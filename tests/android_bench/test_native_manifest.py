"""Manifests that the C++ reader accepts, and its messages about all others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kit.native import BAD_DATA, Har, library, manifest_json, nano

from preprocess import PreprocessSpec
from runtime.native import HarError

Json = dict[str, Any]


def changed(change: Callable[[Json], Any]) -> str:
    data = json.loads(manifest_json(nano(), int8={"skeleton": (1 / 255, -128)}))
    change(data)
    return json.dumps(data)


LABELS = ["drink water", "sich kämmen 🪥"]


def test_sizes_and_labels_equal_the_manifest_s() -> None:
    har = Har(library(), changed(lambda d: None))
    sizes = har.sizes
    assert tuple(sizes.skeleton) == nano().skeleton.shape
    assert tuple(sizes.audio) == nano().audio.shape
    assert (sizes.skeleton_is_int8, sizes.audio_is_int8) == (1, 0)
    assert (sizes.joints, sizes.sample_rate_hz, sizes.audio_samples) == (25, 32_000, nano().audio.samples)
    assert har.labels == LABELS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(dict(reversed(json.loads(manifest_json(nano())).items())), ensure_ascii=True, indent=7),
        changed(lambda d: d.update(npu={"soc": "SM8650", "placement": {"npu_ops": 186, "full": True}})),
        changed(lambda d: d.update(size_bytes=-(2**63), verification={"n": 2**63 - 1, "x": -0, "y": -1.5e-300})),
    ],
    ids=["escapes, spaces and order", "compiled for an NPU", "extreme numbers"],
)
def test_equivalent_texts_are_read(text: str) -> None:
    assert Har(library(), text).labels == LABELS


def test_a_huge_text_is_refused_and_a_file_of_one_stream_has_one_input() -> None:
    with pytest.raises(HarError, match="manifest has 5000000 bytes; at most 4194304 are read"):
        Har(library(), b" " * 5_000_000)
    for name in ("skeleton", "audio"):
        assert tuple(Har(library(), manifest_json(PreprocessSpec(), inputs=(name,))).sizes.audio) == (128, 384, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "manifest version is missing or unknown; this release reads 1"),
        (lambda d: d.update(mood=1), "manifest has the unknown field 'mood'"),
        (lambda d: d.pop("golden"), "manifest field 'golden' is missing"),
        (lambda d: d.update(labels={}), "manifest field 'labels' is missing or not an array"),
        (lambda d: d["preprocess"].update(version=7), "specification version is missing or unknown"),
        (lambda d: d["preprocess"].update(video={}), "specification has the unknown part 'video'"),
        (lambda d: d["preprocess"].pop("audio"), "specification part 'audio' is missing"),
        (lambda d: d["preprocess"]["audio"].pop("amin"), "audio.amin is missing from the specification"),
        (lambda d: d["preprocess"]["audio"].update(gain=1), "specification part 'audio' has 13 fields, 12 of which"),
        (lambda d: d["preprocess"]["skeleton"].update(size=96.0), "skeleton.size is a real number; an integer belongs"),
        (lambda d: d["preprocess"]["skeleton"].update(size=True), "skeleton.size is a boolean; an integer belongs"),
        (lambda d: d["preprocess"]["skeleton"].update(size=4), "size is 4; use at least 8 pixels"),
        (lambda d: d["preprocess"]["skeleton"].update(size=10**12), "skeleton.size is 1000000000000; use at most 4096"),
        (lambda d: d["preprocess"]["skeleton"].update(layout="coco"), "layout is 'coco'; use one of ntu25, msr20"),
        (lambda d: d["preprocess"]["audio"].update(n_fft=1000), "n_fft is 1000; use a power of two, at least 8"),
        (lambda d: d["preprocess"]["audio"].update(mean=[0, 1]), "audio.mean must have one number for each"),
        (lambda d: d["preprocess"]["audio"].update(std=[1, 0, 1]), "std is 0; use a number in [1e-30, 1e30]"),
        (lambda d: d["preprocess"]["audio"].update(fmax_hz=16_001), "fmax_hz is 16001; use 0 <= fmin_hz < fmax_hz"),
        (lambda d: d["inputs"][0].update(scale=0), "manifest: tensor 'skeleton' has scale 0 and zero point -128"),
        (lambda d: d["inputs"][0].update(zero_point=200), "manifest: tensor 'skeleton' has scale 0.00392157 and zero"),
        (lambda d: d["inputs"][0].update(dtype="uint8"), "manifest: input 'skeleton' has dtype 'uint8'; use float32"),
        (lambda d: d["inputs"][1].update(shape=[1, 2, 3]), "manifest: input 'audio' differs from the spec"),
    ],
)  # fmt: skip
def test_bad_manifests_are_refused(change: Callable[[Json], Any], message: str) -> None:
    with pytest.raises(HarError) as error:
        Har(library(), changed(change))
    assert error.value.status == BAD_DATA
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "a value is missing at byte 0"),
        (b"[" * 100, "nested too deeply at byte 33"),
        (b'{"a": 1, "a": 2}', "a name appears twice at byte 12"),
        (b'{"a": 01}', "a number begins with 0 at byte 8"),
        (b'{"a": NaN}', "a value is missing at byte 6"),
        (b'{"a": 9223372036854775808}', "a number is too large at byte 25"),
        (b'{"a": 1,}', "a name in quotes is missing at byte 8"),
        (b'{"a": 1} x', "something follows the document at byte 9"),
        (b'{"a": tru}', "unknown word at byte 6"),
        (b'{"\xed\xa0\x80": 1}', "not UTF-8 at byte 2"),
        (b'{"\\ud800": 1}', "half a surrogate pair at byte 8"),
        (b'{"a\nb": 1}', "a control character stands in a string at byte 3"),
        (b'{"a": "b\\', "a string does not end at byte 9"),
        (b'{"a": "b\\x"}', "unknown escape at byte 10"),
        (b'{"a" 1}', "a colon is missing at byte 5"),
    ],
)
def test_invalid_json_is_refused_with_its_place(text: bytes, message: str) -> None:
    with pytest.raises(HarError) as error:
        Har(library(), text)
    assert str(error.value) == f"manifest is not JSON: {message}"

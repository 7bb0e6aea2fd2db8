"""Streams of the C++ library: always bit-identical to the batch functions on the window's content."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.native import (
    BAD_DATA,
    BASELINE,
    FLOAT32,
    INT8,
    QUANTIZED,
    WRONG_USE,
    Har,
    Stream,
    library,
    manifest_json,
    nano,
)

from preprocess import MSR20, NTU25, HeatmapSpec, LogMelSpec, PreprocessSpec
from runtime.native import HarError

Array = npt.NDArray[Any]
SMALL = PreprocessSpec(
    skeleton=HeatmapSpec(size=24, sampled_frames=3, sigma_px=1.0),
    audio=LogMelSpec(n_fft=64, window_samples=50, hop_samples=20, frames=12, n_mels=8),
)


def har(spec: PreprocessSpec, *options: str) -> Har:
    return Har(library(*options), manifest_json(spec, int8=QUANTIZED))


def assert_sound_equals_batch(native: Har, stream: Stream, sound: Array) -> None:
    """`sound`: everything pushed so far."""
    window = stream.window()
    hop = native.sizes.audio_samples // (native.sizes.audio[1] - 1)
    assert window.end_sample == len(sound) // hop * hop
    assert window.first_sample == max(0, window.end_sample - native.sizes.audio_samples)
    if window.end_sample == 0:
        with pytest.raises(HarError, match="the stream has no hop of sound yet"):
            stream.logmel()
        return
    content = sound[window.first_sample : window.end_sample]
    np.testing.assert_array_equal(stream.logmel(), native.logmel(content))
    np.testing.assert_array_equal(stream.logmel(type=INT8), native.logmel(content, type=INT8))


@given(
    seed=st.integers(0, 2**32 - 1),
    hop=st.integers(1, 90),
    window=st.integers(1, 64),
    frames=st.integers(9, 20),
    largest=st.sampled_from([1, 5, 300, 3000]),
)
@settings(max_examples=50)
def test_sound_equals_batch_after_every_piece(seed: int, hop: int, window: int, frames: int, largest: int) -> None:
    audio = LogMelSpec(n_fft=64, window_samples=window, hop_samples=hop, frames=frames, n_mels=6)
    native = har(PreprocessSpec(skeleton=SMALL.skeleton, audio=audio))
    stream = native.stream(5, 1)
    rng = np.random.default_rng(seed)
    sound = np.zeros(0, np.float32)
    for _ in range(12):
        piece = rng.normal(0, rng.choice([0.0, 0.01, 1.0]), rng.integers(0, largest + 1)).astype(np.float32)
        stream.push_audio(piece)
        sound = np.concatenate([sound, piece])
        assert_sound_equals_batch(native, stream, sound)


@pytest.mark.parametrize("options", [(), (BASELINE,)], ids=["best", "baseline"])
@pytest.mark.parametrize("spec", [PreprocessSpec(), nano()], ids=["paper", "nano"])
def test_sound_equals_batch_at_the_presets(spec: PreprocessSpec, options: tuple[str, ...]) -> None:
    native = har(spec, *options)
    stream = native.stream(5, 1)
    rng = np.random.default_rng(0)
    sound = (rng.normal(0, 0.1, 300_000) * np.linspace(0, 1, 300_000)).astype(np.float32)
    at = 0
    for piece in (1000, 63, 120_000, 1439, 1, 60_000, 1067, 1067, 100_000):
        stream.push_audio(sound[at : at + piece])
        at += piece
        assert_sound_equals_batch(native, stream, sound[:at])


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 12), bodies=st.integers(1, 3), msr=st.booleans())
@settings(max_examples=50)
def test_skeleton_equals_batch_after_every_frame(seed: int, length: int, bodies: int, msr: bool) -> None:
    layout = MSR20 if msr else NTU25
    native = har(SMALL)
    stream = native.stream(length, bodies, layout=layout.name)
    rng = np.random.default_rng(seed)
    pushed: list[tuple[int, Array, Array]] = []
    index = -1
    for _ in range(20):
        index += int(rng.choice([1, 1, 1, 2, 7]))
        present = int(rng.integers(0, bodies + 1))
        joints, confidence = np.zeros((bodies, layout.joint_count, 3)), np.zeros((bodies, layout.joint_count))
        joints[:present] = rng.normal(0, 0.5, (present, layout.joint_count, 3))
        confidence[:present] = rng.choice([0, 0.1, 0.5, 1], (present, layout.joint_count))
        joints[rng.random(confidence.shape) < 0.01] = np.nan
        joints[present:] = 0
        stream.push_frame(index, joints[:present], confidence[:present])
        pushed.append((index, joints, confidence))
        content = [frame for frame in pushed if frame[0] > index - length]
        window = stream.window()
        assert (window.frames, window.first_index, window.last_index) == (len(content), content[0][0], index)
        batch = [np.stack(part) for part in list(zip(*content, strict=True))[1:]]
        for kind in (FLOAT32, INT8):
            np.testing.assert_array_equal(
                stream.heatmaps(type=kind), native.heatmaps(*batch, layout=layout.name, type=kind)
            )
            assert stream.notes == native.notes


def test_a_reset_stream_behaves_like_a_new_one() -> None:
    native = har(SMALL)
    stream, rng = native.stream(4, 1), np.random.default_rng(1)
    stream.push_audio(rng.normal(0, 1, 777))
    stream.push_frame(5, rng.normal(0, 1, (1, 25, 3)), np.ones((1, 25)))
    stream.reset()
    assert [*vars(stream.window()).values()] == [0, -1, -1, 0, 0]
    with pytest.raises(HarError, match="the stream has no frame yet; push one") as error:
        stream.heatmaps()
    assert error.value.status == BAD_DATA
    sound = rng.normal(0, 1, 333).astype(np.float32)
    stream.push_audio(sound)
    assert_sound_equals_batch(native, stream, sound)
    stream.push_frame(0, np.zeros((1, 25, 3)), np.ones((1, 25)))


def test_a_refused_push_changes_nothing() -> None:
    native = har(SMALL)
    stream, rng = native.stream(3, 2), np.random.default_rng(2)
    joints, confidence = rng.normal(0, 0.5, (2, 25, 3)), np.ones((2, 25))
    for index in range(3):
        stream.push_frame(index, joints, confidence)
    sound = rng.normal(0, 1, 500).astype(np.float32)
    stream.push_audio(sound)
    before = stream.heatmaps(), stream.logmel()

    bad = confidence.copy()
    bad[1, 3] = 1.01
    three = np.zeros((3, 25, 3)), np.ones((3, 25))
    refusals = [
        (lambda: stream.push_frame(2, joints, confidence), WRONG_USE, "index is 2; it must be above the last one, 2"),
        (lambda: stream.push_frame(9, joints, bad), BAD_DATA, "confidence 1.01 lies outside"),
        (lambda: stream.push_frame(9, *three), WRONG_USE, "bodies is 3; the stream was"),
        (lambda: stream.push_audio(np.array([0.0, np.nan])), BAD_DATA, "waveform sample 1 is nan"),
        (lambda: stream.push_audio(sound, rate=8000), BAD_DATA, "sample rate is 8000 Hz; resample to 32000 Hz"),
    ]
    for call, status, message in refusals:
        with pytest.raises(HarError, match=message) as error:
            call()
        assert error.value.status == status
    np.testing.assert_array_equal(stream.heatmaps(), before[0])
    np.testing.assert_array_equal(stream.logmel(), before[1])


@pytest.mark.parametrize(
    ("arguments", "layout", "message"),
    [
        ((0, 1), None, "window_frames is 0; use at least 1"),
        ((10, 0), None, "bodies is 0; use 1 to 16"),
        ((10, 17), None, "bodies is 17; use 1 to 16"),
        ((2**31 - 1, 16), None, "window_frames is 2147483647; use fewer"),
        ((10, 1), "coco", "layout is 'coco'; use one of ntu25, msr20"),
    ],
)
def test_impossible_streams_are_refused(arguments: tuple[int, int], layout: str | None, message: str) -> None:
    with pytest.raises(HarError, match=message):
        har(SMALL).stream(*arguments, layout=layout)


def test_overflow_is_reported_while_it_is_in_the_window() -> None:
    native = har(SMALL)
    stream = native.stream(3, 1)
    stream.push_audio(np.full(100, 1e25))
    with pytest.raises(HarError, match="so loud that its power overflows"):
        stream.logmel()
    quiet = np.random.default_rng(3).normal(0, 0.1, 400).astype(np.float32)
    stream.push_audio(quiet)
    assert np.isfinite(stream.logmel()).all()

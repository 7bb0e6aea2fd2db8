"""The C++ log-Mel tensor against the NumPy code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.inputs import PARITY_DB, SIGNALS
from kit.native import BAD_DATA, INT8, KERNELS, Har, library, manifest_json, spec_of

from preprocess import LogMelSpec, PreprocessSpec, waveform_to_logmel
from runtime.manifest import TensorInfo
from runtime.native import HarError
from runtime.runners import quantize

Array = npt.NDArray[Any]
STANDARDISED = {"mean": (-40.0, 0.1, -0.01), "std": (25.0, 1.4, 0.7)}


def har(spec: LogMelSpec, *options: str, int8: tuple[float, int] | None = None) -> Har:
    return Har(library(*options), manifest_json(spec_of(audio=spec), int8={"audio": int8} if int8 else None))


def assert_equals_numpy(native: Har, waveform: Array, spec: LogMelSpec) -> None:
    expected = waveform_to_logmel(np.asarray(waveform, np.float32), spec)
    difference = np.abs(native.logmel(waveform) - expected) * np.array(spec.std)
    assert difference.max() <= PARITY_DB


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("preset", ["paper", "nano"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_equals_numpy_on_every_kind_of_sound(kernels: str, preset: str, signal: str) -> None:
    spec = replace(PreprocessSpec.preset(preset).audio, **STANDARDISED)
    assert_equals_numpy(har(spec, *KERNELS[kernels]), SIGNALS[signal](spec.samples), spec)


@st.composite
def sounds(draw: st.DrawFn) -> tuple[Array, LogMelSpec]:
    n_fft = draw(st.sampled_from([8, 16, 32, 64, 256, 512, 2048]))
    rate = draw(st.sampled_from([8000, 16000, 44100]))
    spec = LogMelSpec(
        sample_rate_hz=rate,
        window_samples=draw(st.integers(1, n_fft)),
        n_fft=n_fft,
        hop_samples=draw(st.integers(1, 100)),
        n_mels=draw(st.integers(1, 40)),
        fmin_hz=draw(st.sampled_from([0.0, 50.0, 999.0])),
        fmax_hz=draw(st.sampled_from([1000.0, 3999.0, rate / 2])),
        frames=draw(st.integers(9, 40)),
        amin=draw(st.sampled_from([1e-10, 1e-5, 1.0])),
        top_db=draw(st.sampled_from([80.0, 5.0, 300.0])),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    waveform = rng.normal(0, draw(st.sampled_from([0, 1e-6, 0.1, 3.0])), draw(st.integers(1, spec.samples + 50)))
    if draw(st.booleans()):
        waveform = np.clip(waveform, -0.1, 0.1)
    if draw(st.booleans()):
        waveform[: len(waveform) // 2] = 0
    return waveform.astype(np.float32), spec


@given(sounds())
@settings(max_examples=75)
def test_equals_numpy_at_any_specification(sound: tuple[Array, LogMelSpec]) -> None:
    for options in KERNELS.values():
        assert_equals_numpy(har(sound[1], *options), *sound)


@pytest.mark.parametrize("kernels", KERNELS)
def test_int8_equals_numpy_except_near_ties(kernels: str) -> None:
    spec = replace(PreprocessSpec.preset("nano").audio, **STANDARDISED)
    info = TensorInfo("audio", (), "int8", 0.031, 7)
    native = har(spec, *KERNELS[kernels], int8=(info.scale, info.zero_point))
    differing = count = 0
    for name, signal in SIGNALS.items():
        waveform = signal(spec.samples).astype(np.float32)
        tensor, quantized = waveform_to_logmel(waveform, spec), native.logmel(waveform, type=INT8)
        differs = quantized != quantize(tensor, info)
        steps = tensor[differs] / np.float32(info.scale)
        assert np.abs(np.abs(steps - np.trunc(steps)) - 0.5).max(initial=0) < PARITY_DB / 0.7 / info.scale, name
        differing, count = differing + np.count_nonzero(differs), count + differs.size
        np.testing.assert_array_equal(quantized, quantize(native.logmel(waveform), info))
    assert differing / count < 1e-4


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        ([], 32_000, "waveform is empty, 0 samples"),
        ([0.1], 44_100, "sample rate is 44100 Hz; resample to 32000 Hz"),
        ([0, 0, np.nan, np.inf], 32_000, "waveform sample 2 is nan"),
        ([0] * 300_000 + [-np.inf], 32_000, "waveform sample 300000 is -inf"),
        ([1e30, -1e30], 32_000, "waveform is so loud that its power overflows"),
    ],
    ids=["empty", "rate", "nan", "beyond the end", "loud"],
)
def test_bad_sound_is_refused(waveform: list[float], rate: int, message: str) -> None:
    native = har(PreprocessSpec().audio)
    with pytest.raises(HarError, match=message) as error:
        native.logmel(np.array(waveform, np.float32), rate=rate)
    assert error.value.status == BAD_DATA
    native.logmel(np.zeros(5))  # the handle still works

"""Log-Mel and deltas against librosa 0.11, over the kinds of sound that a recording can hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.inputs import PARITY_DB, SIGNALS
from kit.references import librosa_logmel

from preprocess import DataError, LogMelSpec, PreprocessSpec, fit_length, log_mel, stack_deltas, to_mono
from preprocess import waveform_to_logmel as logmel
from preprocess.logmel import mel_filters

Array = npt.NDArray[Any]

PRESETS = {name: PreprocessSpec.preset(name).audio for name in ("paper", "nano")}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("length", ["exact", "half", "longer", "short", "one sample"])
def test_equals_librosa(preset: str, signal: str, length: str) -> None:
    spec = PRESETS[preset]
    counts = {"exact": spec.samples, "half": spec.samples // 2, "longer": spec.samples + 777, "short": 100}
    waveform = SIGNALS[signal](counts[length]) if length in counts else SIGNALS[signal](5)[:1]
    waveform = waveform.astype(np.float32)
    fitted = librosa.util.fix_length(waveform, size=spec.samples)
    actual = logmel(waveform, spec)
    assert actual.shape == spec.shape
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    for channel, name in enumerate(("log-Mel", "delta", "delta-delta")):
        np.testing.assert_allclose(
            actual[..., channel], librosa_logmel(fitted, spec)[..., channel], rtol=0, atol=PARITY_DB, err_msg=name
        )


@pytest.mark.parametrize(
    "spec",
    [
        replace(PRESETS["paper"], window_samples=801),
        replace(PRESETS["paper"], window_samples=1024),
        replace(PRESETS["paper"], window_samples=2, frames=9),
        replace(PRESETS["paper"], n_mels=200, fmin_hz=50.0, fmax_hz=7000.0, top_db=40.0, amin=1e-5),
        LogMelSpec(sample_rate_hz=16_000, fmax_hz=8000.0, n_fft=512, window_samples=400, hop_samples=160, n_mels=20),
        LogMelSpec(sample_rate_hz=44_100, fmax_hz=22_050.0, hop_samples=1500, frames=10),
    ],
    ids=["odd window", "full window", "two samples", "narrow range", "16 kHz", "hop longer than window"],
)
@pytest.mark.filterwarnings("ignore:Empty filters", "ignore:.*Mel bands hold no frequency")
def test_equals_librosa_at_other_specifications(spec: LogMelSpec) -> None:
    waveform = SIGNALS["speech-like bursts"](spec.samples).astype(np.float32)
    np.testing.assert_allclose(logmel(waveform, spec), librosa_logmel(waveform, spec), rtol=0, atol=PARITY_DB)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30_000),
    level=st.floats(1e-8, 1e3),
    bits=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_equals_librosa_on_any_noise(seed: int, count: int, level: float, bits: Any) -> None:
    spec = LogMelSpec(frames=60)
    waveform = (np.random.default_rng(seed).laplace(0, level, count)).astype(bits)
    fitted = librosa.util.fix_length(waveform.astype(np.float32), size=spec.samples)
    np.testing.assert_allclose(logmel(waveform, spec), librosa_logmel(fitted, spec), rtol=0, atol=PARITY_DB)


def test_bands_without_a_frequency_of_the_transform_are_a_warning() -> None:
    spec = replace(PRESETS["nano"], n_mels=200, n_fft=512, window_samples=400)
    with pytest.warns(UserWarning, match="of 200 Mel bands hold no frequency.*reduce n_mels or raise n_fft") as caught:
        filters = mel_filters(spec)
    assert str(caught[0].message).startswith(f"{np.count_nonzero(~filters.any(axis=1))} of 200")


def test_stages_compose_and_standardise() -> None:
    spec = replace(PRESETS["nano"], mean=(-40.0, 0.5, -0.25), std=(15.0, 2.0, 0.5))
    waveform = SIGNALS["speech-like bursts"](50_000)
    decibel = log_mel(fit_length(waveform, spec), spec)
    np.testing.assert_array_equal(logmel(waveform, spec), stack_deltas(decibel, spec))
    plain = logmel(waveform, PRESETS["nano"])
    np.testing.assert_allclose(logmel(waveform, spec), (plain - spec.mean) / spec.std, rtol=0, atol=1e-5)


def test_inputs_stay_as_they_are_and_results_are_new() -> None:
    spec = PRESETS["nano"]
    waveform = SIGNALS["white noise"](spec.samples).astype(np.float32)
    copy = waveform.copy()
    fitted = fit_length(waveform, spec)
    decibel = log_mel(fitted, spec)
    decibel_copy = decibel.copy()
    stack_deltas(decibel, spec)[:] = 0
    np.testing.assert_array_equal(decibel, decibel_copy)
    fitted[:] = 0
    np.testing.assert_array_equal(waveform, copy)


def test_mono_is_the_mean_of_the_channels() -> None:
    stereo = np.array([[0.5, 0.25], [-1.0, 1.0], [0.1, 0.3]])
    np.testing.assert_array_equal(to_mono(stereo), np.array([0.375, 0.0, 0.2], np.float32))
    np.testing.assert_array_equal(to_mono(stereo[:, 0]), stereo[:, 0].astype(np.float32))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0), "waveform is empty, 0 samples; "),
        (np.zeros((10, 2)), r"waveform has shape \(10, 2\); give one channel, \[samples\] \(see to_mono\)"),
        (np.array(0.5), r"waveform has shape \(\); give one channel"),
        (np.zeros(10, np.int16), r"waveform has dtype int16; scale it to floating point in \[-1, 1\]"),
        (np.array([0.1, np.nan]), "waveform sample 1 is nan; every sample must be a finite float32 number"),
        (np.array([np.inf, 0.1]), "waveform sample 0 is inf; every"),
        (np.append(np.zeros(300_000), np.nan), "waveform sample 300000 is nan; every"),
        (np.full(1000, 1e30), r"waveform peaks at 1e\+30, its power overflows; scale it to \[-1, 1\]"),
    ],
)
def test_wrong_sound_is_refused_with_value_and_remedy(waveform: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        logmel(waveform, PRESETS["paper"])


def test_wrong_shapes_of_the_stages_are_refused() -> None:
    spec = PRESETS["nano"]
    with pytest.raises(DataError, match=r"waveform has shape \(7,\); fit_length gives the 122240 samples needed"):
        log_mel(np.zeros(7, np.float32), spec)
    with pytest.raises(DataError, match=r"log-Mel has shape \(64, 7\); the specification says \(64, 192\)"):
        stack_deltas(np.zeros((64, 7), np.float32), spec)
    with pytest.raises(DataError, match=r"waveform has shape \(2, 3, 4\); give \[samples\] or \[samples, channels\]"):
        to_mono(np.zeros((2, 3, 4)))

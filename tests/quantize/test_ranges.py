"""Ranges of activations, and rounding over them: NumPy on the raw values as the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st
from kit.networks import SAME_FLOAT, noise, random_weights
from kit.tiny import tiny_config

from model.config import DeployForm
from model.folding import fold
from quantize.ranges import METHODS, TensorStatistics, choose_ranges, collect, widen_summands
from quantize.rounding import FakeQuant, observed_deploy, quantized_deploy, round_weights

BINS = 2048
XNNPACK = DeployForm("split", "convolutions")
AUDIO = DeployForm("whole", "layer", stream="audio")
# Of a step: the precision of a float32 division at 256 steps.
SAME_LEVEL = 1e-3


def statistics_of(values):
    """A tensor's statistics by NumPy."""
    low, high = float(values.min()), float(values.max())
    return TensorStatistics(low, high, np.histogram(values, BINS, (low, high))[0])


def chosen(values, method, name="x"):
    return choose_ranges({name: statistics_of(values)}, method)[name]


def levels(low, high):
    """Step and zero point of 256 levels over a range, one of them at zero (Jacob et al. 2018, section 3)."""
    step = (high - low) / 255
    return step, int(np.clip(np.floor(-low / step + 0.5), 0, 255))


def affine(x, low, high):
    step, zero = levels(low, high)
    return (np.clip(np.floor(x / step + 0.5) + zero, 0, 255) - zero) * step


def rounding_error(values, limits):
    return float(np.square(values - affine(values, *limits)).sum())


def rng():
    return np.random.default_rng(8)


COUNT = 100_000
VALUES = {
    "normal": rng().normal(0.5, 2, COUNT),
    "student": rng().standard_t(3, COUNT),
    "laplace": rng().laplace(0, 1, COUNT),
    "relu of student": np.maximum(rng().standard_t(3, COUNT), 0),
    "lognormal": rng().lognormal(0, 1.5, COUNT),
    "outlier": np.append(rng().normal(0, 1, COUNT - 1), 60.0),
    "negative": -rng().gamma(2, 1, COUNT) - 1,
}
HEAVY_TAILED = ["student", "relu of student", "lognormal", "outlier"]


@pytest.mark.parametrize("kind", VALUES)
def test_a_range_has_all_values_all_but_a_ten_thousandth_or_the_least_error(kind):
    values = VALUES[kind]
    low, high = limits = (min(values.min(), 0), max(values.max(), 0))
    assert chosen(values, "minmax") == limits

    cut = np.percentile(values, [0.01, 99.99])
    bin_width = (values.max() - values.min()) / BINS
    expected = (min(cut[0], 0), max(cut[1], 0))
    assert chosen(values, "percentile") == pytest.approx(expected, rel=0, abs=bin_width)

    # Against rounding the values themselves over every hundredth of the full range.
    error = rounding_error(values, chosen(values, "mse"))
    best = min(rounding_error(values, (share * low, share * high)) for share in np.linspace(0.2, 1, 81))
    # Bins and the uniform error in a step are approximations.
    assert error <= 1.1 * best
    assert error <= rounding_error(values, limits) * (0.95 if kind in HEAVY_TAILED else 1.001)


@pytest.mark.parametrize("method", METHODS)
def test_values_that_gelu_turns_to_zero_get_no_levels(method):
    values = np.linspace(-9, 3, 10_001)
    low, high = chosen(values, method, "audio/stage0/block0/expand")
    assert low == -4
    assert high == chosen(values, method)[1]
    cut = values[values < low]
    assert max(abs(x / 2 * (1 + math.erf(x / math.sqrt(2)))) for x in cut) < 2e-4
    assert chosen(values, method)[0] < -4
    assert chosen(values / 4, method, "audio/stage0/block0/expand") == chosen(values / 4, method)


@pytest.mark.parametrize("method", METHODS)
def test_pixels_have_the_range_of_their_definition(method):
    values = np.linspace(0.1, 0.7, 100)
    assert chosen(values, method, "skeleton") == (0, 1) != chosen(values, method, "audio")


def test_a_summand_is_wide_enough_for_kernels_that_add_integers():
    """XNNPACK's check of an addition: each input's step is at least 2^-10 of the output's."""
    layers = [layer for layer in observed()[0].layers if isinstance(layer, keras.layers.Add)]
    ranges = dict.fromkeys(observed()[1].values(), (-1.0, 3.0)) | {
        "audio/stage1/block0/project": (-1e-6, 3e-6),
        "visual/stage0/block0/shortcut": (0.0, 1e-5),
        "audio/stage0/block0/depthwise/edges": (-0.0125, 0.0),
    }
    wide = widen_summands(ranges, *observed())
    step = 4 / 255
    assert len(layers) == 4 + 3 * 4 + 1
    for name, (low, high) in wide.items():
        assert high - low == pytest.approx(max(ranges[name][1] - ranges[name][0], 4 * 2**-9)), name
        assert (high - low) / 255 > step * 2**-10
        assert low * ranges[name][1] == pytest.approx(high * ranges[name][0]), "zero keeps its place"
    assert {name for name in wide if wide[name] != ranges[name]} == {
        "audio/stage1/block0/project",
        "visual/stage0/block0/shortcut",
    }
    # A sum that is widened for the next one widens its summands.
    depthwise = "audio/stage0/block0/depthwise"
    chain = ranges | {f"{depthwise}/odd": (0.0, 1 / 400), f"{depthwise}/odd/add": (0.0, 1.0)}
    chain[f"{depthwise}/edges/add"] = (0.0, 4096.0)
    widened = widen_summands(chain, *observed())
    assert widened[f"{depthwise}/odd/add"][1] == pytest.approx(4096 / 512)
    assert widened[f"{depthwise}/odd"][1] == pytest.approx(4096 / 512**2)
    assert widen_summands(widened, *observed()) == widened
    # Not an input of an addition: as it was.
    alone = ranges | {"fusion/query": (0.0, 1e-5)}
    assert widen_summands(alone, *observed())["fusion/query"] == (0, 1e-5)


# Collection


@cache
def small():
    """Configuration and deploy weights, biases other than zero."""
    config = tiny_config()
    return config, fold(config, random_weights(config, 3), XNNPACK)


@cache
def observed():
    return observed_deploy(small()[0], XNNPACK, small()[1])


@cache
def collected():
    """Weights of the audio stream, its observed form, sounds, and the statistics of all activations on them."""
    config = small()[0]
    weights, samples = fold(config, random_weights(config, 3), AUDIO), noise(config, 3, 4)
    model, producers = observed_deploy(config, AUDIO, weights)
    return weights, model, producers, samples.audio, collect(model, producers.values(), samples)


def test_statistics_are_those_of_all_values():
    _, model, producers, sounds, statistics = collected()
    assert list(statistics) == list(producers.values())
    for name, output in zip(statistics, model(sounds), strict=True):
        values = np.sort(output.numpy().ravel().astype(np.float64))
        tensor, slack = statistics[name], SAME_FLOAT * np.abs(values).max()
        assert (tensor.low, tensor.high) == pytest.approx((values[0], values[-1]), abs=slack + 1e-6), name
        edges = np.linspace(tensor.low, tensor.high, BINS + 1)[1:-1]
        below = tensor.counts.cumsum()
        assert below[-1] == values.size
        assert (below[:-1] >= np.searchsorted(values, edges - slack)).all(), name
        assert (below[:-1] <= np.searchsorted(values, edges + slack)).all(), name


@pytest.mark.parametrize("value", [0.0, 1e-5, -3.0, 3e4])
def test_a_constant_gets_a_usable_range(value):
    spec = small()[0].spec.audio
    audio = keras.Input(spec.shape, name="audio")
    model = keras.Model(audio, [audio, keras.layers.Lambda(lambda x: 0 * x + value)(audio)])
    tensor = collect(model, ("audio", "x"), noise(small()[0], 2))["x"]
    assert (tensor.low, tensor.high) == pytest.approx((value, value), rel=1e-6, abs=1e-5)
    assert tensor.counts.sum() == 2 * math.prod(spec.shape)
    for method in METHODS:
        low, high = choose_ranges({"x": tensor}, method)["x"]
        assert low <= 0 <= high
        assert high > low
        rounded = FakeQuant((low, high))(np.float32([value, 0])).numpy()
        assert rounded == pytest.approx([value, 0], abs=0.51 * (high - low) / 255)


# Rounding


@given(
    st.floats(-1e3, 0, width=32), st.floats(0, 1e3, width=32).filter(lambda high: high > 1e-2), st.integers(0, 2**32)
)
def test_activations_are_rounded_to_256_levels_with_one_at_zero(low, high, seed):
    x = np.random.default_rng(seed).uniform(1.2 * low - 0.1, 1.2 * high + 0.1, 500).astype(np.float32)
    rounding = FakeQuant((low, high))
    rounded = rounding(x).numpy()
    step, zero = levels(low, high)
    # Where zero lies half-way between levels, float32 may decide otherwise than float64.
    if abs((-low / step) % 1 - 0.5) > SAME_LEVEL:
        between = np.abs((x / step) % 1 - 0.5) < SAME_LEVEL
        np.testing.assert_allclose(rounded[~between], affine(x, low, high)[~between], rtol=1e-5, atol=SAME_LEVEL * step)
    assert np.abs(rounded - np.clip(x, (-zero - 1) * step, (256 - zero) * step)).max() <= 1.51 * step
    inside = (x > low + step) & (x < high - step)
    assert np.abs(rounded - x)[inside].max(initial=0) <= (0.5 + SAME_LEVEL) * step
    assert rounding(np.float32([0])).numpy() == 0
    np.testing.assert_allclose(rounding(rounded).numpy(), rounded, rtol=1e-6, atol=SAME_LEVEL * step)
    assert len(np.unique(rounded)) <= 256


def test_kernels_are_rounded_by_output_channel():
    for form in (XNNPACK, replace(AUDIO, stream="fused")):
        weights = fold(tiny_config(), random_weights(tiny_config(), 3), form)
        weights["fusion/classifier/kernel"][:] = 0
        before = {name: value.copy() for name, value in weights.items()}
        rounded = round_weights(weights)
        assert rounded.keys() == weights.keys()
        for name, value in weights.items():
            np.testing.assert_array_equal(value, before[name], err_msg=f"{name} was changed in place")
            assert rounded[name].dtype == np.float32
            if not name.endswith("kernel"):
                np.testing.assert_array_equal(rounded[name], value)
                continue
            # Of a depthwise kernel [h, w, C, 1] the third axis, of others [..., in, out] the last.
            axis = 2 if name.endswith("depthwise_kernel") else value.ndim - 1
            for channel in range(value.shape[axis]):
                plain, levelled = value.take(channel, axis), rounded[name].take(channel, axis)
                step = np.abs(plain).max() / 127
                assert np.abs(levelled - plain).max() <= step * (0.5 + SAME_LEVEL), name
                level = levelled / (step or 1)
                np.testing.assert_allclose(level, np.rint(level), atol=SAME_LEVEL, err_msg=name)
                assert np.abs(level).max(initial=0) < 127.5


def test_every_activation_has_its_producer():
    model, producers = observed()
    assert {"skeleton", "audio", "logits"} <= set(producers.values())
    assert len(set(producers.values())) == len(producers)
    for (layer, name), output in zip(producers.items(), model.outputs, strict=True):
        assert model.get_layer(layer).output is output or name in ("skeleton", "audio")


def test_activations_with_a_range_have_levels_and_others_none():
    weights, _, producers, sounds, statistics = collected()
    ranges = choose_ranges(statistics, "minmax")
    left = {"audio/stage2/block0/gelu", "audio/stage1/block0", "logits"}
    model = quantized_deploy(small()[0], AUDIO, weights, {name: ranges[name] for name in ranges.keys() - left})
    layers = {name: layer for layer, name in producers.items()}
    layers |= {name: f"{name}/round" for name in ranges.keys() - left}
    activations = keras.Model(model.inputs, [model.get_layer(layers[name]).output for name in ranges])
    for name, output in zip(ranges, activations(sounds), strict=True):
        step, zero = levels(*ranges[name])
        level = output.numpy() / step
        on_levels = np.abs(level - np.rint(level)).max() < 0.01
        assert on_levels == (name not in left), name
        if on_levels:
            assert level.min() > -zero - 1.5
            assert level.max() < 255 - zero + 1.5

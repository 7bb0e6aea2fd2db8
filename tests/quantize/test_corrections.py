"""Equalisation, bias correction and preparation, with NumPy as the reference."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.networks import assert_close, inputs_of, noise, random_weights
from kit.tiny import model_configs, tiny_config

from model.config import DeployForm
from model.deploy import build_deploy, set_deploy_weights
from model.folding import BIASED_PART, PARTS, fold
from quantize.prepare import CalibrationOptions, correct_biases, equalise, prepare
from quantize.ranges import choose_ranges, collect
from quantize.recipes import FLOAT32, STATIC_WI8_AI8, parse_recipe
from quantize.rounding import FakeQuant, observed_deploy, round_weights

FORMS = [DeployForm(*choice) for choice in itertools.product(("split", "whole"), ("convolutions", "layer"))]
XNNPACK = FORMS[0]
AUDIO = replace(FORMS[-1], stream="audio")
# Of a mean of float32 products, relative to the largest, against float64.
SAME_MEAN = 1e-5


# Equalisation


def linked(config):
    """Pairs of convolutions that share channels with at most a ReLU between, by name; last pair of a block only.

    In a bottleneck the middle convolution is in two pairs, and sharing with the third changes the range of the first.
    """
    for block in config.visual.blocks():
        yield block.convolutions[-2][0], block.convolutions[-1][0]
    if config.audio.norm == "batch":
        for block in config.audio.blocks():
            yield f"{block.name}/depthwise", f"{block.name}/expand"


def written_range(weights, conv):
    """Largest weight of every output channel, over all parts of a split depthwise."""
    kernels = [value for name, value in weights.items() if name.startswith(f"{conv}/") and "kernel" in name]
    flat = [k[..., 0] if k.shape[-1] == 1 and "depthwise" in conv else k for k in kernels]
    return np.max([np.abs(k).reshape(-1, k.shape[-1]).max(axis=0) for k in flat], axis=0)


def read_range(weights, conv):
    """Largest weight of every input channel."""
    return np.abs(weights[f"{conv}/kernel"]).max(axis=(0, 1, 3))


def check_equalised(config, form, *, seed=0):
    weights = fold(config, random_weights(config, seed), form)
    before = {name: value.copy() for name, value in weights.items()}
    equalised = equalise(config, weights)
    assert all(np.array_equal(weights[name], before[name]) for name in before), "equalise changed its argument"
    assert {name: value.dtype for name, value in equalised.items()} == dict.fromkeys(weights, np.float32)

    model, inputs = build_deploy(config, form), inputs_of(noise(config, 2))
    set_deploy_weights(model, weights)
    expected = model(inputs).numpy()
    set_deploy_weights(model, equalised)
    assert_close(model(inputs), expected)

    for first, second in linked(config):
        written, read = written_range(equalised, first), read_range(equalised, second)
        alive = (written > 0) & (read > 0)
        np.testing.assert_allclose(written[alive], read[alive], rtol=1e-5, err_msg=first)
    return weights, equalised


@pytest.mark.parametrize(
    ("form", "bottleneck", "norm"),
    [(FORMS[0], False, "batch"), (FORMS[3], True, "layer")],
    ids=str,
)
def test_linked_channels_share_their_range_and_logits_stay(form, bottleneck, norm):
    weights, equalised = check_equalised(tiny_config(bottleneck=bottleneck, norm=norm), form)
    changed = {name.rsplit("/", 1)[0] for name in weights if not np.array_equal(equalised[name], weights[name])}
    assert {name.split("/")[0] for name in changed} == ({"visual", "audio"} if norm == "batch" else {"visual"})
    assert not [name for name in changed if name.endswith(("shortcut", "project", "stem", "stem/conv"))]


@pytest.mark.slow
@settings(max_examples=2, suppress_health_check=[HealthCheck.filter_too_much])
@given(config=model_configs(), form=st.sampled_from(FORMS), seed=st.integers(0, 2**32 - 1))
def test_any_widths_keep_their_logits(config, form, seed):
    check_equalised(config, form, seed=seed)


def test_a_dead_channel_is_left_alone():
    config = tiny_config(bottleneck=False)
    weights = fold(config, random_weights(config, 0), XNNPACK)
    weights["visual/stage0/block0/conv0/kernel"][..., 1] = 0
    weights["visual/stage1/block0/conv1/kernel"][:, :, 2] = 0
    equalised = equalise(config, weights)
    assert all(np.isfinite(value).all() for value in equalised.values())
    for name, channel in (("visual/stage0/block0/conv0/bias", 1), ("visual/stage1/block0/conv0/kernel", 2)):
        np.testing.assert_array_equal(equalised[name][..., channel], weights[name][..., channel])


# Bias correction


def convolved(x, kernel, *, stride=1, dilation=(1, 1)):
    """x [B, H, W, C] with a kernel [h, w, C, D], or a depthwise one [h, w, C, 1]; float64, zeros outside."""
    out_size = [-(-size // stride) for size in x.shape[1:3]]
    total = [
        max((out - 1) * stride + (taps - 1) * by + 1 - size, 0)
        for out, taps, by, size in zip(out_size, kernel.shape, dilation, x.shape[1:3], strict=False)
    ]
    x = np.pad(x.astype(np.float64), [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)])
    out = 0.0
    for i, j in np.ndindex(kernel.shape[:2]):
        rows, columns = (
            slice(start, start + (count - 1) * stride + 1, stride)
            for start, count in zip((i * dilation[0], j * dilation[1]), out_size, strict=True)
        )
        shifted = x[:, rows, columns]
        out = out + (shifted * kernel[i, j, :, 0] if kernel.shape[3] == 1 else shifted @ kernel[i, j])
    return out


@cache
def corrected(form):
    """Weights before and after, and a function: a layer's name → its input over the calibration set."""
    config = tiny_config()
    weights, calibration = fold(config, random_weights(config, 0), form), noise(config, 3, 4)
    model, _ = observed_deploy(config, form, weights)

    def input_of(name):
        reader = keras.Model(model.inputs, model.get_layer(name).input)
        return reader(inputs_of(calibration)).numpy()

    return weights, correct_biases(model, weights, calibration), input_of


def check_mean_error(compute, bias_name, form):
    """`compute`: from kernels by name to the output without bias [..., channels]."""
    weights, biased, _ = corrected(form)
    exact, rounded = compute(weights), compute(round_weights(weights))
    axes = tuple(range(exact.ndim - 1))
    error = (rounded - exact).mean(axis=axes)
    left = error + biased[bias_name] - weights[bias_name]
    tolerance = SAME_MEAN * max(np.abs(exact).max(), np.abs(weights[bias_name]).max())
    assert np.abs(error).max() > 10 * tolerance, "nothing to correct"
    assert np.abs(left).max() < tolerance


@pytest.mark.parametrize(
    ("name", "stride"),
    [("visual/stage1/block0/conv1", 2), ("visual/stage0/block0/shortcut", 1), ("fusion/query", 1)],
)
def test_a_convolution_loses_its_mean_error(name, stride):
    x = corrected(XNNPACK)[2](name)
    check_mean_error(lambda w: convolved(x, w[f"{name}/kernel"], stride=stride), f"{name}/bias", XNNPACK)


@pytest.mark.parametrize("form", [FORMS[0], FORMS[-1]], ids=str)
def test_a_depthwise_loses_the_mean_error_of_all_its_parts(form):
    name = "audio/stage0/block0/depthwise"
    parts = {f"{name}/{part}": dilation for part, (_, dilation) in PARTS.items()}
    biased = f"{name}/{BIASED_PART}"
    if form.depthwise == "whole":
        parts, biased = {name: (1, 1)}, name
    x = corrected(form)[2](biased)
    check_mean_error(
        lambda w: sum(convolved(x, w[f"{part}/depthwise_kernel"], dilation=by) for part, by in parts.items()),
        f"{biased}/bias",
        form,
    )


def test_the_classifier_loses_its_mean_error():
    x = corrected(XNNPACK)[2]("fusion/classifier").astype(np.float64)
    check_mean_error(lambda w: x @ w["fusion/classifier/kernel"], "fusion/classifier/bias", XNNPACK)


@pytest.mark.parametrize("form", [FORMS[0], FORMS[-1]], ids=str)
def test_only_biases_are_corrected(form):
    weights, biased, _ = corrected(form)
    assert biased.keys() == weights.keys()
    for name, value in weights.items():
        assert biased[name].dtype == np.float32
        assert biased[name].shape == value.shape
        if not name.endswith("/bias"):
            np.testing.assert_array_equal(biased[name], value)
        elif name.endswith(("variance/bias", "affine/bias")):
            # Every weight is the largest of its channel, so it has no error.
            np.testing.assert_allclose(biased[name], value, rtol=0.05)
        else:
            assert not np.array_equal(biased[name], value), name


# Preparation


def test_without_calibration_weights_stay():
    config = tiny_config()
    weights = random_weights(config, 0)
    prepared = prepare(config, weights, AUDIO, None, CalibrationOptions(equalise=True))
    folded = fold(config, weights, AUDIO)
    assert prepared.ranges == {}
    for variant in (prepared.weights, prepared.static_weights):
        assert variant.keys() == folded.keys()
        assert all(np.array_equal(variant[name], folded[name]) for name in folded)
    assert "logits" in prepared.producers.values()


def test_options_are_obeyed_and_recipes_choose_the_rounded_tensors():
    config = tiny_config(norm="batch")
    weights, calibration = random_weights(config, 0), noise(config, 3, 4)
    folded = fold(config, weights, AUDIO)
    equal = equalise(config, folded)
    observed, producers = observed_deploy(config, AUDIO, equal)
    prepared = prepare(config, weights, AUDIO, calibration, CalibrationOptions("percentile", equalise=True))
    expected = correct_biases(observed, equal, calibration)
    for name in folded:
        np.testing.assert_array_equal(prepared.weights[name], folded[name])
        np.testing.assert_allclose(prepared.static_weights[name], expected[name], rtol=1e-5, atol=1e-6)
    names = tuple(producers.values())
    ranges = choose_ranges(collect(observed, names, calibration), "percentile")
    assert prepared.ranges.keys() == ranges.keys() == set(names)
    for name, limits in ranges.items():
        assert prepared.ranges[name] == pytest.approx(limits, rel=1e-4, abs=1e-5)

    plain = build_deploy(config, AUDIO)
    set_deploy_weights(plain, folded)
    logits = plain(calibration.audio).numpy()
    uncorrected = replace(prepared, static_weights=equal)
    for model in (
        uncorrected.float_model(FLOAT32),
        uncorrected.model(FLOAT32),
        uncorrected.float_model(STATIC_WI8_AI8),
    ):
        assert_close(model(calibration.audio), logits)
    mixed = uncorrected.model(parse_recipe("static_wi8_ai8+fp32(audio/stage0/*,logits)"))
    inside = {name for name in names if not name.startswith("audio/stage0/") and name != "logits"}
    assert {layer.name.removesuffix("/round") for layer in mixed.layers if isinstance(layer, FakeQuant)} == inside

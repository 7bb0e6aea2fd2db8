"""The deploy form against the training form and NumPy: its logits, its weights, there and back, and its taps."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.networks import inputs_of, noise, random_weights, recogniser_with
from kit.tiny import THREE_LABELS, model_configs, tiny_config, tiny_spec

from model.config import INPUTS_OF, ConvNeXtStage, DeployForm, preset_config
from model.deploy import build_deploy, set_deploy_weights
from model.folding import PARTS, fold, split_depthwise
from model.layers import Heads, JoinHeads, LayerNorm, LayerScale
from preprocess.errors import DataError

FORMS = [DeployForm(*choice) for choice in itertools.product(("split", "whole"), ("convolutions", "layer"))]
XNNPACK, ONE_LAYER = FORMS[0], FORMS[-1]
STREAMS = [replace(XNNPACK, stream="visual"), *(replace(form, stream="audio") for form in (XNNPACK, ONE_LAYER))]
INPUTS = ("skeleton", "audio")

# Both forms compute in float32 but round in other places; relative to the largest logit, at least to 1.
LOGIT_TOLERANCE = 1e-4
# ε = 1e-6 lets layer norm enlarge the rounding of a mean over equal channels a thousandfold: 1000 · 2⁻²³.
EQUAL_CHANNELS_TOLERANCE = 1.2e-4


def trained(config, *, seed=0):
    """A training form in which no weight is neutral, and the weights."""
    weights = random_weights(config, seed)
    for name in [name for name in weights if name.endswith("/moving_variance")]:
        # So small that ε counts; γ goes with the root, so that activations keep their size.
        gamma = name.replace("/moving_variance", "/gamma")
        weights |= {name: weights[name] / 100, gamma: weights[gamma] / 10}
    return recogniser_with(config, weights), weights


def check_logits(config, forms, *, batch=2, seed=0):
    recogniser, weights = trained(config, seed=seed)
    inputs = dict(zip(INPUTS, inputs_of(noise(config, batch, 1)), strict=True))
    for form in forms:
        tensors = [inputs[name] for name in INPUTS_OF[form.stream]]
        expected = recogniser.stream(form.stream)(tensors).numpy()
        assert np.isfinite(expected).all()
        scale = max(1.0, float(np.abs(expected).max()))
        model = build_deploy(config, form)
        set_deploy_weights(model, fold(config, weights, form))
        logits = model(tensors).numpy()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=LOGIT_TOLERANCE * scale, err_msg=str(form))


def is_informative(config):
    """Layer norm turns one or two channels into constants or signs, whatever came before."""
    return min(config.fusion.audio_width, *(stage.width for stage in config.audio.stages)) > 2


@pytest.mark.parametrize("norm", ["layer", "batch"])
@settings(max_examples=1, suppress_health_check=[HealthCheck.filter_too_much])
@given(config=model_configs().filter(is_informative), seed=st.integers(0, 2**32 - 1))
def test_any_widths_keep_their_logits_in_every_stream(norm, config, seed):
    check_logits(replace(config, audio=replace(config.audio, norm=norm)), [XNNPACK, ONE_LAYER, *STREAMS], seed=seed)


def test_strides_on_the_first_convolution_keep_the_logits():
    config = tiny_config(norm="batch", spec=tiny_spec(side=70, bands=32, frames=64))
    check_logits(replace(config, visual=replace(config.visual, stride_on="1x1")), [XNNPACK])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["nano", "paper"])
@pytest.mark.parametrize(("norm", "form"), [("layer", XNNPACK), ("batch", ONE_LAYER)], ids=["layer", "batch"])
def test_a_preset_keeps_its_logits(preset, norm, form):
    check_logits(preset_config(preset, THREE_LABELS, audio_norm=norm), [form], batch=1)


# Depthwise


def naive_depthwise(x, kernel, dilation=(1, 1)):
    """Depthwise convolution of x [H, W, C] with a kernel [h, w, C, 1] centred on the output: output by output."""
    height, width = kernel.shape[:2]
    reach = [(taps - 1) * by // 2 for taps, by in zip((height, width), dilation, strict=True)]
    out = np.zeros(x.shape)
    for row, column in np.ndindex(x.shape[:2]):
        for i, j in np.ndindex(height, width):
            above = row + i * dilation[0] - reach[0]
            left = column + j * dilation[1] - reach[1]
            if 0 <= above < x.shape[0] and 0 <= left < x.shape[1]:
                out[row, column] += x[above, left] * kernel[i, j, :, 0]
    return out


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (4, 3), (8, 9)], ids=str)
def test_the_parts_of_a_depthwise_convolution_add_up(size):
    rng = np.random.default_rng(6)
    x, kernel = rng.normal(size=(*size, 3)), rng.normal(size=(7, 7, 3, 1))
    parts = split_depthwise(kernel)
    assert parts.keys() == PARTS.keys()
    total = np.zeros(x.shape)
    for name, (taps, dilation) in PARTS.items():
        assert parts[name].shape == (*taps, 3, 1)
        assert math.prod(taps) <= 25
        total += naive_depthwise(x, parts[name], dilation)
    np.testing.assert_allclose(total, naive_depthwise(x, kernel), rtol=0, atol=1e-12)


# The tests below share small models: two by two visual tokens, for with one alone its share is 1 whatever the scores.


@cache
def small(norm):
    """The training form and its weights; tests that change them set them first.

    The stem has seven channels: a seventh is no float32, so that means of equal channels are rounded.
    """
    config = tiny_config(norm=norm, spec=tiny_spec(side=64, bands=64, frames=64))
    stages = (ConvNeXtStage(7, (9,)), *config.audio.stages[1:])
    return trained(replace(config, audio=replace(config.audio, stages=stages)))


@cache
def deployed(norm, form, wrap=lambda index: lambda x: x):
    """A deploy form with its weights set, the weights, and every name and activation that its tap met."""
    recogniser, weights = small(norm)
    tapped = []

    def tap(x, name):
        tapped.append((name, x))
        return wrap(len(tapped) - 1)(x)

    model, folded = build_deploy(recogniser.config, form, tap), fold(recogniser.config, weights, form)
    assert len(dict(tapped)) == len(tapped)
    set_deploy_weights(model, folded)
    return model, folded, dict(tapped)


# Taps


class Replace(keras.layers.Layer):
    """x, or square · x² + ramp · (1, 2, 3, … by channel) where `chosen` is the index of this one.

    With both factors 1 no norm that follows undoes it.
    """

    chosen, square, ramp = (tf.Variable(value, trainable=False) for value in (-1, 1.0, 1.0))

    def __init__(self, index):
        super().__init__()
        self._index = index

    def call(self, x):
        ramp = Replace.ramp * tf.range(1.0, x.shape[-1] + 1)
        return tf.where(tf.equal(Replace.chosen, self._index), Replace.square * tf.square(x) + ramp, x)


@cache
def replaceable(form):
    """A function (skeleton, audio) → logits that obeys `Replace`, and the names."""
    model, _, tapped = deployed("layer", form, Replace)
    return tf.function(model), list(tapped)


@pytest.fixture
def replace_at():
    """Logits with the activation of a name replaced; no name, none replaced."""

    def run(form, name, inputs, *, factor=1.0):
        model, names = replaceable(form)
        Replace.chosen.assign(names.index(name) if name else -1)
        Replace.square.assign(factor)
        Replace.ramp.assign(factor)
        return model([tf.constant(x) for x in inputs]).numpy()

    yield run
    Replace.chosen.assign(-1)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_stored_activation_is_tapped_in_the_order_of_computation(norm, form):
    """Layers without a tap keep the range of their input, or are a softmax, or absorb the ReLU behind them."""
    keeps_range = keras.layers.ZeroPadding2D, keras.layers.MaxPooling2D, keras.layers.Softmax, Heads, JoinHeads
    model, _, tapped = deployed(norm, form)
    sources = {id(x._keras_history.layer) for x in tapped.values()}
    for layer in model.layers:
        readers = [node.outbound_layer for node in layer.outbound_nodes]
        fused = len(readers) == 1 and isinstance(readers[0], keras.layers.ReLU)
        assert (id(layer) in sources) != (isinstance(layer, keeps_range) or fused), layer.name
    names = list(tapped)
    groups = [group for group, _ in itertools.groupby(names, key=lambda name: name.split("/")[0])]
    assert groups == ["skeleton", "visual", "audio", "fusion", "logits"]
    assert [name for name in names if "/" not in name] == ["skeleton", "audio", "logits"]
    assert names.index("audio") < min(i for i, name in enumerate(names) if name.startswith("audio/"))


@pytest.mark.parametrize("form", [XNNPACK, ONE_LAYER], ids=str)
def test_what_a_tap_returns_takes_the_activations_place(form, replace_at):
    inputs = inputs_of(noise(small("layer")[0].config, 2, 1))
    plain = replace_at(form, None, inputs)
    logits = {name: replace_at(form, name, inputs) for name in replaceable(form)[1]}
    np.testing.assert_allclose(logits["logits"], plain**2 + [1, 2, 3], atol=1e-5)
    assert [name for name, changed in logits.items() if not np.abs(changed - plain).max() > 1e-4] == []


@pytest.mark.parametrize("form", [XNNPACK, ONE_LAYER], ids=str)
@pytest.mark.parametrize("name", ["skeleton", "audio", "fusion/mixed", "audio/stage3/block0/gelu", "logits"])
def test_zero_at_a_tap_is_zero_in_the_training_form(name, form, replace_at):
    recogniser, weights = small("layer")
    inputs = inputs_of(noise(recogniser.config, 2, 1))
    logits = replace_at(form, name, inputs, factor=0.0)
    # A reader with a kernel of zeros gives the same as one that reads zeros.
    readers = {
        "fusion/mixed": "fusion/output/kernel",
        "audio/stage3/block0/gelu": "audio/stage3/block0/project/kernel",
        "logits": "fusion/classifier/kernel",
    }
    changed = {key: 0 * value if key == readers.get(name) else value for key, value in weights.items()}
    if name == "logits":
        changed["fusion/classifier/bias"] = 0 * weights["fusion/classifier/bias"]
    recogniser.set_weights(changed)
    expected = recogniser.fused([0 * x if name == key else x for key, x in zip(INPUTS, inputs, strict=True)]).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=LOGIT_TOLERANCE * max(1.0, np.abs(expected).max()))


# Weights


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_variable_is_set_and_only_layers_of_the_form_remain(norm, form):
    model, folded, _ = deployed(norm, form)
    for variable in model.variables:
        variable.assign(np.full(variable.shape, np.nan))
    set_deploy_weights(model, folded)
    for variable in model.variables:
        assert np.isfinite(variable.numpy()).all(), variable.name
        np.testing.assert_array_equal(variable.numpy(), folded[variable.name.removesuffix(":0")])
    assert len({v.name for v in model.variables}) == len(model.variables) == len(folded)
    assert all(value.dtype == np.float32 for value in folded.values())
    assert not [x.name for x in model.layers if isinstance(x, keras.layers.BatchNormalization | LayerScale)]
    assert not [v.name for v in model.variables if "moving_" in v.name or "/bn/" in v.name or "/scale/" in v.name]
    norms = [x for x in model.layers if isinstance(x, LayerNorm)]
    affine = [v.name for v in model.variables if v.name.endswith(("gamma:0", "beta:0"))]
    # The stem's, one in each of four blocks, three before downsampling, and that of the fusion.
    layers = 0 if form.layer_norm == "convolutions" else 1 if norm == "batch" else 9
    assert (len(norms), len(affine)) == (layers, 2 * layers)
    taps = {math.prod(x.kernel_size) for x in model.layers if isinstance(x, keras.layers.DepthwiseConv2D)} - {1}
    assert taps == ({21, 20, 8} if form.depthwise == "split" else {49})


def test_weights_of_another_form_are_refused():
    with pytest.raises(DataError, match=r"name \d+ different tensors, the first 'audio/"):
        set_deploy_weights(deployed("layer", XNNPACK)[0], deployed("layer", ONE_LAYER)[1])


# Layer norm


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("level", [0.7, -300.0])
def test_equal_channels_are_normalised_to_the_offset(level, form):
    """The stem gives `level` in all channels of its first position: variance 0, so γ · 0 + β comes out."""
    model, folded, tapped = deployed("layer", form)
    skeleton, audio = inputs_of(noise(small("layer")[0].config, 2, 1))
    audio[:, :4, :4] = 0
    outputs = keras.Model(model.inputs, [tapped["audio/stem/conv"], tapped["audio/stem/norm"], *model.outputs])
    set_deploy_weights(model, folded | {"audio/stem/conv/bias": np.full(7, level, np.float32)})
    stem, normed, logits = (x.numpy() for x in outputs([skeleton, audio]))
    set_deploy_weights(model, folded)
    assert (stem[:, 0, 0] == np.float32(level)).all()
    assert stem[:, 1].var(axis=-1).min() > 0
    beta = np.broadcast_to(small("layer")[1]["audio/stem/norm/beta"], (2, 7))
    np.testing.assert_allclose(normed[:, 0, 0], beta, rtol=0, atol=EQUAL_CHANNELS_TOLERANCE * max(1, abs(level)))
    assert np.isfinite(logits).all()

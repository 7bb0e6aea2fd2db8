"""Backbones against keras.applications, fusion against NumPy, and every width free."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given, settings
from kit.tiny import THREE_LABELS, model_configs, tiny_config, tiny_spec

from model.backbones import convnext_features, resnet_features
from model.config import convnext, preset_config, resnet
from model.imagenet import convnext_from_keras, imagenet_start, resnet_from_keras
from model.layers import LayerScale, SeededDropout, gelu
from model.recogniser import build_recogniser
from preprocess.errors import DataError, MissingComponentError, UsageError

SIDE = 64


def randomise(model, seed):
    """Statistics, norms and biases that no initialiser gives, of a size that keeps activations in range."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        name = variable.name
        if "moving_variance" in name:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif "gamma" in name:
            variable.assign(rng.normal(1, 0.1, variable.shape))
        elif any(word in name for word in ("moving_mean", "bias", "beta")):
            variable.assign(rng.normal(0, 0.1, variable.shape))


@pytest.fixture(scope="module")
def keras_resnet():
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    randomise(model, 0)
    return model


@pytest.fixture(scope="module")
def keras_convnext():
    model = keras.applications.ConvNeXtTiny(
        weights=None, include_top=False, include_preprocessing=False, input_shape=(SIDE, 2 * SIDE, 3)
    )
    randomise(model, 1)
    return model


def with_weights(model, weights):
    """`model` with `weights`, which must name exactly its variables."""
    variables = {v.name.removesuffix(":0"): v for v in model.variables}
    assert variables.keys() == weights.keys()
    for name, variable in variables.items():
        assert variable.shape == weights[name].shape
        variable.assign(weights[name])
    return model


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0.1
    assert np.abs(ours - theirs).max() <= 1e-4 * max(1, np.abs(theirs).max())


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, 31])
def test_resnet50_equals_keras_applications(keras_resnet, channels):
    """With 31 channels for a grey picture, as the rescaled kernel promises."""
    source = keras.Input((SIDE, SIDE, channels))
    features = resnet_features(source, resnet(50, stride_on="1x1"))
    ours = with_weights(keras.Model(source, features), resnet_from_keras(keras_resnet, channels=channels))
    picture = np.random.default_rng(2).uniform(0, 1, (2, SIDE, SIDE, 3 if channels == 3 else 1)).astype(np.float32)
    grey = picture.shape[-1] == 1
    theirs = keras_resnet(np.repeat(picture, 3, axis=-1) if grey else picture).numpy()
    assert_close(ours(np.repeat(picture, channels, axis=-1) if grey else picture).numpy(), theirs)


@pytest.mark.slow
def test_convnext_tiny_equals_keras_applications(keras_convnext):
    source = keras.Input((SIDE, 2 * SIDE, 3))
    features = convnext_features(source, convnext())
    ours = with_weights(keras.Model(source, features), convnext_from_keras(keras_convnext))
    picture = np.random.default_rng(3).normal(size=(2, SIDE, 2 * SIDE, 3)).astype(np.float32)
    # Without its top, theirs still ends with the norm that belongs to the classifier.
    theirs = keras.Model(keras_convnext.input, keras_convnext.layers[-1].input)
    assert_close(ours(picture).numpy(), theirs(picture).numpy())


@pytest.mark.slow
def test_imagenet_start_gives_weights_for_both_backbones(monkeypatch, keras_resnet, keras_convnext):
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **options: keras_resnet)
    monkeypatch.setattr(keras.applications, "ConvNeXtTiny", lambda **options: keras_convnext)
    config, weights = imagenet_start(preset_config("paper", THREE_LABELS))
    assert config.visual == resnet(50, stride_on="1x1")
    assert config.audio == convnext()
    assert weights["visual/stem/kernel"].shape == (7, 7, 31, 64)
    kernel = keras_resnet.get_layer("conv1_conv").get_weights()[0]
    np.testing.assert_allclose(weights["visual/stem/kernel"].sum(axis=2), kernel.sum(axis=2), atol=1e-6)
    assert {name.split("/")[0] for name in weights} == {"visual", "audio"}


def test_imagenet_start_refuses_other_networks_and_names_a_failed_download(monkeypatch):
    for options in ({"name": "nano"}, {"name": "paper", "visual_depth": 18}, {"name": "paper", "audio_norm": "batch"}):
        with pytest.raises(UsageError, match="use --preset paper"):
            imagenet_start(preset_config(labels=THREE_LABELS, **options))

    def unreachable(**options):
        raise OSError("URL fetch failure: no route to host")

    monkeypatch.setattr(keras.applications, "ResNet50", unreachable)
    with pytest.raises(MissingComponentError, match=r"could not be downloaded \(URL fetch failure.*connect to the net"):
        imagenet_start(preset_config("paper", THREE_LABELS))


@settings(max_examples=2)
@given(model_configs())
def test_any_widths_build_and_classify(config):
    recogniser = build_recogniser(config)
    assert [tensor.name for tensor in recogniser.fused.inputs] == ["skeleton", "audio"]
    rng = np.random.default_rng(0)
    skeleton = rng.random((2, *config.spec.skeleton.shape)).astype(np.float32)
    audio = rng.normal(size=(2, *config.spec.audio.shape)).astype(np.float32)
    fused = recogniser.fused([skeleton, audio]).numpy()
    for logits in (fused, recogniser.visual(skeleton).numpy(), recogniser.audio(audio).numpy()):
        assert logits.shape == (2, config.classes)
        assert np.isfinite(logits).all()
    np.testing.assert_array_equal(recogniser.head(recogniser.features([skeleton, audio])).numpy(), fused)


def layer_norm(x, gamma, beta):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * gamma + beta


def test_fusion_equals_cross_attention_in_numpy():
    """Audio tokens ask one by one, head by head; float64."""
    config = tiny_config(spec=tiny_spec(side=64, bands=64, frames=96))
    recogniser = build_recogniser(config)
    rng = np.random.default_rng(4)
    for variable in recogniser.head.variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    w = {v.name.removesuffix(":0"): v.numpy().astype(np.float64) for v in recogniser.head.variables}
    visual = rng.normal(size=(2, 2, 2, 16)).astype(np.float32)
    audio = rng.normal(size=(2, 2, 3, 8)).astype(np.float32)
    logits = recogniser.head([visual, audio]).numpy()

    def dense(x, name):
        return x @ w[f"fusion/{name}/kernel"].reshape(x.shape[-1], -1) + w[f"fusion/{name}/bias"]

    f = config.fusion
    for row in range(2):
        a = dense(audio[row].astype(np.float64).reshape(6, 8), "audio")
        v = dense(visual[row].astype(np.float64).reshape(4, 16), "visual")
        mixed = np.zeros((6, f.heads * f.value_dim))
        for head in range(f.heads):
            keys = slice(head * f.key_dim, (head + 1) * f.key_dim)
            values = slice(head * f.value_dim, (head + 1) * f.value_dim)
            for token in range(6):
                scores = [
                    np.dot(dense(a, "query")[token, keys], dense(v, "key")[other, keys]) / math.sqrt(f.key_dim)
                    for other in range(4)
                ]
                shares = np.exp(scores) / np.exp(scores).sum()
                mixed[token, values] = shares @ dense(v, "value")[:, values]
        fused = layer_norm(a + dense(mixed, "output"), w["fusion/norm/gamma"], w["fusion/norm/beta"])
        np.testing.assert_allclose(logits[row], dense(fused.mean(axis=0), "classifier"), atol=1e-5)


def test_gelu_and_layer_scale_equal_numpy():
    x = np.random.default_rng(5).normal(3, 2, (2, 3, 4, 7)).astype(np.float32)
    np.testing.assert_array_equal(LayerScale(0.25)(x).numpy(), 0.25 * x)
    expected = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel().tolist()]).reshape(x.shape)
    np.testing.assert_allclose(gelu(x).numpy(), expected, atol=1e-6)


def test_dropout_is_a_function_of_its_seed():
    x = np.ones((50, 100), np.float32)
    layer = SeededDropout(0.25)
    first = layer(x, training=True).numpy()
    np.testing.assert_array_equal(layer(x, training=True).numpy(), first)
    np.testing.assert_array_equal(layer(x, training=False).numpy(), x)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.03)
    layer.seed.assign([0, 1])
    assert (layer(x, training=True).numpy() != first).any()
    assert layer.weights == []


@pytest.fixture(scope="module")
def recogniser():
    return build_recogniser(tiny_config(), seed=1)


def test_the_seed_decides_the_weights(recogniser):
    first, again = recogniser.weights(), build_recogniser(tiny_config(), seed=1).weights()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    other = build_recogniser(tiny_config(), seed=2).weights()
    assert not np.array_equal(first["visual/stem/kernel"], other["visual/stem/kernel"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop("audio/stem/conv/bias"), "name 1 different tensors, the first 'audio/stem/conv/bias'"),
        (lambda w: w.update(extra=np.zeros(1)), "name 1 different tensors, the first 'extra'"),
        (
            lambda w: w.update({"audio/stem/conv/bias": np.zeros(5, np.float32)}),
            r"weight 'audio/stem/conv/bias' has shape \(5,\), the configuration \(4,\)",
        ),
        (lambda w: w["audio/stem/conv/bias"].fill(np.nan), "'audio/stem/conv/bias' holds numbers that are not finite"),
    ],
    ids=["missing", "extra", "shape", "nan"],
)
def test_weights_that_do_not_fit_are_refused(recogniser, damage, message):
    weights = {name: value.copy() for name, value in recogniser.weights().items()}
    damage(weights)
    with pytest.raises(DataError, match=message):
        recogniser.set_weights(weights)

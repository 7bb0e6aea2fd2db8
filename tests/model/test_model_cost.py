"""Parameters and multiply-accumulates, against published numbers and against built networks."""

from __future__ import annotations

import math
import re

import pytest
import tf_keras as keras
from hypothesis import given, settings
from kit.tiny import THREE_LABELS, model_configs, tiny_config

from model.config import DeployForm, convnext, preset_config, resnet
from model.cost import convnext_cost, model_cost, resnet_cost
from model.folding import fold
from model.layers import MatMul
from model.recogniser import build_recogniser

IMAGE = (224, 224)


@pytest.mark.parametrize(
    ("config", "parameters", "giga_macs"),
    [
        (resnet(18), 11_689_512, 1.814),
        (resnet(34), 21_797_672, 3.664),
        (resnet(50), 25_557_032, 4.089),
        (resnet(50, stride_on="1x1"), 25_557_032, 3.858),
        (convnext(), 28_589_128, 4.456),
    ],
    ids=["ResNet-18", "ResNet-34", "ResNet-50 v1.5", "ResNet-50 v1", "ConvNeXt-T"],
)
def test_backbones_cost_what_is_published(config, parameters, giga_macs):
    """Parameters of torchvision; MACs as fvcore and timm count them. Liu et al. 2022 give 28.6 M and 4.5 G."""
    cost = (convnext_cost if config == convnext() else resnet_cost)(config, IMAGE, 3, classes=1000)
    assert cost.parameters == parameters
    assert cost.macs == pytest.approx(giga_macs * 1e9, abs=0.5e6)


def macs_of(model: keras.Model) -> int:
    """Counted layer by layer from the shapes of a built model."""
    total = 0
    for layer in model.layers:
        positions = math.prod(layer.output_shape[1:-1]) if isinstance(layer.output_shape, tuple) else 0
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            total += math.prod(layer.depthwise_kernel.shape) * positions
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            total += math.prod(layer.kernel.shape) * positions
        elif isinstance(layer, MatMul):
            total += math.prod(layer.output_shape[1:]) * layer.input_shape[0][-1]
    return total


def trained(model: keras.Model) -> int:
    return sum(math.prod(v.shape) for v in model.trainable_variables)


def check_counts(config):
    recogniser, cost = build_recogniser(config), model_cost(config)
    assert cost.parameters == trained(recogniser.features) + trained(recogniser.head) == trained(recogniser.fused)
    assert cost.macs == macs_of(recogniser.features) + macs_of(recogniser.head)
    names = {variable.name.rsplit("/", 1)[0].removesuffix("/bn") for variable in recogniser.fused.trainable_variables}
    assert {layer.name for layer in cost.layers if layer.parameters} == names
    visual = resnet_cost(
        config.visual, config.spec.skeleton.shape[:2], config.spec.skeleton.channels, classes=config.classes
    )
    audio = convnext_cost(config.audio, config.spec.audio.shape[:2], 3, classes=config.classes)
    assert (visual.parameters, visual.macs) == (trained(recogniser.visual), macs_of(recogniser.visual))
    assert (audio.parameters, audio.macs) == (trained(recogniser.audio), macs_of(recogniser.audio))


@settings(max_examples=2)
@given(model_configs())
def test_counts_equal_those_of_the_built_model(config):
    check_counts(config)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "norm"), [(50, "layer"), (18, "batch")])
def test_counts_equal_those_of_the_built_nano_model(depth, norm):
    check_counts(preset_config("nano", THREE_LABELS, visual_depth=depth, audio_norm=norm))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_deployed_parameters_equal_those_after_folding(norm):
    config = tiny_config(norm=norm)
    weights, means = build_recogniser(config).weights(), re.compile(r"/(mean|variance)/(kernel|bias)$")
    for form in ("convolutions", "layer"):
        folded = fold(config, weights, DeployForm("split", form))
        left = {name: value.size for name, value in folded.items() if not means.search(name)}
        cost = model_cost(config, layer_norm=form)
        assert cost.deployed_parameters == sum(left.values())
        for part in ("visual", "audio", "fusion"):
            expected = sum(size for name, size in left.items() if name.startswith(part))
            assert cost.part(part).deployed_parameters == expected

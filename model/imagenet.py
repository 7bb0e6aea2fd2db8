"""Weights of keras.applications' ResNet50 and ConvNeXtTiny in this project's names and shapes.

The mapping changes no result: bias of a convolution before batch norm goes into the norm's moving mean, a dense
layer on a feature map becomes a 1 × 1 convolution.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import MissingComponentError, UsageError

from .config import ModelConfig, convnext, resnet
from .recogniser import Weights

_CONVNEXT = "convnext_tiny"


def imagenet_start(config: ModelConfig) -> tuple[ModelConfig, Weights]:
    """Configuration and backbone weights for a start from ImageNet; the weights are downloaded by Keras.

    keras.applications' ResNet50 strides on the first 1 × 1 convolution, so the configuration comes back with
    `stride_on="1x1"`.

    Raises:
        UsageError: the configuration is not that of the published widths.
        MissingComponentError: the weights could not be downloaded.
    """
    import tf_keras as keras

    visual = replace(config.visual, stride_on="1x1")
    if visual != resnet(50, stride_on="1x1") or config.audio != convnext():
        raise UsageError("--init imagenet fits ResNet-50 and ConvNeXt-Tiny as published; use --preset paper")
    try:
        seen = keras.applications.ResNet50(weights="imagenet", include_top=False)
        heard = keras.applications.ConvNeXtTiny(weights="imagenet", include_top=False, include_preprocessing=False)
    except Exception as error:
        raise MissingComponentError(
            f"ImageNet weights could not be downloaded ({error}); connect to the network once, Keras keeps them"
        ) from error
    weights = resnet_from_keras(seen, channels=config.spec.skeleton.channels)
    return replace(config, visual=visual), weights | convnext_from_keras(heard)


def resnet_from_keras(model: Any, *, channels: int, name: str = "visual") -> Weights:
    """Backbone weights of a keras.applications ResNet50.

    Args:
        model: with or without its top.
        channels: input channels wanted; for other than three the RGB kernel's mean is repeated and rescaled by
            3 / channels, so that a grey picture gives the same activations.
    """
    weights: Weights = {}
    weights |= _conv_bn(model, "conv1", f"{name}/stem")
    weights[f"{name}/stem/kernel"] = _spread(weights[f"{name}/stem/kernel"], channels)
    for level, count in enumerate((3, 4, 6, 3)):
        for block in range(count):
            theirs = f"conv{level + 2}_block{block + 1}"
            ours = f"{name}/stage{level}/block{block}"
            if block == 0:
                weights |= _conv_bn(model, f"{theirs}_0", f"{ours}/shortcut")
            for step in range(3):
                weights |= _conv_bn(model, f"{theirs}_{step + 1}", f"{ours}/conv{step}")
    return weights


def convnext_from_keras(model: Any, *, name: str = "audio") -> Weights:
    """Backbone weights of a keras.applications ConvNeXtTiny, with or without its top."""
    weights: Weights = {}
    stem = model.get_layer(f"{_CONVNEXT}_stem").layers
    weights |= _named(stem[0], f"{name}/stem/conv", "kernel", "bias")
    weights |= _named(stem[1], f"{name}/stem/norm", "gamma", "beta")
    for level, count in enumerate((3, 3, 9, 3)):
        if level:
            down = model.get_layer(f"{_CONVNEXT}_downsampling_block_{level - 1}").layers
            weights |= _named(down[0], f"{name}/stage{level}/downsample/norm", "gamma", "beta")
            weights |= _named(down[1], f"{name}/stage{level}/downsample/conv", "kernel", "bias")
        for block in range(count):
            theirs = f"{_CONVNEXT}_stage_{level}_block_{block}"
            ours = f"{name}/stage{level}/block{block}"
            kernel, bias = model.get_layer(f"{theirs}_depthwise_conv").get_weights()
            # Theirs is a convolution with as many groups as channels: [7, 7, 1, C].
            weights[f"{ours}/depthwise/depthwise_kernel"] = kernel.transpose(0, 1, 3, 2)
            weights[f"{ours}/depthwise/bias"] = bias
            weights |= _named(model.get_layer(f"{theirs}_layernorm"), f"{ours}/norm", "gamma", "beta")
            for index, part in ((1, "expand"), (2, "project")):
                dense = _named(model.get_layer(f"{theirs}_pointwise_conv_{index}"), f"{ours}/{part}", "kernel", "bias")
                dense[f"{ours}/{part}/kernel"] = dense[f"{ours}/{part}/kernel"][None, None]
                weights |= dense
            weights |= _named(model.get_layer(f"{theirs}_layer_scale"), f"{ours}/scale", "gamma")
    return weights


def _conv_bn(model: Any, theirs: str, ours: str) -> Weights:
    kernel, bias = model.get_layer(f"{theirs}_conv").get_weights()
    gamma, beta, mean, variance = model.get_layer(f"{theirs}_bn").get_weights()
    return {
        f"{ours}/kernel": kernel,
        f"{ours}/bn/gamma": gamma,
        f"{ours}/bn/beta": beta,
        f"{ours}/bn/moving_mean": mean - bias,
        f"{ours}/bn/moving_variance": variance,
    }


def _named(layer: Any, ours: str, *names: str) -> Weights:
    return {f"{ours}/{name}": value for name, value in zip(names, layer.get_weights(), strict=True)}


def _spread(kernel: npt.NDArray[np.float32], channels: int) -> npt.NDArray[np.float32]:
    """A kernel [h, w, 3, n] for another number of input channels."""
    if channels == kernel.shape[2]:
        return kernel
    mean = kernel.mean(axis=2, keepdims=True) * (kernel.shape[2] / channels)
    return np.repeat(mean, channels, axis=2).astype(np.float32)

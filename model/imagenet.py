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
        UsageError: the configuration has other than the published widths.
        MissingComponentError: the weights could not be downloaded.
    """
    import tf_keras as keras

    visual = replace(config.visual, stride_on="1x1")
    if visual != resnet(50, stride_on="1x1") or config.audio != convnext():
        raise UsageError("--init imagenet fits ResNet-50 and ConvNeXt-Tiny as published; use --preset paper")
    try:
        resnet50 = keras.applications.ResNet50(weights="imagenet", include_top=False)
        convnext_tiny = keras.applications.ConvNeXtTiny(
            weights="imagenet", include_top=False, include_preprocessing=False
        )
    except Exception as error:
        raise MissingComponentError(
            f"ImageNet weights could not be downloaded ({error}); connect to the network once, Keras keeps them"
        ) from error
    weights = resnet_from_keras(resnet50, channels=config.spec.skeleton.channels)
    return replace(config, visual=visual), weights | convnext_from_keras(convnext_tiny)


def resnet_from_keras(model: Any, *, channels: int) -> Weights:
    """Backbone weights of a keras.applications ResNet50.

    Args:
        model: with or without its top.
        channels: input channels of the stem; for other than three the RGB kernel's mean is repeated and rescaled by
            3 / channels, so that a grey picture gives the same activations.
    """
    weights: Weights = {}
    weights |= _conv_bn(model, "conv1", "visual/stem")
    weights["visual/stem/kernel"] = _spread(weights["visual/stem/kernel"], channels)
    for block in resnet(50).blocks():
        theirs = f"conv{block.level + 2}_block{block.index + 1}"
        if block.shortcut:
            weights |= _conv_bn(model, f"{theirs}_0", f"{block.name}/shortcut")
        for step, (ours, *_) in enumerate(block.convolutions, start=1):
            weights |= _conv_bn(model, f"{theirs}_{step}", ours)
    return weights


def convnext_from_keras(model: Any) -> Weights:
    """Backbone weights of a keras.applications ConvNeXtTiny, with or without its top."""
    weights: Weights = {}
    stem = model.get_layer(f"{_CONVNEXT}_stem").layers
    weights |= _named(stem[0], "audio/stem/conv", "kernel", "bias")
    weights |= _named(stem[1], "audio/stem/norm", "gamma", "beta")
    for block in convnext().blocks():
        ours, theirs = block.name, f"{_CONVNEXT}_stage_{block.level}_block_{block.index}"
        if block.entry and block.level:
            downsample = model.get_layer(f"{_CONVNEXT}_downsampling_block_{block.level - 1}").layers
            weights |= _named(downsample[0], f"{block.entry}/norm", "gamma", "beta")
            weights |= _named(downsample[1], f"{block.entry}/conv", "kernel", "bias")
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

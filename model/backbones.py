"""The two backbones with free widths: ResNet-18, -34 and -50 (He et al. 2015) and ConvNeXt (Liu et al. 2022)."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from .config import CONVNEXT_EPSILON, RESNET_EPSILON, ConvNeXtBlock, ConvNeXtConfig, Norm, ResNetBlock, ResNetConfig
from .layers import LayerNorm, LayerScale, gelu

# Keras' 0.99 averages over hundreds of steps; a small data set has some tens in an epoch.
_BATCH_NORM_MOMENTUM = 0.9


def resnet_features(x: Any, config: ResNetConfig) -> Any:
    """Map an image tensor [B, S, S, C] to features [B, S/32, S/32, residual width of the last stage]."""
    x = keras.layers.ZeroPadding2D(3, name="visual/stem/pad")(x)
    x = _conv_bn(x, config.stem, 7, "visual/stem", stride=2, padding="valid")
    x = keras.layers.ReLU(name="visual/stem/relu")(x)
    x = keras.layers.ZeroPadding2D(1, name="visual/stem/pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="visual/stem/pool")(x)
    for block in config.blocks():
        x = _residual_block(x, block)
    return x


def _residual_block(x: Any, block: ResNetBlock) -> Any:
    shortcut = x
    if block.shortcut:
        shortcut = _conv_bn(x, block.residual, 1, f"{block.name}/shortcut", stride=block.stride)
    for name, kernel, width, stride in block.convolutions:
        x = _conv_bn(x, width, kernel, name, stride=stride)
        if name != block.convolutions[-1][0]:
            x = keras.layers.ReLU(name=f"{name}/relu")(x)
    x = keras.layers.Add(name=f"{block.name}/add")([shortcut, x])
    return keras.layers.ReLU(name=f"{block.name}/relu")(x)


def _conv_bn(x: Any, width: int, kernel: int, name: str, *, stride: int = 1, padding: str = "same") -> Any:
    x = keras.layers.Conv2D(
        width, kernel, stride, padding=padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return keras.layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM, epsilon=RESNET_EPSILON, name=f"{name}/bn")(x)


def convnext_features(x: Any, config: ConvNeXtConfig) -> Any:
    """Map a spectrogram tensor [B, H, W, C] to features [B, H/32, W/32, width of the last stage]."""
    for block in config.blocks():
        if block.entry and block.level == 0:
            x = _conv(x, block.width, 4, f"{block.entry}/conv", stride=4)
            x = norm(x, config.norm, f"{block.entry}/norm")
        elif block.entry:
            x = norm(x, config.norm, f"{block.entry}/norm")
            x = _conv(x, block.width, 2, f"{block.entry}/conv", stride=2)
        x = _convnext_block(x, block, config)
    return x


def norm(x: Any, kind: Norm, name: str) -> Any:
    """The normalisation that the configuration asks for."""
    if kind == "batch":
        return keras.layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM, epsilon=CONVNEXT_EPSILON, name=name)(x)
    return LayerNorm(name=name)(x)


def _convnext_block(x: Any, block: ConvNeXtBlock, config: ConvNeXtConfig) -> Any:
    name = block.name
    depthwise = keras.layers.DepthwiseConv2D(
        7, padding="same", depthwise_initializer=_initializer(), name=f"{name}/depthwise"
    )
    y = norm(depthwise(x), config.norm, f"{name}/norm")
    y = _conv(y, block.expanded, 1, f"{name}/expand")
    y = keras.layers.Activation(gelu, name=f"{name}/gelu")(y)
    y = _conv(y, block.width, 1, f"{name}/project")
    y = LayerScale(config.layer_scale_init, name=f"{name}/scale")(y)
    return keras.layers.Add(name=f"{name}/add")([x, y])


def _conv(x: Any, width: int, kernel: int, name: str, *, stride: int = 1) -> Any:
    """A convolution; with kernel 1 the dense layer on a feature map."""
    return keras.layers.Conv2D(width, kernel, stride, kernel_initializer=_initializer(), name=name)(x)


def _initializer() -> Any:
    """Fan-in scaling: about the published 0.02 at some hundred channels, and right for narrow networks too."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")

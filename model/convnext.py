"""ConvNeXt (Liu et al. 2022) with free widths and a choice of normalisation."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from .config import ConvNeXtConfig
from .layers import Gelu, LayerNorm, LayerScale
from .resnet import BATCH_NORM_MOMENTUM


def convnext_features(x: Any, config: ConvNeXtConfig, *, name: str = "audio") -> Any:
    """Maps a spectrogram tensor [B, H, W, C] to features [B, H/32, W/32, width of the last stage]."""
    for level, stage in enumerate(config.stages):
        if level == 0:
            x = _conv(x, stage.width, 4, f"{name}/stem/conv", stride=4)
            x = norm(x, config.norm, f"{name}/stem/norm")
        else:
            x = norm(x, config.norm, f"{name}/stage{level}/downsample/norm")
            x = _conv(x, stage.width, 2, f"{name}/stage{level}/downsample/conv", stride=2)
        for index, expanded in enumerate(stage.expanded):
            x = _block(x, expanded, config, f"{name}/stage{level}/block{index}")
    return x


def norm(x: Any, kind: str, name: str) -> Any:
    """The normalisation that the configuration asks for."""
    if kind == "batch":
        return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=1e-3, name=name)(x)
    return LayerNorm(name=name)(x)


def _block(x: Any, expanded: int, config: ConvNeXtConfig, name: str) -> Any:
    width = x.shape[-1]
    y = keras.layers.DepthwiseConv2D(7, padding="same", depthwise_initializer=_initializer(), name=f"{name}/depthwise")(
        x
    )
    y = norm(y, config.norm, f"{name}/norm")
    y = _conv(y, expanded, 1, f"{name}/expand")
    y = Gelu(name=f"{name}/gelu")(y)
    y = _conv(y, width, 1, f"{name}/project")
    y = LayerScale(config.layer_scale_init, name=f"{name}/scale")(y)
    return keras.layers.Add(name=f"{name}/add")([x, y])


def _conv(x: Any, width: int, kernel: int, name: str, *, stride: int = 1) -> Any:
    """A convolution; with kernel 1 the dense layer on a feature map."""
    return keras.layers.Conv2D(width, kernel, stride, kernel_initializer=_initializer(), name=name)(x)


def _initializer() -> Any:
    """Fan-in scaling: about the published 0.02 at some hundred channels, and right for narrow networks too."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal")

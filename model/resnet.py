"""ResNet-18, -34 and -50 (He et al. 2015) with free widths. Batch norm as in keras.applications."""

from __future__ import annotations

from typing import Any

import tf_keras as keras

from .config import ResNetConfig, ResNetStage

_EPSILON = 1.001e-5
# Keras' 0.99 averages over hundreds of steps; a small data set has some tens in an epoch.
BATCH_NORM_MOMENTUM = 0.9


def resnet_features(x: Any, config: ResNetConfig, *, name: str = "visual") -> Any:
    """Maps an image tensor [B, S, S, C] to features [B, S/32, S/32, residual width of the last stage]."""
    x = keras.layers.ZeroPadding2D(3, name=f"{name}/stem/pad")(x)
    x = _conv_bn(x, config.stem, 7, f"{name}/stem", stride=2, padding="valid")
    x = keras.layers.ReLU(name=f"{name}/stem/relu")(x)
    x = keras.layers.ZeroPadding2D(1, name=f"{name}/stem/pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name=f"{name}/stem/pool")(x)
    for level, stage in enumerate(config.stages):
        for index, inner in enumerate(stage.inner):
            stride = 2 if level > 0 and index == 0 else 1
            x = _block(x, stage, inner, stride, config.stride_on, f"{name}/stage{level}/block{index}", first=index == 0)
    return x


def _block(
    x: Any, stage: ResNetStage, inner: tuple[int, ...], stride: int, stride_on: str, name: str, *, first: bool
) -> Any:
    bottleneck = len(inner) == 2
    # A basic network's first stage keeps its identity shortcut when the widths agree, as published.
    project = first and (bottleneck or stride != 1 or x.shape[-1] != stage.residual)
    shortcut = _conv_bn(x, stage.residual, 1, f"{name}/shortcut", stride=stride) if project else x
    if bottleneck:
        strides = (stride, 1, 1) if stride_on == "1x1" else (1, stride, 1)
        plan = ((inner[0], 1), (inner[1], 3), (stage.residual, 1))
    else:
        strides = (stride, 1)  # type: ignore[assignment]
        plan = ((inner[0], 3), (stage.residual, 3))  # type: ignore[assignment]
    for step, ((width, kernel), by) in enumerate(zip(plan, strides, strict=True)):
        x = _conv_bn(x, width, kernel, f"{name}/conv{step}", stride=by)
        if step < len(plan) - 1:
            x = keras.layers.ReLU(name=f"{name}/conv{step}/relu")(x)
    x = keras.layers.Add(name=f"{name}/add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}/relu")(x)


def _conv_bn(x: Any, width: int, kernel: int, name: str, *, stride: int = 1, padding: str = "same") -> Any:
    x = keras.layers.Conv2D(
        width, kernel, stride, padding=padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=_EPSILON, name=f"{name}/bn")(x)

"""The recogniser in its deploy form: one graph of the operations that runtimes have fast kernels for.

It is built over the same configuration as the training form and computes the same logits. Batch norm, LayerScale, the
attention's scale and the affine parts of layer norm are folded into convolutions (`model.folding`), dense layers are
1 × 1 convolutions, nothing has a dynamic shape but the batch. Targets disagree on two things, which a
`model.config.DeployForm` names: the 7 × 7 depthwise convolution and layer norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tf_keras as keras

from .config import DeployForm, ModelConfig, ResNetBlock
from .folding import BIASED_PART, PARTS, Weights
from .layers import Heads, JoinHeads, LayerNorm, MatMul, gelu, rsqrt
from .recogniser import set_variables

Tap: TypeAlias = Callable[[Any, str], Any]


def build_deploy(config: ModelConfig, form: DeployForm, tap: Tap | None = None) -> keras.Model:
    """A Keras model (skeleton [B, S, S, C], audio [B, bands, frames, 3]) → logits [B, classes], weights unset.

    A single stream has only its input.

    Args:
        config: widths and sizes.
        form: stream, and how the target wants depthwise convolutions and layer norm.
        tap: called with every activation that an integer graph stores and its name, in the order of computation; its
            result takes the activation's place. Inputs have the names `skeleton` and `audio`, the output `logits`.
    """
    return _Builder(config, form, tap or (lambda x, name: x)).model()


def set_deploy_weights(model: keras.Model, weights: Weights) -> None:
    """Copy the weights of `model.folding.fold` into a model of `build_deploy`; raises as `set_variables`."""
    set_variables({v.name.removesuffix(":0"): v for v in model.variables}, weights)


class _Builder:
    def __init__(self, config: ModelConfig, form: DeployForm, tap: Tap) -> None:
        self._config, self._form, self._tap = config, form, tap

    def model(self) -> keras.Model:
        spec = self._config.spec
        skeleton = keras.Input(spec.skeleton.shape, name="skeleton")
        audio = keras.Input(spec.audio.shape, name="audio")
        if self._form.stream != "audio":
            visual_features = self._resnet(self._tap(skeleton, "skeleton"))
        if self._form.stream == "visual":
            return keras.Model([skeleton], self._classifier(visual_features, "visual"), name="recogniser")
        audio_features = self._convnext(self._tap(audio, "audio"))
        if self._form.stream == "audio":
            return keras.Model([audio], self._classifier(audio_features, "audio"), name="recogniser")
        return keras.Model([skeleton, audio], self._fusion(visual_features, audio_features), name="recogniser")

    def _classifier(self, x: Any, stream: str) -> Any:
        """The head of a single stream: pooling, for ConvNeXt a norm, and a linear classifier."""
        x = self._tap(keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{stream}/pool")(x), f"{stream}/pool")
        if stream == "audio":
            x = self._norm(x, "audio/norm")
        x = keras.layers.Flatten(name=f"{stream}/flat")(x)
        return self._tap(keras.layers.Dense(self._config.classes, name=f"{stream}/classifier")(x), "logits")

    # ResNet

    def _resnet(self, x: Any) -> Any:
        config = self._config.visual
        x = keras.layers.ZeroPadding2D(3, name="visual/stem/pad")(x)
        x = self._conv(x, config.stem, 7, "visual/stem", stride=2, padding="valid", relu=True)
        x = keras.layers.ZeroPadding2D(1, name="visual/stem/pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="visual/stem/pool")(x)
        for block in config.blocks():
            x = self._residual_block(x, block)
        return x

    def _residual_block(self, x: Any, block: ResNetBlock) -> Any:
        shortcut = x
        if block.shortcut:
            shortcut = self._conv(x, block.residual, 1, f"{block.name}/shortcut", stride=block.stride)
        last = block.convolutions[-1][0]
        for name, kernel, width, stride in block.convolutions:
            x = self._conv(x, width, kernel, name, stride=stride, relu=name != last)
        x = keras.layers.Add(name=f"{block.name}/add")([shortcut, x])
        return self._tap(keras.layers.ReLU(name=f"{block.name}/relu")(x), block.name)

    # ConvNeXt

    def _convnext(self, x: Any) -> Any:
        for block in self._config.audio.blocks():
            if block.entry and block.level == 0:
                x = self._conv(x, block.width, 4, f"{block.entry}/conv", stride=4, padding="valid")
                x = self._norm(x, f"{block.entry}/norm", affine=True)
            elif block.entry:
                x = self._norm(x, f"{block.entry}/norm")
                x = self._conv(x, block.width, 2, f"{block.entry}/conv", stride=2, padding="valid")
            x = self._convnext_block(x, block.expanded, block.name)
        return x

    def _convnext_block(self, x: Any, expanded: int, name: str) -> Any:
        y = self._depthwise(x, f"{name}/depthwise")
        y = self._norm(y, f"{name}/norm")
        y = self._conv(y, expanded, 1, f"{name}/expand")
        y = self._tap(keras.layers.Activation(gelu, name=f"{name}/gelu")(y), f"{name}/gelu")
        y = self._conv(y, x.shape[-1], 1, f"{name}/project")
        return self._tap(keras.layers.Add(name=f"{name}/add")([x, y]), name)

    def _depthwise(self, x: Any, name: str) -> Any:
        if self._form.depthwise == "whole":
            return self._tap(keras.layers.DepthwiseConv2D(7, padding="same", name=name)(x), name)
        total = None
        for part, (size, dilation) in PARTS.items():
            layer = keras.layers.DepthwiseConv2D(
                size, padding="same", dilation_rate=dilation, use_bias=part == BIASED_PART, name=f"{name}/{part}"
            )
            y = self._tap(layer(x), f"{name}/{part}")
            if total is not None:
                y = self._tap(keras.layers.Add(name=f"{name}/{part}/add")([total, y]), f"{name}/{part}/add")
            total = y
        return total

    def _norm(self, x: Any, name: str, *, affine: bool = False) -> Any:
        """Layer norm; nothing where batch norm was learned, for it is folded away.

        `affine`: no convolution follows that could absorb scale and offset.
        """
        if self._config.audio.norm == "batch":
            return x
        return self._layer_norm(x, name, affine=affine)

    def _layer_norm(self, x: Any, name: str, *, affine: bool = False) -> Any:
        if self._form.layer_norm == "layer":
            return self._tap(LayerNorm(name=name)(x), name)
        mean = self._mean(x, f"{name}/mean")
        centred = self._tap(keras.layers.Subtract(name=f"{name}/centre")([x, mean]), f"{name}/centre")
        square = self._tap(keras.layers.Multiply(name=f"{name}/square")([centred, centred]), f"{name}/square")
        variance = self._mean(square, f"{name}/variance", use_bias=True)
        inverse = self._tap(keras.layers.Activation(rsqrt, name=f"{name}/inverse")(variance), f"{name}/inverse")
        y = self._tap(keras.layers.Multiply(name=f"{name}/scale")([centred, inverse]), f"{name}/scale")
        if affine:
            y = self._tap(keras.layers.DepthwiseConv2D(1, name=f"{name}/affine")(y), name)
        return y

    def _mean(self, x: Any, name: str, *, use_bias: bool = False) -> Any:
        """Mean over channels as a 1 × 1 convolution; a bias holds the ε of the variance."""
        return self._tap(keras.layers.Conv2D(1, 1, use_bias=use_bias, name=name)(x), name)

    # Fusion

    def _fusion(self, visual_features: Any, audio_features: Any) -> Any:
        f = self._config.fusion
        a = self._conv(audio_features, f.audio_width, 1, "fusion/audio")
        v = self._conv(visual_features, f.visual_width, 1, "fusion/visual")
        query = self._conv(a, f.heads * f.key_dim, 1, "fusion/query")
        key = self._conv(v, f.heads * f.key_dim, 1, "fusion/key")
        value = self._conv(v, f.heads * f.value_dim, 1, "fusion/value")
        split = [
            Heads(f.heads, name=f"fusion/{name}/heads")(t)
            for name, t in (("query", query), ("key", key), ("value", value))
        ]
        scores = self._tap(MatMul(transpose_b=True, name="fusion/scores")(split[:2]), "fusion/scores")
        shares = keras.layers.Softmax(name="fusion/softmax")(scores)
        mixed = self._tap(MatMul(name="fusion/mixed")([shares, split[2]]), "fusion/mixed")
        mixed = JoinHeads((a.shape[1], a.shape[2]), name="fusion/grid")(mixed)
        mixed = self._conv(mixed, f.audio_width, 1, "fusion/output")
        x = self._tap(keras.layers.Add(name="fusion/add")([a, mixed]), "fusion/add")
        x = self._layer_norm(x, "fusion/norm")
        pooled = self._tap(keras.layers.GlobalAveragePooling2D(name="fusion/pool")(x), "fusion/pool")
        return self._tap(keras.layers.Dense(self._config.classes, name="fusion/classifier")(pooled), "logits")

    def _conv(
        self, x: Any, width: int, kernel: int, name: str, *, stride: int = 1, padding: str = "same", relu: bool = False
    ) -> Any:
        x = keras.layers.Conv2D(width, kernel, stride, padding=padding, name=name)(x)
        if relu:
            x = keras.layers.ReLU(name=f"{name}/relu")(x)
        return self._tap(x, name)

"""The few layers that Keras lacks, written so that TFLite and ONNX converters recognise them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import tensorflow as tf
import tf_keras as keras

from .config import LAYER_NORM_EPSILON

_STAND_INS = ContextVar("stand_ins", default=False)


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Within, layer norm and GELU are traced as one operation each, of another kind: lgamma and erf.

    A converter that would take them apart gives single nodes instead, to be exchanged in its result
    (`export.onnx_file`). The numbers of such a trace mean nothing.
    """
    token = _STAND_INS.set(True)
    try:
        yield
    finally:
        _STAND_INS.reset(token)


class LayerNorm(keras.layers.Layer):  # type: ignore[misc]
    """Layer normalisation over the last axis, ε = 1e-6, as in ConvNeXt."""

    epsilon = LAYER_NORM_EPSILON

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight("gamma", (shape[-1],), initializer="ones")
        self.beta = self.add_weight("beta", (shape[-1],), initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        if _STAND_INS.get():
            return tf.math.lgamma(x)
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        centred = x - mean
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + self.epsilon) * self.gamma + self.beta


class LayerScale(keras.layers.Layer):  # type: ignore[misc]
    """A learned factor per channel (Touvron et al., CaiT)."""

    def __init__(self, initial: float, **options: Any) -> None:
        super().__init__(**options)
        self._initial = initial

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight("gamma", (shape[-1],), initializer=keras.initializers.Constant(self._initial))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.gamma


@keras.utils.register_keras_serializable("pocket_har")  # type: ignore[misc, untyped-decorator]
def gelu(x: tf.Tensor) -> tf.Tensor:
    """Exact GELU. Written with erf, since TensorFlow's own uses erfc, which tf2onnx cannot convert."""
    if _STAND_INS.get():
        return tf.math.erf(x)
    return 0.5 * x * (1.0 + tf.math.erf(x * (1.0 / math.sqrt(2.0))))


@keras.utils.register_keras_serializable("pocket_har")  # type: ignore[misc, untyped-decorator]
def rsqrt(x: tf.Tensor) -> tf.Tensor:
    """1 / √x."""
    return tf.math.rsqrt(x)


class Heads(keras.layers.Layer):  # type: ignore[misc]
    """A feature map [B, h, w, heads·d] as the tokens of every head [B, heads, h·w, d]."""

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self._heads = heads

    def call(self, x: tf.Tensor) -> tf.Tensor:
        tokens = x.shape[1] * x.shape[2]
        return tf.transpose(tf.reshape(x, (-1, tokens, self._heads, x.shape[3] // self._heads)), (0, 2, 1, 3))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self._heads}


class JoinHeads(keras.layers.Layer):  # type: ignore[misc]
    """Inverse of `Heads`: [B, heads, h·w, d] as [B, *size, heads·d], a feature map (h, w) or tokens (h·w,)."""

    def __init__(self, size: tuple[int, ...], **options: Any) -> None:
        super().__init__(**options)
        self._size = size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (-1, *self._size, x.shape[1] * x.shape[3]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self._size}


class MatMul(keras.layers.Layer):  # type: ignore[misc]
    """Product of two activations over their last two axes."""

    def __init__(self, *, transpose_b: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._transpose_b = transpose_b

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return tf.matmul(*inputs, transpose_b=self._transpose_b)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transpose_b": self._transpose_b}


class SeededDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose mask is a pure function of `seed`, so that a resumed training draws the same masks.

    The training loop sets `seed` before each step; it is no weight and is not saved.
    """

    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(**options)
        self._rate = rate
        # Set past Keras' tracking: the seed is not part of the model's state.
        object.__setattr__(self, "seed", tf.Variable([0, 0], dtype=tf.int32, trainable=False))

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or self._rate == 0:
            return x
        return tf.nn.experimental.stateless_dropout(x, self._rate, seed=self.seed)

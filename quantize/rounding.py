"""The deploy form with its activations exposed: to observe them, and to round them as an integer graph does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from model.config import DeployForm, ModelConfig
from model.deploy import build_deploy, set_deploy_weights
from model.folding import Array, Weights

Range = tuple[float, float]


def observed_deploy(config: ModelConfig, form: DeployForm, weights: Weights) -> tuple[keras.Model, dict[str, str]]:
    """A float deploy model with readable activations.

    Returns:
        The model: its inputs → every activation that an integer graph stores; and the names of the activations, in the
        order of the model's outputs, by the names of the Keras layers that produce them.
    """
    outputs: list[Any] = []
    producers: dict[str, str] = {}

    def tap(x: Any, name: str) -> Any:
        outputs.append(x)
        producers[x.node.layer.name] = name
        return x

    model = build_deploy(config, form, tap)
    set_deploy_weights(model, weights)
    return keras.Model(model.inputs, outputs), producers


def feed(model: keras.Model, batch: Mapping[str, Any]) -> list[Any]:
    """The model's inputs, chosen by name, in its order."""
    return [batch[tensor.name] for tensor in model.inputs]


class FakeQuant(keras.layers.Layer):  # type: ignore[misc]
    """Rounds to 256 levels over a range that contains zero (Jacob et al. 2018, Eq. 12).

    The boolean variable `switch` turns rounding on; without one it is always on.
    """

    def __init__(self, limits: Range, switch: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self._low, self._high = limits
        # Set past Keras' tracking: a switch is no weight.
        object.__setattr__(self, "_switch", switch)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        rounded = tf.quantization.fake_quant_with_min_max_args(x, self._low, self._high)
        return rounded if self._switch is None else tf.where(self._switch, rounded, x)


def quantized_deploy(
    config: ModelConfig, form: DeployForm, weights: Weights, ranges: Mapping[str, Range]
) -> keras.Model:
    """The deploy form with rounding to eight bits at every activation that has a range.

    The weights are not rounded: the TFLite converter does that itself; `round_weights` does it for a simulation.
    """

    def tap(x: Any, name: str) -> Any:
        return FakeQuant(ranges[name], name=f"{name}/round")(x) if name in ranges else x

    model = build_deploy(config, form, tap)
    set_deploy_weights(model, weights)
    return model


def round_weights(weights: Weights) -> Weights:
    """Round kernels to int8 as both converters do: symmetric, one scale per output channel."""
    return {name: _rounded(value, name) if "kernel" in name else value for name, value in weights.items()}


def axes_within_channel(kernel: Array, name: str) -> tuple[int, ...]:
    """All axes of a kernel except the output channels': the last, or the third of a depthwise kernel [h, w, C, 1]."""
    return (0, 1, 3) if name.endswith("depthwise_kernel") else tuple(range(kernel.ndim - 1))


def _rounded(kernel: Array, name: str) -> Array:
    scale = np.abs(kernel).max(axis=axes_within_channel(kernel, name), keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1)
    rounded: Array = (np.clip(np.rint(kernel / scale), -127, 127) * scale).astype(np.float32)
    return rounded

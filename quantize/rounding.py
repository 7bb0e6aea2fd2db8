"""The deploy form with its activations exposed: to observe them, and to round them as an integer graph does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from model.config import DeployForm, ModelConfig
from model.deploy import build_deploy, set_deploy_weights
from model.folding import Array, Weights

Range = tuple[float, float]


@dataclass(frozen=True)
class Observed:
    """A float deploy model with readable activations.

    Attributes:
        model: its inputs → every activation that an integer graph stores, in the order of `names`.
        names: their names.
        producers: names of Keras layers → the activation that each produces.
    """

    model: keras.Model
    names: tuple[str, ...]
    producers: dict[str, str]


def observed_deploy(config: ModelConfig, form: DeployForm, weights: Weights) -> Observed:
    """The deploy form with all of its activations as outputs."""
    outputs: dict[str, Any] = {}
    producers: dict[str, str] = {}

    def tap(x: Any, name: str) -> Any:
        outputs[name] = x
        producers[x.node.layer.name] = name
        return x

    model = build_deploy(config, form, tap)
    set_deploy_weights(model, weights)
    return Observed(keras.Model(model.inputs, list(outputs.values())), tuple(outputs), producers)


def feed(model: keras.Model, batch: Mapping[str, Any]) -> list[Any]:
    """The tensors that the model takes, chosen by name, in the order of its inputs."""
    return [batch[tensor.name] for tensor in model.inputs]


class FakeQuant(keras.layers.Layer):  # type: ignore[misc]
    """Rounds to 256 levels over a range that contains zero (Jacob et al. 2018, Eq. 12).

    Args:
        limits: the range.
        switch: a boolean variable that turns rounding on; without one it is always on.
        options: of every Keras layer.
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

    Args:
        config, form: as for `build_deploy`.
        weights: of the deploy form.
        ranges: lowest and highest value of the activations to round; the others stay float.
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

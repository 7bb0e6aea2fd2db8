"""The deploy form with its activations in the open: to observe them, and to round them as an integer graph would."""

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
    """A float deploy model whose activations can be read.

    Attributes:
        model: its inputs → every activation that an integer graph stores, in the order of `names`.
        names: their names.
        producers: for every Keras layer that gives one of them, the activation's name.
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
    """Of the tensors by name, those that the model takes, in its order."""
    return [batch[own.name] for own in model.inputs]


class FakeQuant(keras.layers.Layer):  # type: ignore[misc]
    """Rounds to 256 levels over a range that contains zero (Jacob et al. 2018, Eq. 12)."""

    def __init__(self, limits: Range, **options: Any) -> None:
        super().__init__(**options)
        self._low, self._high = limits

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(x, self._low, self._high)


def quantized_deploy(
    config: ModelConfig, form: DeployForm, weights: Weights, ranges: Mapping[str, Range], *, observed: bool = False
) -> keras.Model:
    """The deploy form in which every activation that has a range is rounded to eight bits.

    Weights stay as given: the TFLite converter rounds them itself; `round_weights` does it for a simulation.

    Args:
        config, form, weights: as for `build_deploy`; weights of the deploy form.
        ranges: lowest and highest value of the activations to round; the others stay float.
        observed: give all activations instead of the logits, as `observed_deploy` does.
    """
    outputs = []

    def tap(x: Any, name: str) -> Any:
        if name in ranges:
            x = FakeQuant(ranges[name], name=f"{name}/round")(x)
        outputs.append(x)
        return x

    model = build_deploy(config, form, tap)
    set_deploy_weights(model, weights)
    return keras.Model(model.inputs, outputs) if observed else model


def round_weights(weights: Weights) -> Weights:
    """Kernels rounded to int8 as both converters do it: symmetric, one scale for every output channel."""
    return {name: _rounded(value, name) if "kernel" in name else value for name, value in weights.items()}


def axes_within_channel(kernel: Array, name: str) -> tuple[int, ...]:
    """All axes of a kernel but that of its output channels: the last, or the third of a depthwise [h, w, C, 1]."""
    return (0, 1, 3) if name.endswith("depthwise_kernel") else tuple(range(kernel.ndim - 1))


def _rounded(kernel: Array, name: str) -> Array:
    scale = np.abs(kernel).max(axis=axes_within_channel(kernel, name), keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1)
    rounded: Array = (np.clip(np.rint(kernel / scale), -127, 127) * scale).astype(np.float32)
    return rounded

"""Quantization-aware training of the deploy form (Jacob et al. 2018) with tensorflow-model-optimization.

Every layer that the integer graph stores an output of is wrapped by tfmot with a configuration of ours: kernels are
rounded as both converters round them, outputs over the ranges that calibration found. Batch norm is folded beforehand,
so what is trained is what is deployed. The result is mapped back into an ordinary checkpoint, on which every export
calibrates as usual.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.quantization.keras import (
    QuantizeConfig,
    quantize_annotate_layer,
    quantize_apply,
    quantize_scope,
)
from tensorflow_model_optimization.quantization.keras.quantizers import Quantizer

from model import layers
from model.deploy import build_deploy, set_deploy_weights
from model.folding import Weights
from model.recogniser import Recogniser
from model.training import Trainer

from ..prepare import Prepared
from ..rounding import FakeQuant, Range, axes_within_channel
from .distillation import QatSettings

_CUSTOM = {
    own.__name__: own
    for own in (layers.Gelu, layers.Heads, layers.JoinHeads, layers.LayerNorm, layers.MatMul, layers.Rsqrt)
}
# Means over channels are arithmetic, not weights.
_FIXED = ("/mean/kernel", "/variance/kernel", "/variance/bias")


class KernelQuantizer(Quantizer):  # type: ignore[misc]
    """Symmetric int8 with one scale for every output channel; see `quantize.rounding.round_weights`."""

    def __init__(self, kernel: str) -> None:
        self._kernel = kernel

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        self._axes = axes_within_channel(np.empty(tensor_shape.as_list(), np.float32), self._kernel)
        return {}

    def __call__(self, inputs: tf.Tensor, training: Any, weights: Any, **options: Any) -> tf.Tensor:
        scale = tf.stop_gradient(tf.reduce_max(tf.abs(inputs), axis=self._axes, keepdims=True)) / 127
        rounded = tf.round(tf.math.divide_no_nan(inputs, scale)) * scale
        return inputs + tf.stop_gradient(rounded - inputs)

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self._kernel}


class RangeQuantizer(Quantizer):  # type: ignore[misc]
    """256 levels over a fixed range."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: tf.Tensor, training: Any, weights: Any, **options: Any) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self._low, self._high)

    def get_config(self) -> dict[str, Any]:
        return {"low": self._low, "high": self._high}


class DeployConfig(QuantizeConfig):  # type: ignore[misc]
    """What of a deploy layer is rounded.

    Args:
        kernel: name of its kernel's attribute, or None.
        limits: range of its output, or None where the next layer's output is what the integer graph stores.
    """

    def __init__(self, kernel: str | None, limits: Range | None) -> None:
        self._kernel, self._limits = kernel, limits

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        return [(getattr(layer, self._kernel), KernelQuantizer(self._kernel))] if self._kernel else []

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if self._kernel:
            setattr(layer, self._kernel, quantize_weights[0])

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        return [RangeQuantizer(*self._limits)] if self._limits else []

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self._kernel, "limits": self._limits}


class _AsItIs:
    """A tfmot scheme that changes no layer's place: the deploy form is already what runtimes fuse."""

    def get_layout_transformer(self) -> _AsItIs:
        return self

    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        return model, layer_quantize_map

    def get_quantize_registry(self) -> _AsItIs:
        return self

    def supports(self, layer: Any) -> bool:
        return False


@dataclass(frozen=True)
class QuantizationAware:
    """The deploy form in tfmot's wrappers.

    Attributes:
        model: (skeleton, audio) → logits [B, classes]; inputs, activations and kernels are rounded.
        variables: those of the deploy form by name.
    """

    model: keras.Model
    variables: dict[str, Any]


def quantization_aware(prepared: Prepared) -> QuantizationAware:
    """The deploy form as tfmot makes it quantization-aware.

    Args:
        prepared: a calibrated checkpoint; training starts from its weights with corrected biases.
    """
    model = build_deploy(prepared.config, prepared.form)
    set_deploy_weights(model, prepared.static_weights)

    def annotate(layer: Any) -> Any:
        kernel = next((name for name in ("depthwise_kernel", "kernel") if hasattr(layer, name)), None)
        limits = prepared.ranges.get(prepared.producers.get(layer.name, ""))
        if isinstance(layer, keras.layers.InputLayer) or (kernel is None and limits is None):
            return layer
        return quantize_annotate_layer(layer, DeployConfig(kernel, limits))

    with quantize_scope(_CUSTOM | {"DeployConfig": DeployConfig}):
        annotated = keras.models.clone_model(model, clone_function=annotate)
        annotated.set_weights(model.get_weights())
        applied = quantize_apply(annotated, scheme=_AsItIs(), quantized_layer_name_prefix="")
    inputs = [keras.Input(own.shape[1:], name=own.name) for own in model.inputs]
    rounded = [FakeQuant(prepared.ranges[own.name], name=f"{own.name}/round")(own) for own in inputs]
    return QuantizationAware(keras.Model(inputs, applied(rounded)), _variables(applied, prepared.static_weights))


def _variables(applied: keras.Model, names: Iterable[str]) -> dict[str, Any]:
    """The variables by the names that they have in the deploy form, which tfmot's wrappers rename."""
    found = {}
    for wrapper in applied.layers:
        layer = getattr(wrapper, "layer", wrapper)
        for variable in wrapper.weights:
            found[f"{layer.name}/{variable.name.split('/')[-1].removesuffix(':0')}"] = variable
    return {name: found[name] for name in names}


class QuantizationAwareTraining(Trainer):
    """Trains the rounded deploy form to answer as the float model does.

    Args:
        student: of `quantization_aware`.
        teacher: the float model.
        settings: constants of the loop and the weights of the loss.
        silence, seed, state_path: as for `model.training.Trainer`.
    """

    def __init__(
        self,
        student: QuantizationAware,
        teacher: Recogniser,
        settings: QatSettings,
        *,
        silence: npt.NDArray[np.float32],
        seed: int,
        state_path: Path,
    ) -> None:
        self._model, self._teacher, self._distillation = student.model, teacher.fused, settings.distillation
        trainable = [own for name, own in student.variables.items() if not name.endswith(_FIXED)]
        super().__init__(
            "qat",
            student.variables,
            trainable,
            [],
            settings.training,
            silence=silence,
            seed=seed,
            state_path=state_path,
        )

    def weights(self) -> Weights:
        """Of the deploy form, as trained so far."""
        return {name: own.numpy() for name, own in self._variables.items()}

    def _train_step_eager(self, inputs: list[tf.Tensor], labels: tf.Tensor, lost: tf.Tensor) -> tf.Tensor:
        own = self._distillation
        inputs = self._masked(inputs, lost)
        expected = self._teacher(inputs, training=False)
        targets = tf.one_hot(labels, expected.shape[-1])
        with tf.GradientTape() as tape:
            logits = self._model(inputs, training=True)
            loss = own.loss(self._loss(targets, logits), expected, logits)
        self._apply(tape, loss)
        return loss

    def _logits_eager(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return self._model(inputs, training=False)

"""Quantization-aware training of the deploy form (Jacob et al. 2018) with tensorflow-model-optimization.

Every layer whose output the integer graph stores is wrapped by tfmot with a configuration of ours: kernels are rounded
as both converters round them, outputs over the calibrated ranges. Batch norm is folded beforehand, so that training
sees the deployed graph. The result is mapped back into an ordinary checkpoint; every export calibrates it as usual.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
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
from model.evaluation import silent_audio
from model.folding import Weights, unfold
from model.trainer import Trainer

from ..prepare import Prepared
from ..rounding import FakeQuant, Range, axes_within_channel
from .distillation import Recovery

_CUSTOM = {layer.__name__: layer for layer in (layers.Heads, layers.JoinHeads, layers.LayerNorm, layers.MatMul)}
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
    """The rounded parts of a deploy layer.

    Args:
        kernel: name of its kernel's attribute, or None.
        limits: range of its output, or None where the integer graph stores the next layer's output instead.
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


# A tfmot scheme without layout changes: runtimes fuse the deploy form as it is.
_AS_IT_IS = SimpleNamespace(
    get_layout_transformer=lambda: SimpleNamespace(apply=lambda model, layers: (model, layers)),
    get_quantize_registry=lambda: SimpleNamespace(supports=lambda layer: False),
)


def quantization_aware(prepared: Prepared) -> tuple[keras.Model, dict[str, Any]]:
    """Wrap the deploy form of a calibrated checkpoint, with its corrected biases, with tfmot's quantizers.

    Returns:
        The model (skeleton, audio) → logits [B, classes], with inputs, activations and kernels rounded, and its
        variables by their names in the deploy form.
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
        applied = quantize_apply(annotated, scheme=_AS_IT_IS, quantized_layer_name_prefix="")
    inputs = [keras.Input(tensor.shape[1:], name=tensor.name) for tensor in model.inputs]
    rounded = [FakeQuant(prepared.ranges[tensor.name], name=f"{tensor.name}/round")(tensor) for tensor in inputs]
    return keras.Model(inputs, applied(rounded)), _variables(applied, prepared.static_weights)


def _variables(applied: keras.Model, names: Iterable[str]) -> dict[str, Any]:
    """The variables by their names in the deploy form; tfmot's wrappers rename them."""
    variables = {}
    for wrapper in applied.layers:
        layer = getattr(wrapper, "layer", wrapper)
        for variable in wrapper.weights:
            variables[f"{layer.name}/{variable.name.split('/')[-1].removesuffix(':0')}"] = variable
    return {name: variables[name] for name in names}


class QuantizationAwareTraining(Trainer):
    """Trains the rounded deploy form to answer as the float teacher does; the state is a file in folder `out`.

    `prepared` is the run's student, calibrated in `model.folding.UNFOLDED_FORM`.
    """

    def __init__(self, recovery: Recovery, prepared: Prepared, out: Path) -> None:
        self._model, variables = quantization_aware(prepared)
        self._teacher, self._distillation = recovery.teacher.recogniser().fused, recovery.settings.distillation
        self._original = recovery.student
        super().__init__(
            "qat",
            variables,
            [variable for name, variable in variables.items() if not name.endswith(_FIXED)],
            [],
            recovery.settings.training,
            silence=silent_audio(recovery.student.config.spec),
            seed=recovery.source.seed,
            state_path=out / "qat.state.npz",
        )

    def deploy_weights(self) -> Weights:
        """Weights of the deploy form, as trained so far."""
        return {name: variable.numpy() for name, variable in self._variables.items()}

    def weights(self) -> Weights:
        """Weights of the training form, as trained so far."""
        return unfold(self._original.config, self.deploy_weights(), self._original.weights)

    def _train_step_eager(self, inputs: list[tf.Tensor], labels: tf.Tensor, lost: tf.Tensor) -> tf.Tensor:
        inputs = self._masked(inputs, lost)
        expected = self._teacher(inputs, training=False)
        targets = tf.one_hot(labels, expected.shape[-1])
        with tf.GradientTape() as tape:
            logits = self._model(inputs, training=True)
            loss = self._distillation.loss(self._loss(targets, logits), expected, logits)
        self._apply(tape, loss)
        return loss

    def _logits_eager(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return self._model(inputs, training=False)

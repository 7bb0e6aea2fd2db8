"""Conversion to ONNX, quantization with known ranges, and the metadata inside the file."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization import quantize_dynamic as ort_quantize_dynamic
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.execution_providers.qnn.mixed_precision_overrides_utils import (
    MixedPrecisionTensorQuantOverridesFixer,
)
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.quantization.tensor_quant_overrides import TensorQuantOverridesHelper

from model.layers import LayerNorm, stand_ins
from preprocess.errors import DataError
from quantize.recipes import Recipe
from quantize.rounding import Range
from runtime.blocks import plain_name

from .targets import ExportTarget
from .tflite_file import OUTPUT_NAME, serving_module

METADATA_NAME = "pocket_har"
_CONVERTER_OPSET = 18  # the newest that tf2onnx writes
_PLAIN_OPSET = 17  # the newest that both ONNX Runtime's pre-processing and tf2onnx support
OPSET = 21  # Gelu came with 20, 16-bit activations with 21; nothing else in these graphs changed since 18
# Nodes whose output has the range of their input.
_PASSING = ("Transpose", "Reshape", "MaxPool", "Pad", "Squeeze", "Unsqueeze", "Flatten", "Relu")
_WEIGHTED = {"Conv": 0, "MatMul": 1, "Gemm": 1}  # axis of the output channels in the weight


def convert_to_onnx(
    model: Any, recipe: Recipe, target: ExportTarget, *, producers: Mapping[str, str], ranges: Mapping[str, Range]
) -> onnx.ModelProto:
    """The model as an ONNX graph; inputs and output are float32 in every recipe.

    Args:
        model: Keras model of named inputs → logits in the deploy form with layer norm as a layer.
        recipe: precision.
        target: type of the activations.
        producers: the activation that each Keras layer computes, see `quantize.rounding.observed_deploy`.
        ranges: of every activation, for a static recipe.

    Raises:
        DataError: tf2onnx failed, or wrote an invalid graph.
    """
    with stand_ins():
        converted = run_tf2onnx(model, _CONVERTER_OPSET, kept=("Lgamma",))
    _exchange_stand_ins(converted, model)
    _rename(converted, [tensor.name for tensor in model.inputs], producers)
    converted.opset_import[0].version = OPSET
    onnx.checker.check_model(converted, full_check=True)
    if recipe.base == "float32":
        return converted
    if recipe.base == "dynamic_wi8_afp32":
        return _quantize_dynamic(converted)
    if recipe.base == "weight_only_wi8_afp32":
        return _quantize_weights(converted)
    return _quantize_static(converted, recipe, target, ranges)


def convert_plain_onnx(model: Any, samples: Callable[[], Iterator[dict[str, Any]]] | None) -> onnx.ModelProto:
    """The training graph by tf2onnx, then ONNX Runtime's `quant_pre_process` and `quantize_static`, nothing else set.

    Args:
        model: Keras model in its training form.
        samples: one recording's tensors after another, for quantization; None for float32.

    Raises:
        DataError: tf2onnx failed.
    """
    converted = run_tf2onnx(model, _PLAIN_OPSET)
    if not samples:
        return converted
    tensors = samples()

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(tensors, None)

    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        source, prepared, result = (f"{folder}/{name}.onnx" for name in ("float32", "prepared", "int8"))
        onnx.save(converted, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)  # every shape is known
        quantize_static(prepared, result, Reader())
        return onnx.load(result)


def run_tf2onnx(model: Any, opset: int, *, kept: Sequence[str] = ()) -> onnx.ModelProto:
    """tf2onnx's graph of a Keras model; operations whose names are in `kept` stay as they are.

    Raises:
        DataError: it failed, or met an operation that it cannot convert, which it only logs.
    """
    import tf2onnx

    serve = serving_module(model).serve
    logged, log, errors = BufferingHandler(1_000_000), logging.getLogger("tf2onnx"), []
    logged.setLevel(logging.ERROR)
    log.addHandler(logged)
    try:
        converted, _ = tf2onnx.convert.from_function(
            serve,
            input_signature=serve.input_signature,
            opset=opset,
            custom_op_handlers={name: (_keep, []) for name in kept},
        )
    except Exception as error:  # its exceptions have no other base in common
        errors.append(f"{type(error).__name__}: {error}")
    finally:
        log.removeHandler(logged)
    errors = [*(record.getMessage() for record in logged.buffer), *errors]
    if errors:
        reason = " ".join(errors[0].split())[:300]
        raise DataError(f"tf2onnx cannot convert the model: {reason}; use the versions in constraints.txt, or TFLite")
    return converted


def save_onnx(model: onnx.ModelProto, path: Path, metadata: str) -> None:
    """Checks the graph, embeds `metadata` (JSON text) in its `metadata_props` and writes it."""
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_NAME, metadata
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _keep(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Leaves a node as it is; tf2onnx moves no transposition across a kind of node that it does not know."""


def _exchange_stand_ins(converted: onnx.ModelProto, model: Any) -> None:
    """Replaces the stand-ins of `model.layers.stand_ins` with LayerNormalization and Gelu."""
    norms = {layer.name: layer for layer in model.layers if isinstance(layer, LayerNorm)}
    for node in converted.graph.node:
        if node.op_type == "Erf":
            node.op_type = "Gelu"
        elif node.op_type == "Lgamma":
            layer = norms.pop(_layer_of(node.output[0]))
            node.op_type, node.domain = "LayerNormalization", ""
            for weight in (layer.gamma, layer.beta):
                name = f"{layer.name}/{weight.name.split('/')[-1].removesuffix(':0')}"
                converted.graph.initializer.append(onnx.numpy_helper.from_array(weight.numpy(), name))
                node.input.append(name)
            node.attribute.extend(
                [onnx.helper.make_attribute("axis", -1), onnx.helper.make_attribute("epsilon", layer.epsilon)]
            )
    assert not norms, list(norms)


def _rename(converted: onnx.ModelProto, inputs: Sequence[str], producers: Mapping[str, str]) -> None:
    """Gives inputs, output and activations their names."""
    graph = converted.graph
    names = {tensor.name: name for tensor in graph.input for name in inputs if tensor.name.startswith(name)}
    names[graph.output[0].name] = OUTPUT_NAME
    assert set(names.values()) == {*inputs, OUTPUT_NAME}, names
    used = set(names.values())
    # The last node of a layer computes its activation.
    for node in reversed(graph.node):
        output = node.output[0]
        # A convolution that absorbed its bias loses its name, but keeps that of the bias.
        bias = node.input[2].removesuffix("/BiasAdd/ReadVariableOp:0") if len(node.input) > 2 else ""
        name = producers.get(_layer_of(output)) or producers.get(plain_name(bias))
        if output not in names and name and name not in used and node.op_type != "Transpose":
            names[output] = name
            used.add(name)
    for tensor in [*graph.input, *graph.output, *graph.value_info]:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _layer_of(tensor: str) -> str:
    """`recogniser/audio/stem/conv/Conv2D:0` → `audio/stem/conv`."""
    return plain_name(tensor).rpartition("/")[0]


def _quantize_static(
    model: onnx.ModelProto, recipe: Recipe, target: ExportTarget, ranges: Mapping[str, Range]
) -> onnx.ModelProto:
    """Quantize-dequantize pairs around every activation, int8 weights by output channel, int32 biases."""
    limits = _all_ranges(model, ranges)
    exceptions = {name for name in ranges if recipe.is_exception(name)}
    unsigned = target.activations == "uint8"
    narrow, wide = (QuantType.QUInt8, QuantType.QUInt16) if unsigned else (QuantType.QInt8, QuantType.QInt16)
    overrides: dict[str, list[dict[str, Any]]] = {}  # exceptions of single tensors
    excluded = []
    if recipe.wide == "ai16":
        overrides = {name: [{"quant_type": wide}] for name in exceptions}
        if target.one_type_per_node and overrides:
            # A conversion wherever a node of 16 bits meets one of 8.
            helper = TensorQuantOverridesHelper(overrides)
            MixedPrecisionTensorQuantOverridesFixer.create_from_model(helper, model, narrow).apply(narrow, False)
            overrides = helper.get_dict()
    else:
        excluded = [n.name for n in model.graph.node if exceptions & {*n.input, *n.output}]
    if target.norm_weights == "uint8":
        scales = [node.input[1] for node in model.graph.node if node.op_type == "LayerNormalization"]
        overrides |= {name: [{"quant_type": QuantType.QUInt8, "symmetric": False}] for name in scales}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=target.seven_bit_weights,
        weight_qType=QuantType.QInt8,
        activation_qType=wide if recipe.base == "static_wi8_ai16" else narrow,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax,
            {name: (np.float32(low), np.float32(high)) for name, (low, high) in limits.items()},
        ),
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=[*{*QDQRegistry, *QLinearOpsRegistry, "Gelu", "ReduceMean"}],
        extra_options={"TensorQuantOverrides": overrides} if overrides else {},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def _quantize_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """int8 weights; activations are quantized while the model runs."""
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        source, result = f"{folder}/float32.onnx", f"{folder}/dynamic.onnx"
        onnx.save(model, source)
        ort_quantize_dynamic(source, result, weight_type=QuantType.QUInt8)
        return onnx.load(result)


def _quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """int8 weights by output channel, each behind a DequantizeLinear; the arithmetic stays float."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        name = node.input[1] if node.op_type in _WEIGHTED and len(node.input) > 1 else ""
        if name not in values:
            continue
        weight = onnx.numpy_helper.to_array(values.pop(name))
        axis = _WEIGHTED[node.op_type]
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(axis=others), 1e-12).astype(np.float32) / np.float32(127)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        stored = np.clip(np.rint(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
        for suffix, array in (("int8", stored), ("scale", scale)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}/{suffix}"))
        inputs = [f"{name}/int8", f"{name}/scale"]
        nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], f"{name}/dequantize", axis=axis))
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in {n.output[0] for n in nodes}]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model


def _all_ranges(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The range of every tensor between nodes; nodes that move or cut values pass it on in both directions."""
    limits: dict[str, Range] = dict(ranges)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            limits[node.output[0]] = (0.0, 1.0)
        elif node.op_type in _PASSING and node.input[0] in limits:
            limits.setdefault(node.output[0], limits[node.input[0]])
    for node in reversed(model.graph.node):
        if node.op_type in _PASSING and node.output[0] in limits:
            limits.setdefault(node.input[0], limits[node.output[0]])
    return limits

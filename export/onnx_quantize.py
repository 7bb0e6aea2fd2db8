"""ONNX Runtime's quantizers over graphs whose ranges are already known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization import quantize_dynamic as ort_quantize_dynamic
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.execution_providers.qnn.mixed_precision_overrides_utils import (
    MixedPrecisionTensorQuantOverridesFixer,
)
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.tensor_quant_overrides import TensorQuantOverridesHelper

from quantize.recipes import Recipe
from quantize.rounding import Range

from .targets import Target

# Nodes whose output has the range of their input.
_PASSING = ("Transpose", "Reshape", "MaxPool", "Pad", "Squeeze", "Unsqueeze", "Flatten", "Relu")
_WEIGHTED = {"Conv": 0, "MatMul": 1, "Gemm": 1}  # axis of the output channels in the weight
Overrides = dict[str, list[dict[str, Any]]]  # what ONNX Runtime's quantizer is told of single tensors


def quantize_static(
    model: onnx.ModelProto, recipe: Recipe, target: Target, ranges: Mapping[str, Range]
) -> onnx.ModelProto:
    """Quantize-dequantize pairs around every activation, int8 weights by output channel, int32 biases."""
    limits = _all_ranges(model, ranges)
    exceptions = {name for name in ranges if recipe.is_exception(name)}
    unsigned = target.activations == "uint8"
    narrow, wide = (QuantType.QUInt8, QuantType.QUInt16) if unsigned else (QuantType.QInt8, QuantType.QInt16)
    overrides: Overrides = {}
    excluded = []
    if recipe.wide == "ai16":
        overrides = {name: [{"quant_type": wide}] for name in exceptions}
        if target.one_type_per_node and overrides:
            overrides = _with_conversions(model, overrides, narrow)
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


def _with_conversions(model: onnx.ModelProto, overrides: Overrides, narrow: QuantType) -> Overrides:
    """The overrides, with a conversion wherever a node of 16 bits meets one of 8."""
    helper = TensorQuantOverridesHelper(overrides)
    MixedPrecisionTensorQuantOverridesFixer.create_from_model(helper, model, narrow).apply(narrow, False)
    found: Overrides = helper.get_dict()
    return found


def quantize_dynamic(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """int8 weights; activations are quantized while the model runs."""
    source, result = folder / "float32.onnx", folder / "dynamic.onnx"
    onnx.save(model, source)
    ort_quantize_dynamic(str(source), str(result), weight_type=QuantType.QUInt8)
    return onnx.load(result)


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
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
    """The range of every tensor between nodes: its own, that of a shift of axes before it, or of a ReLU behind it."""
    found: dict[str, Range] = dict(ranges)
    for node in model.graph.node:
        if node.op_type == "Softmax":
            found[node.output[0]] = (0.0, 1.0)
        elif node.op_type in _PASSING and node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    for node in reversed(model.graph.node):
        if node.op_type in _PASSING and node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found

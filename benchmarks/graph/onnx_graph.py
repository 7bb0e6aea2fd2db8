"""The operations of an ONNX file: float, with quantize-dequantize pairs, or of integer operators."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from preprocess.errors import DataError
from runtime.blocks import plain_name

from .layer_rules import GraphLayer, Operation, is_layer_name

# Positions of the inputs: activation and weight, then bias.
_WEIGHTED = {
    "Conv": (0, 1, 2),
    "ConvInteger": (0, 1, None),
    "QLinearConv": (0, 3, 8),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1, None),
    "MatMulInteger": (0, 1, None),
    "QLinearMatMul": (0, 3, None),
}
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
_UNPACKING = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
_PAIRS = ("DequantizeLinear", "QuantizeLinear")
_UNCOUNTED = ("ConvTranspose", "DeformConv", "LSTM", "GRU", "RNN", "Einsum", "Attention", "Loop", "If", "Scan")


@dataclass(frozen=True)
class _Graph:
    """Shapes of constants by name; shape and bytes per element of every tensor."""

    constants: dict[str, tuple[int, ...]]
    tensors: dict[str, tuple[tuple[int, ...], int]]

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self.constants:
            return self.constants[name]
        if name not in self.tensors:
            raise DataError(f"shape of {name!r} is unknown; export the file with a fixed batch")
        return self.tensors[name][0]


def onnx_layers(path: Path) -> list[GraphLayer]:
    """Every node that computes on activations, in the order of the file.

    Quantize-dequantize pairs are not layers: they only set the type of the computation. An activation that is quantized
    immediately has the size of that type.

    Raises:
        DataError: the file cannot be read, has no fixed shapes, or has a node whose cost is unknown.
    """
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    except Exception as error:  # protobuf's and onnx's have no other base in common
        raise DataError(f"{path} is not an ONNX file: {error}") from error
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    infos = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    tensors = {info.name: tensor for info in infos if (tensor := _tensor(info)) is not None}
    graph = _Graph(constants, tensors)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = tuple(node.attribute[0].t.dims)
        elif node.op_type in _UNPACKING and node.input[0] in constants:
            constants[node.output[0]] = _unpacked(node, graph)
        elif node.op_type not in _PAIRS:
            nodes.append(node)
    readers = _readers(model.graph)
    stored = {  # bytes per element of activations that are quantized immediately
        node.input[0]: graph.tensors[node.output[0]][1]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in graph.tensors
    }
    return [_layer(node, _name(node, readers), graph, stored) for node in nodes]


def _readers(graph: Any) -> dict[str, list[Any]]:
    """The nodes that read each tensor."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _name(node: Any, readers: dict[str, list[Any]]) -> str:
    """The name of the node's output, or of the output of its ReLU, which TFLite fuses into the operator.

    If a converter or quantizer chose that name, the next one that belongs to a layer of the recogniser, as long as a
    single node reads it.
    """
    output: str = node.output[0]
    following = readers.get(output, [])
    if node.op_type in _WEIGHTED and len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
        output = following[0].output[0]
    name = output
    while not is_layer_name(plain_name(name)) and len(readers.get(name, [])) == 1:
        name = readers[name][0].output[0]
    return plain_name(name if is_layer_name(plain_name(name)) else output)


def _tensor(info: Any) -> tuple[tuple[int, ...], int] | None:
    """Shape and bytes per element, if both are known."""
    from onnx import helper

    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not all(size.HasField("dim_value") for size in tensor.shape.dim):
        return None
    shape = tuple(size.dim_value for size in tensor.shape.dim)
    return shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize


def _unpacked(node: Any, graph: _Graph) -> tuple[int, ...]:
    """Shape of a constant behind a node that rearranges it."""
    if node.op_type in ("Reshape", "Transpose", "Squeeze", "Unsqueeze"):
        return graph.shape(node.output[0])
    return graph.constants[node.input[0]]


def _layer(node: Any, name: str, graph: _Graph, stored: dict[str, int]) -> GraphLayer:
    if node.op_type in _UNCOUNTED:
        raise DataError(f"multiply-accumulates of {node.op_type} ({node.output[0]}) are unknown")
    outputs = [name for name in node.output if name]
    size = sum(prod(graph.shape(output)) * stored.get(output, graph.tensors[output][1]) for output in outputs)
    operation = Operation(name, node.op_type, graph.shape(outputs[0]), size)
    if node.op_type in _WEIGHTED:
        return _weighted(node, operation, graph)
    if node.op_type in _ELEMENTWISE:
        return operation.elementwise([graph.constants[operand] for operand in node.input if operand in graph.constants])
    if node.op_type in ("LayerNormalization", "BatchNormalization"):
        # Scale and offset; mean and variance of a batch norm are not trained weights.
        return operation.layer(parameters=sum(prod(graph.constants.get(factor, (0,))) for factor in node.input[1:3]))
    return operation.layer()


def _weighted(node: Any, operation: Operation, graph: _Graph) -> GraphLayer:
    left, right, third = _WEIGHTED[node.op_type]
    first, second = graph.shape(node.input[left]), graph.shape(node.input[right])
    convolution = "Conv" in node.op_type
    if node.input[right] not in graph.constants:
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return operation.product(first[-2] if transposed else first[-1])
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    bias = node.input[third] if third is not None and len(node.input) > third else ""
    return operation.weighted(
        second,
        operation.out_shape[1 if convolution else -1],
        bias=prod(graph.constants[bias]) if bias in graph.constants else 0,
        depthwise=convolution and groups == second[0] and second[1] == 1 and groups > 1,
    )


def node_names(path: Path) -> dict[str, str]:
    """Names of layers, as `onnx_layers` gives them, by the names of their nodes and of their outputs.

    Raises:
        DataError: the file cannot be read.
    """
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's and onnx's have no other base in common
        raise DataError(f"{path} is not an ONNX file: {error}") from error
    readers = _readers(graph)
    names: dict[str, str] = {}
    for node in graph.node:
        names.update(dict.fromkeys((node.name, node.output[0]), _name(node, readers)))
    return names

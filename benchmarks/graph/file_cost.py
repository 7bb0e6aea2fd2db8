"""Parameters and multiply-accumulates of a model file, counted from the file's graph.

The configuration behind the file is not read, so the count checks it. One MAC is one multiplication with its addition;
convolutions, dense layers and products of two activations count, as in papers; norms, activations and sums do not.
Parameters are weights and biases, one for each element of any type, and the scales and offsets of norms, but not the
scales and zero points of a quantization. Converters drop biases that are zero: untrained weights give fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from preprocess.errors import DataError
from runtime.blocks import plain_name

from .tflite_graph import TfliteFile, TfliteOperator, TfliteTensor, constants_of, peak_bytes, read_tflite_graph

Shape: TypeAlias = tuple[int, ...]

_PARTS = ("visual", "audio", "fusion")
_OUTPUT = "logits"

# The parts of a split depthwise convolution that were built without a bias. TFLite requires one, so the converter adds
# zeros.
_UNBIASED = ("/depthwise/odd", "/depthwise/edges")
# Layer norm in 1 × 1 convolutions to one channel, whose kernels are the constant 1/C.
_MEANS = ("/mean", "/variance")

_TFLITE_UNCOUNTED = ("TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE", "LSTM", "RNN", "SVDF", "WHILE", "IF", "CUSTOM")
_ONNX_UNCOUNTED = ("ConvTranspose", "DeformConv", "LSTM", "GRU", "RNN", "Einsum", "Attention", "Loop", "If", "Scan")
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
_PAIRS = ("DequantizeLinear", "QuantizeLinear")
_REARRANGING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze")
_UNPACKING = (*_PAIRS, "Cast", "Identity", *_REARRANGING)


@dataclass(frozen=True)
class GraphLayer:
    """One operation of a model file at the batch size of the file.

    Attributes:
        name: of its output tensor, without the converters' additions.
        op: type in the terms of the format.
        shape: of its first output.
        activation_bytes: size of its outputs.
        parameters: elements of its weights; constants that several layers share count in each.
        macs: multiply-accumulates, without those that published numbers leave out: the means of a layer norm written
            as convolutions, and a scale per channel written as a depthwise convolution of one tap.
    """

    name: str
    op: str
    shape: Shape
    activation_bytes: int
    parameters: int = 0
    macs: int = 0

    def weighted(
        self, kernel: Shape, channels: int, *, bias: int, zero_bias: bool = False, depthwise: bool
    ) -> GraphLayer:
        """The same as a convolution or a dense layer.

        Args:
            kernel: its shape; every element is multiplied once for each output position.
            channels: of the output.
            bias: elements of the bias.
            zero_bias: all elements of the bias are zero.
            depthwise: every input channel has its own kernel.
        """
        if depthwise and prod(kernel) == channels:
            return replace(self, parameters=channels + bias)
        if channels == 1 and self.name.endswith(_MEANS):
            return self
        if zero_bias and self.name.endswith(_UNBIASED):
            bias = 0
        return replace(self, parameters=prod(kernel) + bias, macs=prod(kernel) * prod(self.shape) // channels)

    def product(self, depth: int) -> GraphLayer:
        """The same as a product of two activations, with `depth` multiplications for each output."""
        return replace(self, macs=depth * prod(self.shape))

    def elementwise(self, constants: Sequence[Shape]) -> GraphLayer:
        """The same as a sum, product or quotient; constants along one axis are trained, scalars are not."""
        trained = (prod(shape) for shape in constants if 1 < prod(shape) == max(shape) and max(shape) in self.shape)
        return replace(self, parameters=sum(trained))


@dataclass(frozen=True)
class GraphCost:
    """Cost of a model file; `arena_bytes` is `peak_bytes` of a TFLite file, None for ONNX."""

    layers: tuple[GraphLayer, ...]
    arena_bytes: int | None = None

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def graph_cost(path: Path) -> GraphCost:
    """Counts every operation of a `.tflite` or `.onnx` file, in the order of execution.

    Operators that only unpack a constant are not layers, nor are quantize-dequantize pairs, which set the type of the
    computation: an activation that is quantized immediately has the size of that type.

    Raises:
        DataError: the file is of neither format, has no fixed shapes, or has an operation whose cost is unknown.
    """
    if path.suffix == ".tflite":
        file = read_tflite_graph(path)
        constants = constants_of(file)
        counted = [operator for operator in file.operators if operator.outputs[0] not in constants]
        layers = tuple(_tflite_layer(file, operator, constants) for operator in counted)
        return GraphCost(layers, peak_bytes(file))
    if path.suffix == ".onnx":
        return GraphCost(tuple(_onnx_layers(path)))
    raise DataError(f"{path} ends in {path.suffix!r}; operations are counted in .tflite and .onnx files")


def _tflite_layer(file: TfliteFile, operator: TfliteOperator, constants: dict[int, TfliteTensor]) -> GraphLayer:
    tensors, op = file.tensors, operator.op
    out = tensors[operator.outputs[0]]
    if op in _TFLITE_UNCOUNTED or op.endswith(("_LSTM", "_RNN")):
        raise DataError(f"multiply-accumulates of {op} ({out.name}) are unknown")
    layer = GraphLayer(plain_name(out.name), op, out.shape, sum(tensors[i].bytes for i in operator.outputs))
    operands = [constants.get(index) for index in operator.inputs]
    if op in ("ADD", "SUB", "MUL", "DIV"):
        return layer.elementwise([tensor.shape for tensor in operands if tensor])
    if op not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
        return layer
    first, second = (tensors[index].shape for index in operator.inputs[:2])
    if not operands[1]:
        return layer.product(first[-2] if operator.transposed else first[-1])
    bias = operands[2] if len(operands) > 2 else None
    return layer.weighted(
        second,
        out.shape[-1],
        bias=prod(bias.shape) if bias else 0,
        zero_bias=bias is not None and bias.values is not None and not bias.values.any(),
        depthwise=op == "DEPTHWISE_CONV_2D",
    )


def _onnx_layers(path: Path) -> list[GraphLayer]:
    """The layers of a file in float, with quantize-dequantize pairs, or of integer operators."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    except Exception as error:  # protobuf's and onnx's have no other base in common
        raise DataError(f"{path} is not an ONNX file: {error}") from error
    infos = [*graph.input, *graph.value_info, *graph.output]
    tensors = {info.name: tensor for info in infos if (tensor := _shape_and_bytes(info)) is not None}
    constants: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}

    def shape_of(name: str) -> Shape:
        if name not in constants and name not in tensors:
            raise DataError(f"shape of {name!r} is unknown; export the file with a fixed batch")
        return constants[name] if name in constants else tensors[name][0]

    def layer(node: Any) -> GraphLayer:
        if node.op_type in _ONNX_UNCOUNTED:
            raise DataError(f"multiply-accumulates of {node.op_type} ({node.output[0]}) are unknown")
        outputs = [name for name in node.output if name]
        size = sum(prod(shape_of(output)) * stored.get(output, tensors[output][1]) for output in outputs)
        base = GraphLayer(_node_name(node, readers), node.op_type, shape_of(outputs[0]), size)
        if node.op_type in ("Add", "Sub", "Mul", "Div"):
            return base.elementwise([constants[operand] for operand in node.input if operand in constants])
        if node.op_type in ("LayerNormalization", "BatchNormalization"):
            # Scale and offset; mean and variance of a batch norm are not trained weights.
            factors = (constants.get(factor, (0,)) for factor in node.input[1:3])
            return replace(base, parameters=sum(map(prod, factors)))
        if node.op_type not in _WEIGHTED:
            return base
        left, right, third = _WEIGHTED[node.op_type]
        first, second = shape_of(node.input[left]), shape_of(node.input[right])
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if node.input[right] not in constants:
            return base.product(first[-2] if attributes.get("transA") else first[-1])
        convolution = "Conv" in node.op_type
        bias = node.input[third] if third is not None and len(node.input) > third else ""
        return base.weighted(
            second,
            base.shape[1 if convolution else -1],
            bias=prod(constants[bias]) if bias in constants else 0,
            depthwise=convolution and attributes.get("group", 1) == second[0] > 1 and second[1] == 1,
        )

    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = tuple(node.attribute[0].t.dims)
        elif node.op_type in _UNPACKING and node.input[0] in constants:
            rearranged = node.op_type in _REARRANGING
            constants[node.output[0]] = shape_of(node.output[0]) if rearranged else constants[node.input[0]]
        elif node.op_type not in _PAIRS:
            nodes.append(node)
    readers = _readers(graph)
    stored = {  # bytes per element of activations that are quantized immediately
        node.input[0]: tensors[node.output[0]][1]
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in tensors
    }
    return [layer(node) for node in nodes]


def _shape_and_bytes(info: Any) -> tuple[Shape, int] | None:
    """Shape and bytes per element, if both are known."""
    from onnx import helper

    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not all(size.HasField("dim_value") for size in tensor.shape.dim):
        return None
    shape = tuple(size.dim_value for size in tensor.shape.dim)
    return shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize


def _readers(graph: Any) -> dict[str, list[Any]]:
    """The nodes that read each tensor."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _node_name(node: Any, readers: dict[str, list[Any]]) -> str:
    """The name of the node's output, or of the output of its ReLU, which TFLite fuses into the operator.

    If a converter or quantizer chose that name, the next one that belongs to a layer of the recogniser, as long as a
    single node reads it.
    """
    output: str = node.output[0]
    following = readers.get(output, [])
    if node.op_type in _WEIGHTED and len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
        output = following[0].output[0]
    name = output
    while not _is_layer_name(plain_name(name)) and len(readers.get(name, [])) == 1:
        name = readers[name][0].output[0]
    return plain_name(name if _is_layer_name(plain_name(name)) else output)


def _is_layer_name(name: str) -> bool:
    """Whether a plain name belongs to a layer of the recogniser, not to a tensor of a converter."""
    part, _, rest = name.partition("/")
    return name == _OUTPUT or (part in _PARTS and bool(rest))

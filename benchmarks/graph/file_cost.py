"""Parameters and multiply-accumulates of a TFLite file, counted from its graph, and the memory of its activations.

The configuration behind the file is not read, so the count checks it. One MAC is one multiplication with its addition;
convolutions, dense layers and products of two activations count, as in papers; norms, activations and sums do not.
Parameters are weights and biases, one for each element of any type, and the scales and offsets of norms, but not the
scales and zero points of a quantization. Converters drop biases that are zero: untrained weights give fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError
from runtime.blocks import plain_name

_BITS = {
    **dict.fromkeys(("FLOAT64", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT32", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    "INT4": 4,
}
_UNCOUNTED = ("TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE", "LSTM", "RNN", "SVDF", "WHILE", "IF", "CUSTOM")
# The parts of a split depthwise convolution that were built without a bias. TFLite requires one, so the converter adds
# zeros.
_UNBIASED = ("/depthwise/odd", "/depthwise/edges")
# Layer norm in 1 × 1 convolutions to one channel, whose kernels are the constant 1/C.
_MEANS = ("/mean", "/variance")


@dataclass(frozen=True)
class GraphLayer:
    """One operation of a model file at the batch size of the file.

    Attributes:
        name: of its output tensor, without the converter's additions.
        op: TFLite's operator.
        parameters: elements of its weights; constants that several layers share count in each.
        macs: multiply-accumulates, without those that published numbers leave out: the means of a layer norm written
            as convolutions, and a scale per channel written as a depthwise convolution of one tap.
        activation_bytes: size of its outputs.
    """

    name: str
    op: str
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class GraphCost:
    """Cost of a model file; `arena_bytes` is `peak_bytes`."""

    layers: tuple[GraphLayer, ...]
    arena_bytes: int

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def graph_cost(path: Path) -> GraphCost:
    """Counts every operator, in the order of execution, except those that only unpack a constant.

    Raises:
        DataError: as `read_tflite_graph`, or the cost of an operator is unknown.
    """
    file = read_tflite_graph(path)
    constants = _constants(file)
    layers = []
    for operator in file.operators:
        if operator.outputs[0] not in constants:
            name = plain_name(file.tensors[operator.outputs[0]].name)
            parameters, macs = _cost(file, operator, name, constants)
            size = sum(file.tensors[index].bytes for index in operator.outputs)
            layers.append(GraphLayer(name, operator.op, parameters, macs, size))
    return GraphCost(tuple(layers), peak_bytes(file))


def _cost(file: TfliteFile, operator: TfliteOperator, name: str, constants: dict[int, TfliteTensor]) -> tuple[int, int]:
    """Parameters and multiply-accumulates of an operator."""
    op, out = operator.op, file.tensors[operator.outputs[0]].shape
    if op in _UNCOUNTED or op.endswith(("_LSTM", "_RNN")):
        raise DataError(f"multiply-accumulates of {op} ({name}) are unknown")
    operands = [constants.get(index) for index in operator.inputs]
    if op in ("ADD", "SUB", "MUL", "DIV"):
        # Constants along one axis are trained, scalars are not.
        sizes = [tensor.shape for tensor in operands if tensor]
        return sum(prod(size) for size in sizes if 1 < prod(size) == max(size) and max(size) in out), 0
    if op not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
        return 0, 0
    if not operands[1]:  # a product of two activations
        first = file.tensors[operator.inputs[0]].shape
        return 0, prod(out) * (first[-2] if operator.transposed else first[-1])
    kernel, channels = prod(operands[1].shape), out[-1]
    bias = operands[2] if len(operands) > 2 else None
    biases = prod(bias.shape) if bias else 0
    if op == "DEPTHWISE_CONV_2D" and kernel == channels:
        return kernel + biases, 0
    if channels == 1 and name.endswith(_MEANS):
        return 0, 0
    if bias and bias.values is not None and not bias.values.any() and name.endswith(_UNBIASED):
        biases = 0
    # Every element of the kernel is multiplied once for each output position.
    return kernel + biases, kernel * prod(out) // channels


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor; `values` is None for an activation."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    values: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class TfliteOperator:
    """An operator; the index -1 stands for an omitted input."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    transposed: bool  # BATCH_MATMUL's first operand


@dataclass(frozen=True)
class TfliteFile:
    """The only subgraph of a TFLite file.

    Attributes:
        tensors: by index.
        operators: in the order of execution.
        inputs, outputs: indices of the graph's tensors.
    """

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite_graph(path: Path) -> TfliteFile:
    """Reads graph and constants.

    Raises:
        DataError: the file is not a TFLite file with one subgraph, or has a type of unknown size.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise DataError(f"{path} is not a TFLite file")
    model = schema.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() != 1:
        raise DataError(f"{path} has {model.SubgraphsLength()} subgraphs; only files with one can be counted")
    graph = model.Subgraphs(0)
    types, operators = (
        {value: name for name, value in vars(kind).items() if not name.startswith("_")}
        for kind in (schema.TensorType, schema.BuiltinOperator)
    )

    def read_tensor(tensor: Any) -> TfliteTensor:
        kind = types[tensor.Type()]
        if kind not in _BITS:
            raise DataError(f"{path} has a tensor of type {kind}, whose size is unknown")
        shape = tuple(tensor.ShapeAsNumpy().tolist()) if tensor.ShapeLength() else ()
        buffer = model.Buffers(tensor.Buffer())
        values = buffer.DataAsNumpy() if buffer.DataLength() else None
        return TfliteTensor(tensor.Name().decode(), shape, -(-prod(shape) * _BITS[kind] // 8), values)

    def read_operator(operator: Any) -> TfliteOperator:
        code = model.OperatorCodes(operator.OpcodeIndex())
        op = operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        transposed = False
        if op == "BATCH_MATMUL":
            options, table = schema.BatchMatMulOptions(), operator.BuiltinOptions()
            options.Init(table.Bytes, table.Pos)
            transposed = bool(options.AdjX())
        inputs = tuple(operator.Inputs(i) for i in range(operator.InputsLength()))
        return TfliteOperator(op, inputs, _indices(operator.OutputsAsNumpy()), transposed)

    return TfliteFile(
        tuple(read_tensor(graph.Tensors(i)) for i in range(graph.TensorsLength())),
        tuple(read_operator(graph.Operators(i)) for i in range(graph.OperatorsLength())),
        _indices(graph.InputsAsNumpy()),
        _indices(graph.OutputsAsNumpy()),
    )


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.atleast_1d(values))


def _constants(file: TfliteFile) -> dict[int, TfliteTensor]:
    """Constants by index, including those that a DEQUANTIZE unpacks."""
    constants = {index: tensor for index, tensor in enumerate(file.tensors) if tensor.values is not None}
    for operator in file.operators:
        if operator.op == "DEQUANTIZE" and operator.inputs[0] in constants:
            constants[operator.outputs[0]] = constants[operator.inputs[0]]
    return constants


def peak_bytes(file: TfliteFile) -> int:
    """The maximum over all operators of the bytes of activations that are alive.

    An activation lives from the operator that writes it to the last one that reads it; inputs live from the start,
    outputs to the end. Computed, not measured: a lower bound for planners with a separate place for each activation,
    which round sizes up, leave gaps and add scratch memory. A planner that overwrites inputs may need less.
    """
    constants = _constants(file)
    end = len(file.operators) - 1
    first = dict.fromkeys(file.inputs, 0)
    last = dict.fromkeys(file.inputs, 0)
    for step, operator in enumerate(file.operators):
        for index in operator.outputs:
            first.setdefault(index, step)
        for index in (*operator.inputs, *operator.outputs):
            last[index] = step
    last.update(dict.fromkeys(file.outputs, end))
    spans = [(first[i], last[i], file.tensors[i].bytes) for i in first if i not in constants]
    return max(sum(size for start, stop, size in spans if start <= step <= stop) for step in range(end + 1))

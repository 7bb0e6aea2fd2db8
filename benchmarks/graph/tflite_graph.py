"""The operations of a TFLite file, and how much memory their activations take at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError

_BITS = {
    **dict.fromkeys(("FLOAT64", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT32", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    "INT4": 4,
}


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


def constants_of(file: TfliteFile) -> dict[int, TfliteTensor]:
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
    constants = constants_of(file)
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

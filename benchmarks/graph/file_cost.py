"""Parameters and multiply-accumulates of a model file, counted from the file's graph.

The configuration behind the file is not read, so the count checks it. One MAC is one multiplication with its addition;
convolutions, dense layers and products of two activations count, as in papers; norms, activations and sums do not.
Parameters are weights and biases, one for each element of any type, and the scales and offsets of norms, but not the
scales and zero points of a quantization. Converters drop biases that are zero: untrained weights give fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from preprocess.errors import DataError

from .layer_rules import GraphLayer
from .onnx_graph import onnx_layers
from .tflite_graph import peak_bytes, read_tflite_graph, tflite_layers


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

    Raises:
        DataError: the file is of neither format, has no fixed shapes, or has an operation whose cost is unknown.
    """
    if path.suffix == ".tflite":
        file = read_tflite_graph(path)
        return GraphCost(tuple(tflite_layers(file)), peak_bytes(file))
    if path.suffix == ".onnx":
        return GraphCost(tuple(onnx_layers(path)))
    raise DataError(f"{path} ends in {path.suffix!r}; operations are counted in .tflite and .onnx files")

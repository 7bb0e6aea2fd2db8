"""Parameters and multiply-accumulates of a model file, counted from the file's own graph.

Nothing of the configuration that the file was made from is read, so the count is a check of it. One MAC is one
multiplication with its addition; convolutions, dense layers and products of two activations count, as in papers; norms,
activations and sums do not. Parameters are weights and biases, one for each element in whatever type, and the scales
and offsets of norms; scales and zero points of a quantization are none. Converters drop biases that are zero, so files
of untrained weights have fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from preprocess.errors import DataError

from .layer_rules import PARTS, GraphLayer
from .onnx_graph import onnx_layers
from .tflite_graph import peak_bytes, read_tflite, tflite_layers

__all__ = ["PARTS", "GraphCost", "GraphLayer", "graph_cost"]


@dataclass(frozen=True)
class GraphCost:
    """Cost of a model file or of a part of it; `arena_bytes` is `peak_bytes` of a whole TFLite file, else None."""

    layers: tuple[GraphLayer, ...]
    arena_bytes: int | None = None

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def helper_macs(self) -> int:
        """Multiply-accumulates beyond `macs` that norms take because they are written as convolutions."""
        return sum(layer.helper_macs for layer in self.layers)

    def part(self, name: str) -> GraphCost:
        """The layers of `visual`, `audio` or `fusion`."""
        return GraphCost(tuple(layer for layer in self.layers if layer.part == name))


def graph_cost(path: Path) -> GraphCost:
    """Counts every operation of a `.tflite` or `.onnx` file, in the order of execution.

    Raises:
        DataError: the file is of neither format, has no fixed shapes, or has an operation whose cost is unknown.
    """
    if path.suffix == ".tflite":
        file = read_tflite(path)
        return GraphCost(tuple(tflite_layers(file)), peak_bytes(file))
    if path.suffix == ".onnx":
        return GraphCost(tuple(onnx_layers(path)))
    raise DataError(f"{path} ends in {path.suffix!r}; operations are counted in .tflite and .onnx files")

"""Parameters and multiply-accumulates of an ONNX file, by the rules of `benchmarks.graph.file_cost`."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx

_REARRANGING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze")
_UNPACKING = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", *_REARRANGING)


def onnx_cost(path: Path) -> tuple[int, int]:
    """Of a file in float or with quantize-dequantize pairs."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    infos = [*graph.input, *graph.value_info, *graph.output]
    shapes = {info.name: tuple(size.dim_value for size in info.type.tensor_type.shape.dim) for info in infos}
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    parameters = macs = 0
    for node in graph.node:
        out = shapes.get(node.output[0], ())
        known = [constants.get(name, ()) for name in node.input]
        if node.op_type == "Constant":
            constants[node.output[0]] = tuple(node.attribute[0].t.dims)
        elif node.op_type in _UNPACKING and node.input[0] in constants:
            constants[node.output[0]] = out if node.op_type in _REARRANGING else known[0]
        elif node.op_type in ("Add", "Sub", "Mul", "Div"):
            # Constants along one axis are trained, scalars are not.
            parameters += sum(prod(size) for size in known if size and 1 < prod(size) == max(size) in out)
        elif node.op_type in ("LayerNormalization", "BatchNormalization"):
            parameters += sum(map(prod, known[1:3]))
        elif node.op_type in ("Conv", "Gemm", "MatMul") and known[1]:
            kernel, channels = prod(known[1]), out[1 if node.op_type == "Conv" else -1]
            parameters += kernel + (prod(known[2]) if known[2:] else 0)
            # A scale per channel, written as a convolution, is none.
            macs += 0 if node.op_type == "Conv" and kernel == channels else kernel * prod(out) // channels
        elif node.op_type == "MatMul":
            macs += prod(out) * shapes[node.input[0]][-1]
        else:
            assert node.op_type not in ("Gemm", "ConvTranspose", "Einsum", "ConvInteger", "MatMulInteger")
    return parameters, macs

"""Conversion to TFLite, and what is read from and written into the file itself."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from quantize.recipes import Recipe

from .serving import OUTPUT_NAME, serving_module

METADATA_NAME = "pocket_har.json"


@dataclass(frozen=True)
class TfliteGraph:
    """What a TFLite file contains.

    Attributes:
        operators: how often each operator occurs.
        dtypes: how many tensors each type has.
        float_tensors: names of the tensors that hold floating-point numbers.
    """

    operators: dict[str, int]
    dtypes: dict[str, int]
    float_tensors: tuple[str, ...]


def convert_to_tflite(model: Any, recipe: Recipe) -> bytes:
    """The model as a TFLite file.

    Args:
        model: Keras model (skeleton, audio) → logits in the deploy form; for a static recipe with every activation
            that is to be int8 rounded (`quantize.rounding.quantized_deploy`), which tells the converter its range.
        recipe: precision.
    """
    with converter_of(model) as converter:
        if recipe.base != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if recipe.base == "weight_only_wf16_afp32":
            converter.target_spec.supported_types = [tf.float16]
        if recipe.static:
            # Not `TFLITE_BUILTINS_INT8` as well: with ranges from the graph the converter refuses it. The verification
            # walks the graph instead.
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        content: bytes = converter.convert()
    return content


@contextmanager
def converter_of(model: Any) -> Iterator[Any]:
    """A `TFLiteConverter` with nothing set for a Keras model of named inputs → logits."""
    module = serving_module(model)
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def finish_tflite(content: bytes, metadata: str, producers: Mapping[str, str]) -> bytes:
    """Gives inputs, output and activations their names and embeds `metadata` (JSON text) as a metadata entry.

    `producers` maps the Keras layer that gives an activation to the activation's name, as `quantize.rounding.Observed`
    has it. What the converter made of a tensor's name is a list of operations joined by `;`, the last one first.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    for tensor in graph.tensors:
        first = tensor.name.decode().split(";")[0]
        layer = first.removeprefix("recogniser/").rpartition("/")[0]
        constant = model.buffers[tensor.buffer].data is not None
        tensor.name = (first if constant else producers.get(layer, first)).encode()
    for tensor_map in [*signature.inputs, *signature.outputs]:
        graph.tensors[tensor_map.tensorIndex].name = tensor_map.name
    assert [own.name.decode() for own in signature.outputs] == [OUTPUT_NAME]
    _separate_names(model)
    _separate_constants(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata.encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = _AlignedBuilder(len(content) + len(metadata) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _separate_names(model: Any) -> None:
    """Gives every tensor a name of its own, as other tools expect: `name`, `name/1`, …

    Inputs and output come first, then activations, then constants and what is made of them.
    """
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    outer = {own.tensorIndex for own in [*signature.inputs, *signature.outputs]}
    constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
    for operator in graph.operators:
        if all(constant[index] for index in operator.inputs if index >= 0):
            for index in operator.outputs:
                constant[index] = True
    taken: set[bytes] = set()
    for index in sorted(range(len(graph.tensors)), key=lambda own: (own not in outer, constant[own])):
        given = graph.tensors[index].name
        given = given if isinstance(given, bytes) else given.encode()
        name, count = given, 0
        while name in taken:
            count += 1
            name = given + f"/{count}".encode()
        graph.tensors[index].name = name
        taken.add(name)


def _separate_constants(model: Any) -> None:
    """Gives every constant a buffer of its own; the converter lets equal ones share.

    LiteRT's weight cache knows packed weights by the buffers of kernel and bias. What it packs depends on the input's
    zero point too, so of two convolutions that share both, as the means of layer norms do, one would compute with
    the other's (seen in LiteRT 2.3).
    """
    taken = set()
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is None:
            continue
        if tensor.buffer in taken:
            own = schema.BufferT()
            own.data = data
            model.buffers.append(own)
            tensor.buffer = len(model.buffers) - 1
        taken.add(tensor.buffer)


def read_tflite_metadata(path: Path) -> str:
    """The JSON text that `finish_tflite` embedded."""
    model = _read(path)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name().decode() == METADATA_NAME:
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    raise KeyError(METADATA_NAME)


def read_tflite_graph(path: Path) -> TfliteGraph:
    """Walks every operator and tensor of all subgraphs."""
    operator_names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    type_names = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    model = _read(path)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    operators: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    floats = []
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for i in range(graph.OperatorsLength()):
            code = codes[graph.Operators(i).OpcodeIndex()]
            operators[operator_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]] += 1
        for i in range(graph.TensorsLength()):
            tensor = graph.Tensors(i)
            kind = type_names[tensor.Type()]
            dtypes[kind] += 1
            if kind in ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16"):
                floats.append(tensor.Name().decode())
    return TfliteGraph(dict(operators), dict(dtypes), tuple(floats))


def _read(path: Path) -> Any:
    return schema.Model.GetRootAs(path.read_bytes(), 0)


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns byte vectors to 16, as the schema asks of tensor data and Python's builder does not.

    Equal zero points are written once, as the converter does: those of every channel of every weight are zero.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._vectors: dict[bytes, int] = {}

    def CreateNumpyVector(self, x: Any) -> int:
        if x.dtype != np.int64:
            return int(super().CreateNumpyVector(x))
        key = x.tobytes()
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)

"""Conversion to TFLite, names and metadata in the file, and the types of its tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from preprocess.errors import DataError
from quantize.recipes import Recipe
from runtime.blocks import plain_name

OUTPUT_NAME = "logits"
METADATA_NAME = "pocket_har.json"
_FLOATS = {schema.TensorType.FLOAT16, schema.TensorType.BFLOAT16, schema.TensorType.FLOAT32, schema.TensorType.FLOAT64}


def serving_module(model: Any) -> tf.Module:
    """A module whose signature maps `skeleton` [1, S, S, C], `audio` [1, bands, frames, 3] or both to `logits`.

    Args:
        model: a Keras model with inputs of these names. The batch is fixed at one: a dynamic batch leaves shape
            arithmetic in the graph that no accelerator supports.
    """
    module = tf.Module()
    # The variables alone: saving the Keras model as well would trace its training form.
    module.weights = list(model.variables)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((1, *tensor.shape[1:]), tf.float32, name=tensor.name) for tensor in model.inputs]
    )
    def serve(*tensors: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: model(list(tensors), training=False)}

    module.serve = serve
    return module


def convert_plain_tflite(model: Any, samples: Callable[[], Iterator[dict[str, Any]]] | None) -> bytes:
    """The training graph by the documentation's recipe: `Optimize.DEFAULT` and a representative data set.

    Args:
        model: Keras model in its training form.
        samples: one recording's tensors after another, for full-integer quantization; None for float32.

    Raises:
        DataError: the converter failed.
    """
    with converter_of(model) as converter:
        if samples:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = samples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return run_converter(converter)


def convert_to_tflite(model: Any, recipe: Recipe) -> bytes:
    """The model as a TFLite file.

    Args:
        model: Keras model (skeleton, audio) → logits in the deploy form. For a static recipe every activation that
            becomes int8 is rounded (`quantize.rounding.quantized_deploy`), which gives the converter its range.
        recipe: precision.

    Raises:
        DataError: the converter failed.
    """
    with converter_of(model) as converter:
        if recipe.base != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if recipe.base == "weight_only_wf16_afp32":
            converter.target_spec.supported_types = [tf.float16]
        if recipe.static:
            # `TFLITE_BUILTINS_INT8` is not set: the converter refuses it for graphs with ranges. The verification
            # checks all tensors instead.
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return run_converter(converter)


def run_converter(converter: Any) -> bytes:
    """The file of a `TFLiteConverter`.

    Raises:
        DataError: it failed.
    """
    try:
        content: bytes = converter.convert()
    except Exception as error:  # its exceptions have no other base in common
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"TFLite's converter failed: {reason}; choose another --recipe or --target") from error
    return content


@contextmanager
def converter_of(model: Any) -> Iterator[Any]:
    """A `TFLiteConverter` with default settings for a Keras model of named inputs → logits."""
    module = serving_module(model)
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def finish_tflite(content: bytes, metadata: str, producers: Mapping[str, str]) -> bytes:
    """Gives inputs, output and activations their names and embeds `metadata` (JSON text) as a metadata entry.

    `producers` maps the Keras layer that computes an activation to the activation's name, see
    `quantize.rounding.observed_deploy`. The converter names a tensor after its operations, joined by `;`, the last
    one first.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    for tensor in graph.tensors:
        first = tensor.name.decode().split(";")[0]
        layer = plain_name(first).rpartition("/")[0]
        constant = model.buffers[tensor.buffer].data is not None
        tensor.name = (first if constant else producers.get(layer, first)).encode()
    for tensor_map in [*signature.inputs, *signature.outputs]:
        graph.tensors[tensor_map.tensorIndex].name = tensor_map.name
    assert [output.name.decode() for output in signature.outputs] == [OUTPUT_NAME]
    _separate_names(model)
    _separate_constants(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata.encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return pack_tflite(model, len(content) + len(metadata) + 4096)


def _separate_names(model: Any) -> None:
    """Makes the names of tensors unique, as other tools expect: `name`, `name/1`, …

    Inputs and output come first, then activations, then constants and their derivatives.
    """
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    outer = {tensor.tensorIndex for tensor in [*signature.inputs, *signature.outputs]}
    constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
    for operator in graph.operators:
        if all(constant[index] for index in operator.inputs if index >= 0):
            for index in operator.outputs:
                constant[index] = True
    used: set[bytes] = set()
    for index in sorted(range(len(graph.tensors)), key=lambda i: (i not in outer, constant[i])):
        base = graph.tensors[index].name
        base = base if isinstance(base, bytes) else base.encode()
        name, count = base, 0
        while name in used:
            count += 1
            name = base + f"/{count}".encode()
        graph.tensors[index].name = name
        used.add(name)


def _separate_constants(model: Any) -> None:
    """Gives every constant a separate buffer; the converter lets equal constants share one.

    LiteRT's weight cache identifies packed weights by the buffers of kernel and bias. Packing also depends on the
    input's zero point, so of two convolutions that share both buffers, as the means of layer norms do, one would
    compute with the weights of the other (seen in LiteRT 2.3).
    """
    used = set()
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is None:
            continue
        if tensor.buffer in used:
            buffer = schema.BufferT()
            buffer.data = data
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        used.add(tensor.buffer)


def float_tensors(path: Path) -> list[str]:
    """Names of the floating-point tensors of a TFLite file, of all its subgraphs."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    return [tensor.name.decode() for graph in model.subgraphs for tensor in graph.tensors if tensor.type in _FLOATS]


def pack_tflite(model: Any, size: int) -> bytes:
    """The bytes of a `schema.ModelT`; `size` is an estimate of their number."""
    builder = _AlignedBuilder(size)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns byte vectors to 16, as the schema requires of tensor data; Python's builder does not.

    Equal zero points are written once, as the converter does: every channel of every weight has zero point zero.
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

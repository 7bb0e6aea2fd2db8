"""Conversion to TFLite, and what is read from and written into the file itself."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from console.progress import track
from model.recogniser import Recogniser
from quantize.recipes import Recipe
from recordings.calibration import CalibrationSet

from .serving import INPUT_NAMES, OUTPUT_NAME, serving_module

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


def convert_to_tflite(recogniser: Recogniser, recipe: Recipe, calibration: CalibrationSet | None) -> bytes:
    """The model as a TFLite file.

    Args:
        recogniser: the trained models.
        recipe: FLOAT32 or STATIC_WI8_AI8.
        calibration: sets the ranges of all activations; needed for an integer recipe.
    """
    module = serving_module(recogniser)
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if recipe.integer_only:
            assert calibration is not None
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _representative(calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        content: bytes = converter.convert()
    return content


def _representative(calibration: CalibrationSet) -> Iterator[dict[str, Any]]:
    """Calibration inputs by name. One corner pixel is set to 1, so that the heatmaps' range is [0, 1] exactly."""
    for index in track(range(len(calibration.names)), "calibrating", len(calibration.names)):
        skeleton = calibration.skeleton[index : index + 1]
        if index == 0:
            skeleton = skeleton.copy()
            skeleton[0, 0, 0, 0] = 1.0
        yield {"skeleton": skeleton, "audio": calibration.audio[index : index + 1]}


def finish_tflite(content: bytes, metadata: str) -> bytes:
    """Gives inputs and output their short names and embeds `metadata` (JSON text) as a metadata entry."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    for tensor_map in [*signature.inputs, *signature.outputs]:
        graph.tensors[tensor_map.tensorIndex].name = tensor_map.name
    names = {map_.name.decode() for map_ in [*signature.inputs, *signature.outputs]}
    assert names == {*INPUT_NAMES, OUTPUT_NAME}, names
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata.encode(), dtype=np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = _AlignedBuilder(len(content) + len(metadata) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


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
    """Aligns byte vectors to 16, as the schema asks of tensor data and Python's builder does not."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)

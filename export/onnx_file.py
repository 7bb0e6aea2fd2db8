"""Conversion to ONNX, static quantization in QDQ form, and the metadata inside the file."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from console.progress import track
from model.recogniser import Recogniser
from preprocess.errors import PocketHarError
from quantize.recipes import Recipe
from recordings.calibration import CalibrationSet

from .serving import INPUT_NAMES, OUTPUT_NAME, serving_module

METADATA_NAME = "pocket_har"
OPSET = 17


def convert_to_onnx(recogniser: Recogniser, recipe: Recipe, calibration: CalibrationSet | None, path: Path) -> None:
    """Writes the model as an ONNX file; inputs and output are float32 in every recipe.

    Raises:
        PocketHarError: tf2onnx met an operation that it cannot convert, or wrote an invalid graph.
    """
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        float_path = Path(folder) / "float32.onnx"
        onnx.save(_convert(recogniser), float_path)
        if recipe.integer_only:
            assert calibration is not None
            _quantize(float_path, path, calibration)
        else:
            path.write_bytes(float_path.read_bytes())


def embed_onnx_metadata(path: Path, metadata: str) -> None:
    """Stores `metadata` (JSON text) in the file's `metadata_props`."""
    model = onnx.load(path)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_NAME, metadata
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def read_onnx_metadata(path: Path) -> str:
    """The JSON text that `embed_onnx_metadata` stored."""
    entries: dict[str, str] = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return entries[METADATA_NAME]


def _convert(recogniser: Recogniser) -> onnx.ModelProto:
    import tf2onnx

    failures = _ConversionErrors()
    logging.getLogger("tf2onnx").addHandler(failures)
    try:
        module = serving_module(recogniser)
        signature = module.serve.input_signature
        model, _ = tf2onnx.convert.from_function(module.serve, input_signature=signature, opset=OPSET)
    finally:
        logging.getLogger("tf2onnx").removeHandler(failures)
    # tf2onnx logs an operation that it cannot convert and goes on.
    if failures.messages:
        raise PocketHarError(f"tf2onnx could not convert the model: {failures.messages[0]}")
    _rename(model)
    onnx.checker.check_model(model, full_check=True)
    return model


class _ConversionErrors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _rename(model: onnx.ModelProto) -> None:
    """Gives the graph's inputs and output the names of the contract."""
    graph = model.graph
    inputs = {tensor.name: name for tensor in graph.input for name in INPUT_NAMES if tensor.name.startswith(name)}
    names = inputs | {graph.output[0].name: OUTPUT_NAME}
    assert set(names.values()) == {*INPUT_NAMES, OUTPUT_NAME}, names
    for tensor in [*graph.input, *graph.output]:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _quantize(source: Path, target: Path, calibration: CalibrationSet) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    # A decomposed layer norm or GELU gains nothing from integers: its many small nodes would be requantized each.
    delicate = [n.name for n in onnx.load(prepared).graph.node if "norm/" in n.name or "gelu/" in n.name]
    quantize_static(
        str(prepared),
        str(target),
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        # 7-bit weights: on x86 without VNNI the kernels add two products in 16 bits, which full range overflows
        # (measured with random weights: 10 dB on the logits instead of 27).
        reduce_range=True,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=delicate,
    )


class _Reader:
    """Calibration inputs by name, in the form that onnxruntime asks for."""

    def __init__(self, calibration: CalibrationSet) -> None:
        self._items: Iterator[dict[str, Any]] = _feeds(calibration)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._items, None)


def _feeds(calibration: CalibrationSet) -> Iterator[dict[str, Any]]:
    for index in track(range(len(calibration.names)), "calibrating", len(calibration.names)):
        yield {
            "skeleton": calibration.skeleton[index : index + 1],
            "audio": calibration.audio[index : index + 1],
        }

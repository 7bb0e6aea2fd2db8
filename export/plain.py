"""The training graph through the converters' defaults, for comparison.

TFLite: `TFLiteConverter` with `Optimize.DEFAULT` and a representative data set (the documentation's full-integer
quantization). ONNX: tf2onnx, then ONNX Runtime's `quant_pre_process` and `quantize_static`, nothing else set.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import tensorflow as tf

from preprocess.errors import UsageError
from quantize.recipes import Recipe
from recordings.calibration import CalibrationSet

from .onnx_file import run_tf2onnx, save_onnx
from .tflite_file import converter_of, finish_tflite, run_converter

_OPSET = 17  # the newest that both ONNX Runtime's pre-processing and tf2onnx support


def convert_plain(model: Any, recipe: Recipe, calibration: CalibrationSet | None, path: Path, metadata: str) -> None:
    """Converts a Keras model in its training form to the format that the path's suffix names.

    Args:
        model: of `model.recogniser.Recogniser`.
        recipe: float32, or integers only.
        calibration: for integers.
        path: of the file.
        metadata: JSON text to embed.

    Raises:
        UsageError: the recipe is another.
        DataError: a converter failed.
    """
    if recipe.base != "float32" and not recipe.integer_only:
        raise UsageError(
            f"target plain supports float32 and static_wi8_ai8, not {recipe.name}; choose another --target"
        )
    names = [tensor.name for tensor in model.inputs]
    if path.suffix == ".tflite":
        path.write_bytes(finish_tflite(_tflite(model, names, calibration), metadata, {}))
    else:
        save_onnx(_onnx(model, names, calibration), path, metadata)


def _samples(names: list[str], calibration: CalibrationSet) -> Iterator[dict[str, Any]]:
    for index in range(len(calibration.names)):
        batch = calibration.batch(index, 1)
        yield {name: batch[name] for name in names}


def _tflite(model: Any, names: list[str], calibration: CalibrationSet | None) -> bytes:
    with converter_of(model) as converter:
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: _samples(names, calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return run_converter(converter)


def _onnx(model: Any, names: list[str], calibration: CalibrationSet | None) -> onnx.ModelProto:
    converted = run_tf2onnx(model, _OPSET)
    if calibration is None:
        return converted
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    samples = _samples(names, calibration)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(samples, None)

    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        source, prepared, result = (f"{folder}/{name}.onnx" for name in ("float32", "prepared", "int8"))
        onnx.save(converted, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)  # every shape is known
        quantize_static(prepared, result, Reader())
        return onnx.load(result)

"""What the converters make of the training graph by themselves, with their defaults: something to compare with.

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

from .onnx_file import save_onnx
from .serving import serving_module
from .tflite_file import converter_of, finish_tflite

_OPSET = 17  # the newest that ONNX Runtime's pre-processing and tf2onnx both handle


def write_plain(model: Any, recipe: Recipe, calibration: CalibrationSet | None, path: Path, metadata: str) -> None:
    """Converts a Keras model in its training form to the format that the path's suffix names.

    Args:
        model: of `model.recogniser.Recogniser`.
        recipe: float32, or integers only.
        calibration: for integers.
        path: of the file.
        metadata: JSON text to embed, as every artefact has it.

    Raises:
        UsageError: the recipe is another.
    """
    if recipe.base != "float32" and not recipe.integer_only:
        raise UsageError(f"target plain knows float32 and static_wi8_ai8, not {recipe.name}; choose another --target")
    names = [own.name for own in model.inputs]
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
        content: bytes = converter.convert()
    return content


def _onnx(model: Any, names: list[str], calibration: CalibrationSet | None) -> onnx.ModelProto:
    import tf2onnx

    serve = serving_module(model).serve
    converted, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=_OPSET)
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

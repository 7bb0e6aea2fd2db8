"""A plain export to compare with: keras.applications' backbones joined by Keras' own layers, default converters.

`python -m benchmarks.plain DIR` writes `plain-float32` and `plain-int8`, each as TFLite and as ONNX, with random
weights: what one gets from the libraries' documentation without further thought. Two layers of ConvNeXt are exchanged
for equal ones that tf2onnx can convert, and the batch is fixed at one.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from console.files import atomic_file
from console.program import log, make_parser, run_as_main, show
from preprocess.errors import PocketHarError

SKELETON_SHAPE = (1, 224, 224, 31)
AUDIO_SHAPE = (1, 128, 384, 3)
FILES = ("plain-float32.tflite", "plain-int8.tflite", "plain-float32.onnx", "plain-int8.onnx")
GEMM_ROWS, GEMM_DEPTH, GEMM_COLUMNS = 14 * 14, 1024, 256

_CLASSES = 60
_CALIBRATION_SAMPLES = 4
_OPSET = 17


def write_plain(folder: Path) -> None:
    """Writes FILES; takes some minutes.

    Raises:
        PocketHarError: tf2onnx met an operation that it cannot convert.
    """
    log("building the plain model")
    write_files(_model(), folder)


def write_files(model: Any, folder: Path) -> None:
    """Writes FILES from a Keras model of [skeleton, audio], both of batch one."""
    import tensorflow as tf

    shapes = {name: tuple(tensor.shape) for name, tensor in zip(("skeleton", "audio"), model.inputs, strict=True)}

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()]
    )
    def serve(skeleton: Any, audio: Any) -> Any:
        return model([skeleton, audio], training=False)

    for name in FILES:
        log(f"writing {name}")
        with atomic_file(folder / name) as path:
            if name.endswith(".tflite"):
                path.write_bytes(_tflite(serve, model, shapes, int8="int8" in name))
            elif "int8" not in name:
                _write_onnx(serve, path)
            else:
                _quantize_onnx(folder / "plain-float32.onnx", path, shapes)


def _model() -> Any:
    """The Keras model: [skeleton, audio] to logits [1, _CLASSES]."""
    import tf_keras as keras

    skeleton = keras.Input(SKELETON_SHAPE[1:], batch_size=1)
    audio = keras.Input(AUDIO_SHAPE[1:], batch_size=1)
    visual = keras.applications.ResNet50(weights=None, include_top=False, input_shape=SKELETON_SHAPE[1:])
    with convertible_layers():
        heard = keras.applications.ConvNeXtTiny(
            weights=None, include_top=False, include_preprocessing=False, input_shape=AUDIO_SHAPE[1:]
        )
    tokens = keras.layers.Dense(256)(keras.layers.Reshape((-1, 768))(heard(audio)))
    memory = keras.layers.Dense(256)(keras.layers.Reshape((-1, 2048))(visual(skeleton)))
    mixed = keras.layers.MultiHeadAttention(4, 64)(tokens, memory)
    fused = keras.layers.LayerNormalization(epsilon=1e-6)(tokens + mixed)
    logits = keras.layers.Dense(_CLASSES)(keras.layers.GlobalAveragePooling1D()(fused))
    return keras.Model([skeleton, audio], logits)


@contextlib.contextmanager
def convertible_layers() -> Iterator[None]:
    """Meanwhile ConvNeXt is built without the two layers that tf2onnx cannot convert.

    A convolution of as many groups as channels is traced as a function of its own, and TensorFlow's GELU uses erfc.
    """
    import tensorflow as tf
    from tf_keras.src import layers
    from tf_keras.src.applications import convnext

    def convolution(*arguments: Any, groups: int = 1, **options: Any) -> Any:
        if groups == 1:
            return layers.Conv2D(*arguments, **options)
        assert groups == options.pop("filters"), "grouped, but not depthwise"
        return layers.DepthwiseConv2D(**options)

    def activation(function: str, **options: Any) -> Any:
        return layers.Activation(gelu if function == "gelu" else function, **options)

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1.0 + tf.math.erf(x * (1.0 / math.sqrt(2.0))))

    # A copy: every other model is built from `layers` itself.
    exchanged = SimpleNamespace(**{**vars(layers), "Conv2D": convolution, "Activation": activation})
    with mock.patch.object(convnext, "layers", exchanged):
        yield


def _tflite(serve: Any, model: Any, shapes: dict[str, tuple[int, ...]], *, int8: bool) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], model)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (list(sample.values()) for sample in _samples(shapes))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def _write_onnx(serve: Any, path: Path) -> None:
    import onnx
    import tf2onnx

    errors = _Errors()
    logging.getLogger("tf2onnx").addHandler(errors)
    try:
        model, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=_OPSET)
    finally:
        logging.getLogger("tf2onnx").removeHandler(errors)
    # tf2onnx logs an operation that it cannot convert and goes on.
    if errors.messages:
        raise PocketHarError(f"tf2onnx could not convert the plain model: {errors.messages[0]}")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _quantize_onnx(source: Path, target: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Static quantization as ONNX Runtime's documentation shows it: pre-processing, then the defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples = _samples(shapes)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._samples, None)

    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        prepared = f"{folder}/prepared.onnx"
        quant_pre_process(str(source), prepared, skip_symbolic_shape=True)  # every shape is known
        quantize_static(prepared, str(target), Reader())


def _samples(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, Any]]:
    """Random calibration inputs, float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    for _ in range(_CALIBRATION_SAMPLES):
        yield {
            "skeleton": rng.random(shapes["skeleton"], dtype=np.float32),
            "audio": rng.normal(size=shapes["audio"]).astype(np.float32),
        }


def write_gemm(folder: Path) -> list[Path]:
    """Writes one product of matrices as files: a 1 × 1 convolution in TFLite, a MatMul in ONNX.

    Their names are the type of the activations, inputs and outputs included; integer weights are int8.
    """
    import tensorflow as tf

    shape = (1, 14, GEMM_ROWS // 14, GEMM_DEPTH)
    kernel = tf.random.stateless_normal((1, 1, GEMM_DEPTH, GEMM_COLUMNS), (0, 0))
    function = tf.function(lambda x: tf.nn.conv2d(x, kernel, 1, "VALID"), input_signature=[tf.TensorSpec(shape)])
    paths = []
    for name in ("float32", "int8"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
        if name == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: [[tf.random.stateless_normal(shape, (0, 1))]]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        paths.append(folder / f"{name}.tflite")
        paths[-1].write_bytes(converter.convert())
    for name in ("float32", "int8", "uint8"):
        paths.append(folder / f"{name}.onnx")
        _write_onnx_gemm(paths[-1], name)
    return paths


def _write_onnx_gemm(path: Path, dtype: str) -> None:
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = (GEMM_DEPTH, GEMM_COLUMNS)
    if dtype == "float32":
        operator, inputs = "MatMul", ["a", "b"]
        constants: dict[str, Any] = {"b": rng.standard_normal(weights, np.float32)}
    else:
        operator, inputs = "QLinearMatMul", ["a", "one", "a_zero", "b", "one", "b_zero", "y_scale", "a_zero"]
        constants = {
            "b": rng.integers(-127, 127, weights, np.int8, endpoint=True),
            "b_zero": np.int8(0),
            "a_zero": np.dtype(dtype).type(0),
            "one": np.float32(1),
            "y_scale": np.float32(3e4),
        }
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "gemm",
        [helper.make_tensor_value_info("a", element, (GEMM_ROWS, GEMM_DEPTH))],
        [helper.make_tensor_value_info("y", element, (GEMM_ROWS, GEMM_COLUMNS))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.studies.plain", "Write a plain export of the two backbones to compare with.")
    parser.add_argument("folder", type=Path, metavar="DIR", help=f"where {', '.join(FILES)} go")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    write_plain(options.folder)
    for name in FILES:
        show(f"{options.folder / name}  {(options.folder / name).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_as_main(build_parser())

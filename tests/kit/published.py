"""Published networks from keras.applications as model files."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock


@contextlib.contextmanager
def convertible_layers() -> Iterator[None]:
    """Builds ConvNeXt without the two layers that tf2onnx cannot convert.

    A convolution with as many groups as channels is traced as a separate function, and TensorFlow's GELU uses erfc.
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


def write_onnx_by_tf2onnx(serve: Any, path: Path) -> None:
    """Writes a `tf.function`; fails where tf2onnx, which only logs them, met an operation that it cannot convert."""
    import onnx
    import tf2onnx

    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("tf2onnx").addHandler(handler)
    try:
        model, _ = tf2onnx.convert.from_function(serve, input_signature=serve.input_signature, opset=17)
    finally:
        logging.getLogger("tf2onnx").removeHandler(handler)
    assert errors == []
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)

"""A plain export to compare with: keras.applications' backbones joined by Keras' own layers, default converters.

`python -m benchmarks.plain DIR` writes `plain-float32.tflite`, `plain-int8.tflite` and `plain-float32.onnx` with random
weights: what one gets from the libraries' documentation without further thought, but for the fixed batch of one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

SKELETON_SHAPE = (1, 224, 224, 31)
AUDIO_SHAPE = (1, 128, 384, 3)
_CLASSES = 60
_CALIBRATION_SAMPLES = 4


def write_plain(folder: Path) -> None:
    """Writes the three files; takes some minutes."""
    import tensorflow as tf
    import tf2onnx

    model = _model()

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec(SKELETON_SHAPE, tf.float32, name="skeleton"),
            tf.TensorSpec(AUDIO_SHAPE, tf.float32, name="audio"),
        ]
    )
    def serve(skeleton: Any, audio: Any) -> Any:
        return model([skeleton, audio], training=False)

    for name, int8 in (("plain-float32", False), ("plain-int8", True)):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], model)
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = _samples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        (folder / f"{name}.tflite").write_bytes(converter.convert())
    tf2onnx.convert.from_function(
        serve, input_signature=serve.input_signature, opset=17, output_path=str(folder / "plain-float32.onnx")
    )


def _model() -> Any:
    import tensorflow as tf
    import tf_keras as keras

    def gelu(x: Any, approximate: bool = False) -> Any:
        """With erf: TensorFlow's own uses erfc, which tf2onnx cannot convert."""
        return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2.0)))

    with mock.patch.object(tf.nn, "gelu", gelu):
        skeleton = keras.Input(SKELETON_SHAPE[1:], batch_size=1)
        audio = keras.Input(AUDIO_SHAPE[1:], batch_size=1)
        visual = keras.applications.ResNet50(weights=None, include_top=False, input_shape=SKELETON_SHAPE[1:])
        heard = keras.applications.ConvNeXtTiny(
            weights=None, include_top=False, include_preprocessing=False, input_shape=AUDIO_SHAPE[1:]
        )
        tokens = keras.layers.Dense(256)(keras.layers.Reshape((48, 768))(heard(audio)))
        memory = keras.layers.Dense(256)(keras.layers.Reshape((49, 2048))(visual(skeleton)))
        mixed = keras.layers.MultiHeadAttention(4, 64)(tokens, memory)
        fused = keras.layers.LayerNormalization(epsilon=1e-6)(tokens + mixed)
        logits = keras.layers.Dense(_CLASSES)(keras.layers.GlobalAveragePooling1D()(fused))
        model = keras.Model([skeleton, audio], logits)
        # Traced while GELU is replaced.
        model([tf.zeros(SKELETON_SHAPE), tf.zeros(AUDIO_SHAPE)])
    return model


def _samples() -> Iterator[list[Any]]:
    rng = np.random.default_rng(0)
    for _ in range(_CALIBRATION_SAMPLES):
        yield [
            rng.random(SKELETON_SHAPE, dtype=np.float32),
            rng.normal(size=AUDIO_SHAPE).astype(np.float32),
        ]


if __name__ == "__main__":
    write_plain(Path(sys.argv[1]))

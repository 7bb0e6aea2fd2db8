"""The deploy form as a function of fixed shapes with the names that every artefact has."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

INPUT_NAMES = ("skeleton", "audio")
OUTPUT_NAME = "logits"


def serving_module(model: Any) -> tf.Module:
    """A module whose signature maps `skeleton` [1, S, S, C] and `audio` [1, bands, frames, 3] to `logits`.

    Args:
        model: a Keras model (skeleton, audio) → logits. The batch is fixed at one: a dynamic batch leaves shape
            arithmetic in the graph that no accelerator takes.
    """
    module = tf.Module()
    # The variables alone: saving the Keras model as well would trace its training form.
    module.weights = list(model.variables)
    shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs]

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec(shape, tf.float32, name=name) for shape, name in zip(shapes, INPUT_NAMES, strict=True)
        ]
    )
    def serve(skeleton: Any, audio: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: model([skeleton, audio], training=False)}

    module.serve = serve
    return module

"""The deploy form as a function of fixed shapes with the names that every artefact has."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

OUTPUT_NAME = "logits"


def serving_module(model: Any) -> tf.Module:
    """A module whose signature maps `skeleton` [1, S, S, C], `audio` [1, bands, frames, 3] or both to `logits`.

    Args:
        model: a Keras model with inputs of these names. The batch is fixed at one: a dynamic batch leaves shape
            arithmetic in the graph that no accelerator takes.
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

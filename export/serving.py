"""The fused model as a function of fixed shapes with the names that every artefact has."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from model.recogniser import Recogniser

INPUT_NAMES = ("skeleton", "audio")
OUTPUT_NAME = "logits"


def serving_module(recogniser: Recogniser) -> tf.Module:
    """A module whose signature maps `skeleton` [1, S, S, C] and `audio` [1, bands, frames, 3] to `logits`.

    The batch is fixed at one: a dynamic batch turns every dense layer on a feature map into shape arithmetic that
    no accelerator takes.
    """
    spec = recogniser.config.spec
    module = tf.Module()
    # The variables alone: saving the Keras model as well would trace its training form.
    module.weights = list(recogniser.fused.variables)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec((1, *spec.skeleton.shape), tf.float32, name="skeleton"),
            tf.TensorSpec((1, *spec.audio.shape), tf.float32, name="audio"),
        ]
    )
    def serve(skeleton: Any, audio: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: recogniser.fused([skeleton, audio], training=False)}

    module.serve = serve
    return module

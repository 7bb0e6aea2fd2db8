"""Changes of the deploy form's weights that reduce rounding error (Nagel et al. 2019, Data-free quantization)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from model.config import ModelConfig
from model.folding import BIASED_PART, PARTS, Array, Weights
from recordings.calibration import CalibrationSet

from .rounding import Observed, axes_within_channel, feed, round_weights

_EQUALISING_PASSES = 10


def equalise(config: ModelConfig, weights: Weights) -> Weights:
    """Balance the ranges of consecutive convolutions with a ReLU or nothing between them; no logit changes.

    Channel i of the first is divided by s_i and multiplied by s_i in the second, with s_i = √(r1_i / r2_i), r1 and r2
    the largest weights of that channel on either side (Eq. 11). Pairs: the convolutions inside ResNet blocks, and
    ConvNeXt's depthwise with the 1 × 1 behind it where batch norm was learned (a layer norm between them would undo
    it).
    """
    out = dict(weights)
    # A middle convolution belongs to two pairs, so one pass does not settle it.
    for first, second in _EQUALISING_PASSES * [pair for pair in _pairs(config) if f"{pair[1]}/kernel" in weights]:
        kernels = [name for name in out if name.startswith(f"{first}/") and "kernel" in name]
        behind = out[f"{second}/kernel"]
        r1 = np.max([_channel_range(out[name], name) for name in kernels], axis=0)
        r2 = np.abs(behind).max(axis=(0, 1, 3))
        scale = np.sqrt(np.where((r1 > 0) & (r2 > 0), r1 / np.maximum(r2, 1e-12), 1.0)).astype(np.float32)
        for name in kernels:
            out[name] = out[name] / (scale[:, None] if name.endswith("depthwise_kernel") else scale)
        bias = f"{first}/bias" if f"{first}/bias" in out else f"{first}/{BIASED_PART}/bias"
        out[bias] = out[bias] / scale
        out[f"{second}/kernel"] = behind * scale[:, None]
    return out


def correct_biases(observed: Observed, weights: Weights, calibration: CalibrationSet) -> Weights:
    """Subtract from every bias the mean error of rounding its layer's kernel, on the calibration set (sec. 4.2).

    Args:
        observed: the float model with `weights`.
        weights: of the deploy form.
        calibration: recordings for the means.
    """
    rounded = round_weights(weights)
    kernels = {f"{layer.name}/{_kernel_name(layer)}": layer for layer in observed.model.layers}
    kernels = {name: layer for name, layer in kernels.items() if name in weights}
    layers, errors = list(kernels.values()), [rounded[name] - weights[name] for name in kernels]
    inputs = keras.Model(observed.model.inputs, [layer.input for layer in layers])

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def means(batch: dict[str, Any]) -> Any:
        tensors = inputs(feed(inputs, batch), training=False)
        return [
            tf.reduce_mean(_apply(layer, x, error), axis=tuple(range(len(layer.output.shape) - 1)))
            for layer, x, error in zip(layers, tensors, errors, strict=True)
        ]

    count = len(calibration.names)
    totals = [np.zeros(layer.output.shape[-1], np.float64) for layer in layers]
    for index in range(count):
        for total, mean in zip(totals, means(calibration.batch(index, 1)), strict=True):
            total += np.asarray(mean)
    out = dict(weights)
    for layer, total in zip(layers, totals, strict=True):
        name = f"{layer.name}/bias"
        for part in PARTS:
            name = name.replace(f"/depthwise/{part}/", f"/depthwise/{BIASED_PART}/")
        if name in out:
            out[name] = (out[name] - total / count).astype(np.float32)
    return out


def _pairs(config: ModelConfig) -> Iterator[tuple[str, str]]:
    for block in config.visual.blocks():
        yield from pairwise(name for name, *_ in block.convolutions)
    if config.audio.norm == "batch":
        yield from ((f"{block.name}/depthwise", f"{block.name}/expand") for block in config.audio.blocks())


def _channel_range(kernel: Array, name: str) -> Array:
    largest: Array = np.abs(kernel).max(axis=axes_within_channel(kernel, name))
    return largest


def _kernel_name(layer: Any) -> str:
    return "depthwise_kernel" if isinstance(layer, keras.layers.DepthwiseConv2D) else "kernel"


def _apply(layer: Any, x: Any, kernel: Array) -> Any:
    """The layer's product with another kernel, without bias."""
    if isinstance(layer, keras.layers.Dense):
        return tf.matmul(x, kernel)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        strides = (1, *layer.strides, 1)
        return tf.nn.depthwise_conv2d(x, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate)
    return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper())

"""From a checkpoint to the input of a converter: the deploy form's weights, ranges and names.

Two changes of the weights reduce rounding error: equalisation and bias correction (Nagel et al. 2019, Data-free
quantization).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from model.config import DeployForm, ModelConfig
from model.folding import BIASED_PART, PARTS, Array, Weights, fold
from recordings.calibration import CalibrationSet

from .ranges import Method, choose_ranges, collect, widen_summands
from .recipes import Recipe
from .rounding import Range, axes_within_channel, feed, observed_deploy, quantized_deploy, round_weights

_EQUALISING_PASSES = 10


@dataclass(frozen=True)
class CalibrationOptions:
    """Choice of ranges, and changes of the weights before rounding.

    Attributes:
        method: `minmax`, `percentile` or `mse`.
        equalise: cross-layer equalisation.
        correct_biases: take out the mean error of rounded weights.
    """

    method: Method = "mse"
    equalise: bool = False
    correct_biases: bool = True

    @classmethod
    def of(cls, options: argparse.Namespace) -> CalibrationOptions:
        """From the options of `console.options.add_calibration`."""
        return cls(options.calibrate_by, options.equalise, not options.keep_biases)


@dataclass(frozen=True)
class Prepared:
    """A checkpoint in the deploy form of a target.

    Attributes:
        config, form: of the deploy form.
        weights: of the deploy form, as trained.
        equalised: the same, equalised if the options ask for it; no logit differs.
        static_weights: the same with corrected biases, for rounded kernels.
        producers: names of Keras layers → the activation that each produces.
        ranges: of every activation; empty without calibration.
    """

    config: ModelConfig
    form: DeployForm
    weights: Weights
    equalised: Weights
    static_weights: Weights
    producers: dict[str, str]
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def float_model(self, recipe: Recipe) -> Any:
        """Keras model of float arithmetic with the recipe's weights."""
        return self._rounded(recipe, {})

    def model(self, recipe: Recipe) -> Any:
        """Keras model with rounding at the activations that a static recipe stores in eight bits."""
        return self._rounded(recipe, self.ranges if recipe.static else {})

    def _rounded(self, recipe: Recipe, ranges: Mapping[str, Range]) -> Any:
        ranges = {name: limits for name, limits in ranges.items() if not recipe.is_exception(name)}
        weights = self.static_weights if recipe.static else self.weights
        return quantized_deploy(self.config, self.form, weights, ranges)


def prepare(
    config: ModelConfig,
    weights: Weights,
    form: DeployForm,
    calibration: CalibrationSet | None,
    options: CalibrationOptions,
) -> Prepared:
    """Fold the trained weights and, with a calibration set, find all ranges.

    Raises:
        DataError: weights and configuration do not fit.
    """
    folded = fold(config, weights, form)
    if calibration is None:
        return Prepared(config, form, folded, folded, folded, observed_deploy(config, form, folded)[1])
    equalised = equalise(config, folded) if options.equalise else folded
    model, producers = observed_deploy(config, form, equalised)
    statistics = collect(model, producers.values(), calibration)
    ranges = widen_summands(choose_ranges(statistics, options.method), model, producers)
    static = correct_biases(model, equalised, calibration) if options.correct_biases else equalised
    return Prepared(config, form, folded, equalised, static, producers, ranges)


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
        r1 = np.max([np.abs(out[name]).max(axis=axes_within_channel(out[name], name)) for name in kernels], axis=0)
        r2 = np.abs(behind).max(axis=(0, 1, 3))
        scale = np.sqrt(np.where((r1 > 0) & (r2 > 0), r1 / np.maximum(r2, 1e-12), 1.0)).astype(np.float32)
        for name in kernels:
            out[name] = out[name] / (scale[:, None] if name.endswith("depthwise_kernel") else scale)
        bias = f"{first}/bias" if f"{first}/bias" in out else f"{first}/{BIASED_PART}/bias"
        out[bias] = out[bias] / scale
        out[f"{second}/kernel"] = behind * scale[:, None]
    return out


def correct_biases(model: keras.Model, weights: Weights, calibration: CalibrationSet) -> Weights:
    """Subtract from every bias the mean error of rounding its layer's kernel, on the calibration set (sec. 4.2).

    `model` is the float deploy form with `weights`.
    """
    rounded = round_weights(weights)
    names = itertools.product(model.layers, ("kernel", "depthwise_kernel"))
    kernels = {name: layer for layer, kind in names if (name := f"{layer.name}/{kind}") in weights}
    layers, errors = list(kernels.values()), [rounded[name] - weights[name] for name in kernels]
    inputs = keras.Model(model.inputs, [layer.input for layer in layers])

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
        yield from itertools.pairwise(name for name, *_ in block.convolutions)
    if config.audio.norm == "batch":
        yield from ((f"{block.name}/depthwise", f"{block.name}/expand") for block in config.audio.blocks())


def _apply(layer: Any, x: Any, kernel: Array) -> Any:
    """The layer's product with another kernel, without bias."""
    if isinstance(layer, keras.layers.Dense):
        return tf.matmul(x, kernel)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        strides = (1, *layer.strides, 1)
        return tf.nn.depthwise_conv2d(x, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate)
    return tf.nn.conv2d(x, kernel, layer.strides, layer.padding.upper())

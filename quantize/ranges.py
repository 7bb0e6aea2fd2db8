"""Calibration: the range of every activation, from its values on a calibration set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.progress import Progress
from recordings.calibration import CalibrationSet

from .rounding import Range, feed

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
_BINS = 2048
_PERCENTILE = 99.99
_LEVELS = 255
# GELU(x) is within 1.3e-4 of zero below −4, a hundredth of an int8 step of its output: nothing there needs levels.
GELU_LOWEST = -4.0
# A tensor that is constantly zero, such as a dilated part that reaches no pixel of a small map, needs some range; a
# wide one, since kernels cannot scale sums by hundreds.
_SILENT = 1e-6
# XNNPACK leaves an addition to a slow kernel when an input's step is below 2^-10 of the sum's. A summand this narrow
# does not change a level of the sum; half of the limit leaves room for rounding.
_NARROWEST_SUMMAND = 2.0**-9


@dataclass(frozen=True)
class TensorStatistics:
    """Distribution of an activation's values on the calibration set.

    Attributes:
        low, high: extremes.
        counts: histogram of `_BINS` bins of equal width between them.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]


def collect(model: keras.Model, names: Iterable[str], calibration: CalibrationSet) -> dict[str, TensorStatistics]:
    """Run the float model twice over the calibration set: once for the extremes, once for the histograms.

    The model's outputs are the activations of these names, see `observed_deploy`.
    """
    names = tuple(names)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def extremes(batch: dict[str, Any]) -> tuple[Any, Any]:
        outputs = model(feed(model, batch), training=False)
        return tf.stack([tf.reduce_min(x) for x in outputs]), tf.stack([tf.reduce_max(x) for x in outputs])

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def histograms(batch: dict[str, Any], bounds: tf.Tensor) -> Any:
        outputs = model(feed(model, batch), training=False)
        return tf.stack([tf.histogram_fixed_width(x, bounds[i], _BINS) for i, x in enumerate(outputs)])

    batches = [calibration.batch(index, 1) for index in range(len(calibration.names))]
    with Progress("calibrating", 2 * len(batches)) as progress:
        lows, highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        for batch in batches:
            low, high = extremes(batch)
            lows, highs = np.minimum(lows, low), np.maximum(highs, high)
            progress.advance()
        bounds = np.stack([lows, highs], axis=1).astype(np.float32)
        # A constant needs a bin whose width float32 distinguishes from zero.
        bounds[:, 1] = np.maximum(bounds[:, 1], bounds[:, 0] + 1e-6 * np.maximum(1, np.abs(bounds[:, 0])))
        counts = np.zeros((len(names), _BINS), np.int64)
        for batch in batches:
            counts += np.asarray(histograms(batch, bounds))
            progress.advance()
    return {
        name: TensorStatistics(float(low), float(high), histogram)
        for name, (low, high), histogram in zip(names, bounds, counts, strict=True)
    }


def choose_ranges(statistics: dict[str, TensorStatistics], method: Method) -> dict[str, Range]:
    """Choose the range of every activation; each contains zero.

    `minmax` keeps every value; `percentile` cuts the 0.01 % at each end; `mse` takes the range with the least squared
    error of rounding and clipping together.
    """
    chosen = {name: _choose(tensor, method) for name, tensor in statistics.items()}
    for name, (low, high) in chosen.items():
        if name.endswith("/expand"):
            chosen[name] = (max(low, GELU_LOWEST), high)
    # Heatmaps lie in [0, 1] by definition, so that a device can write pixels directly.
    return chosen | ({"skeleton": (0.0, 1.0)} if "skeleton" in chosen else {})


def widen_summands(ranges: Mapping[str, Range], model: keras.Model, producers: Mapping[str, str]) -> dict[str, Range]:
    """Widen the ranges of summands that are too narrow, relative to their sum, for kernels that add integers.

    A ConvNeXt whose LayerScale is still near its initial 1e-6 has such branches. Model and producers: see
    `observed_deploy`.
    """
    out = dict(ranges)
    # In reverse: a sum that is widened for a later one may need wider summands itself.
    for layer in reversed(model.layers):
        if not isinstance(layer, keras.layers.Add):
            continue
        # The integer graph may store the output of the ReLU behind the addition.
        candidates = [layer.name, *(node.layer.name for node in layer.outbound_nodes)]
        total = next(producers[name] for name in candidates if name in producers)
        least = _NARROWEST_SUMMAND * _width(out[total])
        for tensor in layer.input:
            name = producers.get(tensor.node.layer.name)
            if name is not None and _width(out[name]) < least:
                low, high = out[name]
                out[name] = (low * least / (high - low), high * least / (high - low))
    return out


def _width(limits: Range) -> float:
    return limits[1] - limits[0]


def _choose(tensor: TensorStatistics, method: Method) -> Range:
    low, high = tensor.low, tensor.high
    if method == "percentile":
        share = tensor.counts.cumsum() / max(tensor.counts.sum(), 1)
        width = (high - low) / _BINS
        cut = 1 - _PERCENTILE / 100
        low, high = (
            low + width * int(np.searchsorted(share, cut)),
            low + width * (int(np.searchsorted(share, 1 - cut)) + 1),
        )
    elif method == "mse":
        low, high = _least_error(tensor)
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high - low > _SILENT else (0.0, 1.0)


def _least_error(tensor: TensorStatistics) -> Range:
    centres = tensor.low + (np.arange(_BINS) + 0.5) * (tensor.high - tensor.low) / _BINS
    # Zero is always a level; the exact zeros of a ReLU are no reason for a narrower range.
    counts = np.where((np.arange(_BINS) == 0) & (tensor.low == 0), 0, tensor.counts)
    best: tuple[float, Range] = (np.inf, (tensor.low, tensor.high))
    for share in np.linspace(1, 0.2, 81):
        low, high = min(tensor.low * share, 0.0), max(tensor.high * share, 0.0)
        step = (high - low) / _LEVELS
        inside = (centres >= low) & (centres <= high)
        cut = np.square(np.where(centres < low, low - centres, centres - high))
        error = float((counts * np.where(inside, step**2 / 12, cut)).sum())
        if error < best[0]:
            best = (error, (low, high))
    return best[1]

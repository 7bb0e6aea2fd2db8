"""Calibration: the range of every activation from what a calibration set makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.progress import Progress
from recordings.calibration import CalibrationSet

from .rounding import Observed, Range, feed

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
_BINS = 2048
_PERCENTILE = 99.99
_LEVELS = 255
# GELU(x) is within 1.3e-4 of zero below −4, a hundredth of an int8 step of what follows: nothing there needs levels.
GELU_LOWEST = -4.0
# A tensor that is constantly zero, such as a dilated part that reaches no pixel of a small map, needs some range; a
# wide one, since kernels cannot scale sums by hundreds.
_SILENT = 1e-6
# XNNPACK leaves an addition to a slow kernel when an input's step is below 2^-10 of the sum's. A summand this narrow
# does not change a level of the sum; half of the limit leaves room for rounding.
_NARROWEST_SUMMAND = 2.0**-9


@dataclass(frozen=True)
class TensorStatistics:
    """Values that an activation took on the calibration set.

    Attributes:
        low, high: extremes.
        counts: histogram of `_BINS` bins of equal width between them.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]


def collect(observed: Observed, calibration: CalibrationSet, *, batch_size: int = 1) -> dict[str, TensorStatistics]:
    """Runs the float model twice over the calibration set: once for the extremes, once for the histograms."""
    extremes = tf.function(lambda batch: _reduce(observed, batch), autograph=False)
    steps = range(0, len(calibration.names), batch_size)
    with Progress("calibrating", 2 * len(calibration.names)) as progress:
        limits = None
        for start in steps:
            low, high = (np.asarray(values) for values in extremes(calibration.batch(start, batch_size)))
            limits = (low, high) if limits is None else (np.minimum(limits[0], low), np.maximum(limits[1], high))
            progress.advance(len(calibration.names[start : start + batch_size]))
        assert limits is not None
        bounds = np.stack(limits, axis=1).astype(np.float32)
        # A constant needs a bin of some width, which float32 can tell from the constant itself.
        bounds[:, 1] = np.maximum(bounds[:, 1], bounds[:, 0] + 1e-6 * np.maximum(1, np.abs(bounds[:, 0])))
        histograms = tf.function(lambda batch: _histograms(observed, batch, bounds), autograph=False)
        counts = np.zeros((len(observed.names), _BINS), np.int64)
        for start in steps:
            counts += np.asarray(histograms(calibration.batch(start, batch_size)))
            progress.advance(len(calibration.names[start : start + batch_size]))
    return {
        name: TensorStatistics(float(low), float(high), own)
        for name, (low, high), own in zip(observed.names, bounds, counts, strict=True)
    }


def choose_ranges(statistics: dict[str, TensorStatistics], method: Method) -> dict[str, Range]:
    """The range of every activation; each contains zero.

    Args:
        statistics: what `collect` gave.
        method: `minmax` keeps every value; `percentile` cuts the 0.01 % at each end; `mse` takes the range with the
            least squared error of rounding and cutting together.
    """
    chosen = {name: _choose(own, method) for name, own in statistics.items()}
    for name, (low, high) in chosen.items():
        if name.endswith("/expand"):
            chosen[name] = (max(low, GELU_LOWEST), high)
    # Heatmaps lie in [0, 1] by definition, so that a device can write pixels directly.
    return chosen | ({"skeleton": (0.0, 1.0)} if "skeleton" in chosen else {})


def widen_summands(ranges: Mapping[str, Range], observed: Observed) -> dict[str, Range]:
    """The ranges with those of summands widened that are too narrow beside their sum for kernels that add integers.

    A ConvNeXt whose LayerScale is still near its initial 1e-6 has such branches.
    """
    out = dict(ranges)
    # From the last: a sum that is widened for a later one may need wider summands itself.
    for layer in reversed(observed.model.layers):
        if not isinstance(layer, keras.layers.Add):
            continue
        # The activation that is stored may be that of a ReLU behind.
        behind = [layer.name, *(node.layer.name for node in layer.outbound_nodes)]
        total = next(observed.producers[name] for name in behind if name in observed.producers)
        least = _NARROWEST_SUMMAND * _width(out[total])
        for tensor in layer.input:
            name = observed.producers.get(tensor.node.layer.name)
            if name is not None and _width(out[name]) < least:
                low, high = out[name]
                out[name] = (low * least / (high - low), high * least / (high - low))
    return out


def _width(limits: Range) -> float:
    return limits[1] - limits[0]


def _choose(own: TensorStatistics, method: Method) -> Range:
    low, high = own.low, own.high
    if method == "percentile":
        share = own.counts.cumsum() / max(own.counts.sum(), 1)
        width = (high - low) / _BINS
        cut = 1 - _PERCENTILE / 100
        low, high = (
            low + width * int(np.searchsorted(share, cut)),
            low + width * (int(np.searchsorted(share, 1 - cut)) + 1),
        )
    elif method == "mse":
        low, high = _least_error(own)
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high - low > _SILENT else (0.0, 1.0)


def _least_error(own: TensorStatistics) -> Range:
    centres = own.low + (np.arange(_BINS) + 0.5) * (own.high - own.low) / _BINS
    # Zero is always a level; what ReLU made exactly zero is no reason for a narrower range.
    counts = np.where((np.arange(_BINS) == 0) & (own.low == 0), 0, own.counts)
    best: tuple[float, Range] = (np.inf, (own.low, own.high))
    for share in np.linspace(1, 0.2, 81):
        low, high = min(own.low * share, 0.0), max(own.high * share, 0.0)
        step = (high - low) / _LEVELS
        inside = (centres >= low) & (centres <= high)
        cut = np.square(np.where(centres < low, low - centres, centres - high))
        error = float((counts * np.where(inside, step**2 / 12, cut)).sum())
        if error < best[0]:
            best = (error, (low, high))
    return best[1]


def _reduce(observed: Observed, batch: dict[str, Any]) -> tuple[Any, Any]:
    outputs = observed.model(feed(observed.model, batch), training=False)
    return tf.stack([tf.reduce_min(x) for x in outputs]), tf.stack([tf.reduce_max(x) for x in outputs])


def _histograms(observed: Observed, batch: dict[str, Any], bounds: npt.NDArray[np.float32]) -> Any:
    outputs = observed.model(feed(observed.model, batch), training=False)
    return tf.stack([tf.histogram_fixed_width(x, own, _BINS) for x, own in zip(outputs, bounds, strict=True)])

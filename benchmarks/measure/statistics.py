"""Statistics of timings. Pure functions; NumPy alone.

Times of one code on one machine are skewed and have outliers: another program runs, the clock changes. They are
summarised by the median, and compared by the ratio of two medians. In interleaved rounds a disturbance slows all
subjects of a round; their ratio is therefore resampled by rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from preprocess.errors import DataError

Verdict = Literal["faster", "slower", "no difference seen"]

CONFIDENCE = 0.95
WIDE_SPREAD = 0.25  # p90 / median − 1 above which a timing is called unsteady
WIDE_DRIFT = 0.10  # change of the median from the first half of the rounds to the second, likewise

_RESAMPLES = 2000
_FEWEST_FOR_DRIFT = 10


@dataclass(frozen=True)
class Summary:
    """Times of one subject.

    Attributes:
        count: samples.
        median_ms, p90_ms, p99_ms: quantiles, interpolated linearly (Hyndman and Fan 1996, type 7). Of fewer than 100
            samples, p99 is hardly more than the largest.
        spread: p90 / median − 1, at least 0.
        fps: 1000 / median, sequential inferences a second.
    """

    count: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    spread: float
    fps: float


@dataclass(frozen=True)
class Ratio:
    """The time of a subject as a multiple of the base's.

    Attributes:
        value: median over median of the base.
        low, high: 95 % interval, from the bootstrap.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}× [{self.low:.2f}, {self.high:.2f}]"


def summarize(samples_ms: Sequence[float]) -> Summary:
    """Quantiles of at least one sample, in ms, all positive."""
    median, p90, p99 = np.quantile(np.asarray(samples_ms, np.float64), (0.5, 0.9, 0.99)).tolist()
    return Summary(len(samples_ms), median, p90, p99, p90 / median - 1, 1000 / median)


def ratio_of_medians(samples_ms: Sequence[float], base_ms: Sequence[float], *, paired: bool) -> Ratio:
    """Ratio of the medians, with the 95 % percentile interval of the bootstrap (Efron and Tibshirani 1993, ch. 13).

    The interval has its nominal coverage for samples without common noise, and is too wide for paired rounds with much
    common noise. The resampling has a fixed seed.

    Args:
        samples_ms, base_ms: positive.
        paired: sample i and base i are of the same round, and rounds are resampled; otherwise each side separately.

    Raises:
        DataError: paired samples differ in number.
    """
    samples, base = np.asarray(samples_ms, np.float64), np.asarray(base_ms, np.float64)
    if paired and samples.shape != base.shape:
        raise DataError(f"{len(samples)} rounds against {len(base)}; paired rounds must be equal in number")
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(samples), size=(_RESAMPLES, len(samples)))
    chosen_base = chosen if paired else rng.integers(len(base), size=(_RESAMPLES, len(base)))
    ratios = np.median(samples[chosen], axis=1) / np.median(base[chosen_base], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail)).tolist()
    return Ratio(float(np.median(samples) / np.median(base)), low, high)


def judge_ratio(ratio: Ratio, *, noise: float = 0.0) -> Verdict:
    """`slower` or `faster` if the complete interval is beyond a ratio of 1 + noise to either side.

    `noise` is the relative difference between two runs of the same file on this machine. The interval, which comes from
    samples within the two runs, does not include it.
    """
    if ratio.low > 1 + noise:
        return "slower"
    if ratio.high < 1 / (1 + noise):
        return "faster"
    return "no difference seen"


def reasons_for_doubt(samples_ms: Sequence[float]) -> tuple[str, ...]:
    """Why the machine was too noisy for a conclusion; empty if it was not.

    The code did the same in every round, so a wide spread, or a drift that is wide and beyond chance, is the machine's.
    """
    reasons = []
    spread = summarize(samples_ms).spread
    if spread > WIDE_SPREAD:
        reasons.append(f"p90 is {spread:.0%} above the median")
    if len(samples_ms) >= _FEWEST_FOR_DRIFT:
        half = len(samples_ms) // 2
        change = ratio_of_medians(samples_ms[half:], samples_ms[:half], paired=False)
        if judge_ratio(change) != "no difference seen" and not 1 / (1 + WIDE_DRIFT) <= change.value <= 1 + WIDE_DRIFT:
            reasons.append(f"the second half took {change.value:.2f}× the time of the first")
    return tuple(reasons)


def timing_entry(samples_ms: Sequence[float], base_ms: Sequence[float] | None = None) -> dict[str, Any]:
    """One timing in a result file; `ratio` is that of the medians to `base_ms`, timed in the same rounds."""
    summary = summarize(samples_ms)
    ratio = None if base_ms is None else ratio_of_medians(samples_ms, base_ms, paired=True)
    return {
        "median_ms": summary.median_ms,
        "p90_ms": summary.p90_ms,
        "ratio": ratio and ratio.value,
        "ratio_interval95": ratio and [ratio.low, ratio.high],
        "samples_ms": list(samples_ms),
    }

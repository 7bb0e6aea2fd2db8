"""Statistics of two classifiers that answered the same recordings. Pure functions; NumPy and the standard library.

Pairs are counted as in McNemar's table: `lost` are the recordings that only the first classifier gets right, `gained`
those that only the second gets right. Of the other pairs, only the number matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError
from runtime.metrics import Labels, Logits, require_finite

CONFIDENCE = 0.95  # of a two-sided interval, unless another is chosen
_ECE_BINS = 15
# Halvings of an interval at most 2 wide: below the distance of neighbouring float64 numbers.
_HALVINGS = 80
# Shares this close differ by rounding alone; separating them would take 10^15 recordings and more.
_NO_DISTANCE = 1e-9


@dataclass(frozen=True)
class PairedDrop:
    """How much accuracy the second of two classifiers loses against the first, on the same recordings.

    Attributes:
        lost: recordings that only the first gets right.
        gained: recordings that only the second gets right.
        count: all recordings.
        confidence: of the two-sided interval, in (0, 1); each of its ends alone holds with (1 + confidence) / 2.
    """

    lost: int
    gained: int
    count: int
    confidence: float

    @property
    def points(self) -> float:
        """Accuracy lost, in percentage points; negative where the second is better."""
        return 100 * (self.lost - self.gained) / self.count

    @cached_property
    def interval_points(self) -> tuple[float, float]:
        """Tango's interval of `points`."""
        low, high = tango_interval(self.lost, self.gained, self.count, confidence=self.confidence)
        return 100 * low, 100 * high

    @cached_property
    def mcnemar_p(self) -> float:
        return mcnemar_p(self.lost, self.gained)

    def recordings_needed(self, budget_points: float) -> int | None:
        """See `recordings_needed`."""
        return recordings_needed(
            self.lost / self.count, self.gained / self.count, budget=budget_points / 100, confidence=self.confidence
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "lost": self.lost,
            "gained": self.gained,
            "count": self.count,
            "confidence": self.confidence,
            "points": self.points,
            "interval_points": list(self.interval_points),
            "mcnemar_p": self.mcnemar_p,
        }

    def __str__(self) -> str:
        low, high = self.interval_points
        return f"{self.points:.2f} points [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class MaxDrop:
    """The rule of every `--max-drop`: the recordings show that no more than `points` of accuracy are lost.

    It is a test of non-inferiority: the upper end of Tango's interval must be at most `points`, so too few recordings
    fail.

    Attributes:
        points: percentage points that may be lost.
        confidence: of the two-sided interval.
    """

    points: float
    confidence: float = CONFIDENCE

    def holds(self, drop: PairedDrop) -> bool:
        return drop.interval_points[1] <= self.points

    def finding(self, drop: PairedDrop, model: str) -> str:
        """One line: the loss of `model`, and, where the recordings leave it open, how many would decide."""
        low, high = drop.interval_points
        line = f"{model} loses {drop}, budget {self.points:g}"
        if high <= self.points or low > self.points:
            return line
        needed = drop.recordings_needed(self.points)
        if needed is None:
            return f"{line}: the loss equals the budget, which no number of recordings can decide"
        if drop.points > self.points:
            return f"{line}: over budget, but not significantly so on {drop.count} recordings"
        return f"{drop.count} recordings are too few to tell: {line}; {needed} would do if the rates stay the same"

    def require_enough(self, recordings: int) -> None:
        """Raises UsageError where the rule cannot hold on `recordings`, even if not a single answer differs."""
        needed = recordings_needed(0.0, 0.0, budget=self.points / 100, confidence=self.confidence)
        if needed is None:
            raise UsageError(f"--max-drop {self.points:g} cannot be shown on any number of recordings; allow more")
        if recordings < needed:
            raise UsageError(
                f"--max-drop {self.points:g} cannot be shown on {recordings} recordings, even if no answer differs; "
                f"use --recordings {needed} or more, or allow a larger drop"
            )


def paired_drop(
    first: npt.NDArray[np.integer[Any]], second: npt.NDArray[np.integer[Any]], labels: Labels, *, confidence: float
) -> PairedDrop:
    """Counts the pairs; `first` and `second` are chosen classes [N], `labels` the true ones [N]."""
    assert first.shape == second.shape == labels.shape
    before, after = first == labels, second == labels
    return PairedDrop(int((before & ~after).sum()), int((after & ~before).sum()), len(labels), confidence)


def logits_drop(reference: Logits, logits: Logits, labels: Labels, *, confidence: float = CONFIDENCE) -> PairedDrop:
    """`paired_drop` of the classes that logits [N, classes] choose."""
    return paired_drop(reference.argmax(axis=1), logits.argmax(axis=1), labels, confidence=confidence)


def normal_quantile(confidence: float) -> float:
    """z such that a two-sided interval of ±z standard errors has this confidence."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def tango_interval(lost: float, gained: float, count: float, *, confidence: float) -> tuple[float, float]:
    """Score interval of a difference of paired proportions (Tango 1998, Statistics in Medicine 17, 891-908).

    All drops Δ for which the score test |T(Δ)| ≤ z does not reject, with T(Δ) as `_variance` says. Unlike Wald's it
    stays within [−1, 1] and has width where no pair differs, so it is fit for showing that nothing is lost.

    Args:
        lost, gained: pairs that differ, of either kind.
        count: all pairs.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Lower and upper end of the drop (lost − gained) / count, in [−1, 1].
    """
    z = normal_quantile(confidence)
    drop = (lost - gained) / count

    def rejected(delta: float) -> bool:
        return count * (drop - delta) ** 2 > z * z * _variance(lost / count, gained / count, delta)

    return _border(drop, -1.0, rejected), _border(drop, 1.0, rejected)


def _border(inside: float, outside: float, rejected: Callable[[float], bool]) -> float:
    """The point between `inside`, where `rejected` is false, and the end of the range where it becomes true."""
    if not rejected(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return inside


def _variance(lost_rate: float, gained_rate: float, delta: float) -> float:
    """Variance of √N times the observed drop, were the true drop `delta`.

    T(Δ) = (lost − gained − NΔ) / √(N(2q + Δ(1 − Δ))), where q, the share of gained pairs that is most likely given Δ,
    is the larger root of 2q² + Bq + C = 0 with B = −(lost + gained)/N + (2 − (lost − gained)/N)Δ and
    C = −(gained/N)Δ(1 − Δ). (Tango 1998, divided by N.)
    """
    b = -(lost_rate + gained_rate) + (2 - (lost_rate - gained_rate)) * delta
    c = -gained_rate * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 8 * c, 0.0)) - b) / 4
    return max(2 * q + delta * (1 - delta), 0.0)


def recordings_needed(lost_rate: float, gained_rate: float, *, budget: float, confidence: float) -> int | None:
    """The least number of recordings on which Tango's interval ends at the budget, at these rates.

    The statistic T(budget) grows with √N and nothing else when the rates stay, so N = (z / T₁)², T₁ for one recording.

    Args:
        lost_rate, gained_rate: shares of the pairs that differ, of either kind.
        budget: drop that is allowed, in [0, 1].
        confidence: of the two-sided interval.

    Returns:
        The number; None where the drop at these rates is the budget itself, which no number decides.
    """
    distance = budget - (lost_rate - gained_rate)
    if abs(distance) < _NO_DISTANCE:
        return None
    z = normal_quantile(confidence)
    return max(1, math.ceil((z / distance) ** 2 * _variance(lost_rate, gained_rate, budget)))


def mcnemar_p(lost: int, gained: int) -> float:
    """McNemar's exact two-sided test of no difference: twice the smaller tail of a fair coin, at most 1."""
    return min(1.0, 2 * _coin_tail(min(lost, gained), lost + gained))


def loss_p(lost: int, gained: int) -> float:
    """McNemar's exact one-sided test: probability of at least `lost` of the differing pairs under a fair coin."""
    return _coin_tail(gained, lost + gained)


def _coin_tail(heads: int, throws: int) -> float:
    """Probability of at most `heads` heads in `throws` of a fair coin; exact, in integers until the last division."""
    term, total = 1, 0
    for k in range(heads + 1):
        total += term
        term = term * (throws - k) // (k + 1)
    return total / (1 << throws)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for their number (Holm 1979): tests at level α err together with probability α at most."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def expected_calibration_error(logits: Logits, labels: Labels) -> float:
    """Mean distance between confidence and accuracy (Guo et al. 2017, On calibration of modern neural networks, Eq. 3).

    Confidence is the largest softmax probability; bin m of M = 15 bins holds those in ((m − 1)/M, m/M].

    Args:
        logits: [N, classes], N at least 1.
        labels: [N], true classes.

    Returns:
        The error as a share, in [0, 1].

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    require_finite(logits, "logits")
    # Shifted first: infinite differences of huge float32 numbers are no concern of softmax.
    exact = np.asarray(logits, np.float64)
    weights = np.exp(exact - exact.max(axis=1, keepdims=True))
    confidence = weights.max(axis=1) / weights.sum(axis=1)
    correct = logits.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * _ECE_BINS).astype(np.int64) - 1, 0, _ECE_BINS - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))

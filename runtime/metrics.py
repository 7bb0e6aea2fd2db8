"""Accuracy of a classifier, and the distance between two classifiers: pure functions of arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import AnswerIsNo, DataError

Logits = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]
_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Score:
    """Accuracy over `count` recordings with its 95 % interval (Wilson 1927)."""

    correct: int
    count: int

    def __post_init__(self) -> None:
        _require_proportion(self.correct, self.count)

    @property
    def accuracy(self) -> float:
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.correct, self.count)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"accuracy": self.accuracy, "interval95": [low, high], "correct": self.correct, "count": self.count}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Raises:
        DataError: `count` is not positive or `correct` is outside [0, count].
    """
    _require_proportion(correct, count)
    p, z = correct / count, _Z95
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    # The bounds of p only matter for rounding: at p = 0 and 1 the interval ends there exactly.
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def _require_proportion(correct: int, count: int) -> None:
    if count <= 0 or not 0 <= correct <= count:
        raise DataError(f"{correct} correct of {count} is no proportion; evaluate at least one recording")


def score(logits: Logits, labels: Labels) -> Score:
    """Top-1 accuracy of `logits` [N, classes] against `labels` [N]."""
    require_finite(logits, "logits")
    return Score(int((logits.argmax(axis=1) == labels).sum()), len(labels))


def confusion_matrix(logits: Logits, labels: Labels) -> npt.NDArray[np.int64]:
    """Counts [classes, classes]: rows are the true classes, columns the predicted ones."""
    require_finite(logits, "logits")
    classes = logits.shape[1]
    flat = np.asarray(labels, dtype=np.int64) * classes + logits.argmax(axis=1)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def agreement(a: Logits, b: Logits) -> float:
    """Share of rows on which two classifiers choose the same class; [N, classes] each, N at least 1."""
    assert len(a) == len(b) > 0
    require_finite(a, "logits")
    require_finite(b, "logits")
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def snr_db(reference: Logits, test: Logits) -> float:
    """10·log10 of the reference's power over the power of the difference.

    At most 200 dB, the value of equal arrays: more than float32 can resolve.
    """
    require_finite(reference, "reference values")
    require_finite(test, "tested values")
    assert reference.shape == test.shape
    exact = np.asarray(reference, dtype=np.float64)
    return power_ratio_db(float(np.sum(exact**2)), float(np.sum((exact - test) ** 2)))


def power_ratio_db(signal: float, noise: float) -> float:
    """10·log10 of one power over another, between −200 and 200 dB."""
    if noise <= signal * 1e-20:
        return 200.0
    return 10 * math.log10(signal / noise) if signal > 0 else -200.0


def require_finite(values: npt.NDArray[Any], what: str) -> None:
    """Raises AnswerIsNo when a number is not finite."""
    broken = int(values.size - np.isfinite(values).sum())
    if broken:
        raise AnswerIsNo(f"{broken} of {values.size} {what} are not finite; the model is broken")

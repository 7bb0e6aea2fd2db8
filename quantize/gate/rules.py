"""The accuracy gate: is an INT8 model as good as its float model, yes or no? Pure rules on the answers of both.

The question is one of non-inferiority: the gate passes only when the recordings show that no more than the budget is
lost, not merely when they fail to show a loss. Too few recordings therefore fail; the message says how many suffice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError
from runtime.metrics import Labels, Logits, Score, agreement, score, snr_db

from .paired import CONFIDENCE, MaxDrop, PairedDrop, expected_calibration_error, holm, loss_p, paired_drop

Choices = npt.NDArray[np.integer[Any]]
RuleName = Literal["finite numbers", "accuracy drop", "classes", "agreement", "baseline"]
Status = Literal["passed", "failed", "skipped"]
_JUDGED: tuple[RuleName, ...] = ("accuracy drop", "classes", "agreement", "baseline")  # on finite logits
# A broken model fails in every class; a message names the worst.
_CLASSES_NAMED = 3


@dataclass(frozen=True)
class GateOptions:
    """The limits of the INT8 model.

    Attributes:
        max_drop_points: accuracy that may be lost, in percentage points of all recordings.
        max_class_drop_points: the same for each class, of its own recordings.
        confidence: of the two-sided interval of the drop. The rule looks at one end, which alone holds with
            (1 + confidence) / 2: with 0.95 a model that loses just over the budget passes in 2.5 % of the cases. The
            tests of all classes together err with probability 1 − confidence.
        min_agreement: share of recordings on which both must choose the same class, in (0, 1]; None: not judged.
        max_regression_points: accuracy that may be lost against the INT8 model of a baseline, in percentage points.
    """

    max_drop_points: float = 1.0
    max_class_drop_points: float = 10.0
    confidence: float = CONFIDENCE
    min_agreement: float | None = None
    max_regression_points: float = 0.5

    @property
    def max_drop(self) -> MaxDrop:
        return MaxDrop(self.max_drop_points, self.confidence)


@dataclass(frozen=True)
class ClassDrop:
    """The loss in one class.

    Attributes:
        name: of the class.
        count: its recordings.
        float_correct, int8_correct: recordings that each model gets right.
        lost, gained: recordings that only the float model, only the INT8 model gets right.
        p: exact one-sided McNemar test of a loss, corrected for the number of classes (Holm).
    """

    name: str
    count: int
    float_correct: int
    int8_correct: int
    lost: int
    gained: int
    p: float

    @property
    def points(self) -> float:
        """Accuracy lost, in percentage points of the class's recordings."""
        return 100 * (self.lost - self.gained) / self.count


@dataclass(frozen=True)
class PairComparison:
    """The float and the INT8 model, whose logits are all finite.

    Attributes:
        float_score, int8_score: accuracy of each.
        float_ece, int8_ece: expected calibration error of each, a share.
        drop: accuracy lost from float to INT8.
        agreement: share of recordings on which both choose the same class.
        snr_db: the float logits' power over that of the difference, in dB.
        classes: every class that has recordings, in the order of the labels.
        regression: accuracy lost against the INT8 model of the baseline; None without one.
    """

    float_score: Score
    int8_score: Score
    float_ece: float
    int8_ece: float
    drop: PairedDrop
    agreement: float
    snr_db: float
    classes: tuple[ClassDrop, ...]
    regression: PairedDrop | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "float": {**self.float_score.to_dict(), "ece": self.float_ece},
            "int8": {**self.int8_score.to_dict(), "ece": self.int8_ece},
            "drop": self.drop.to_dict(),
            "agreement": self.agreement,
            "snr_db": self.snr_db,
            "classes": [{**asdict(row), "points": row.points} for row in self.classes],
            "regression": self.regression.to_dict() if self.regression else None,
        }


@dataclass(frozen=True)
class Rule:
    """One rule and its outcome; `findings` are lines for people: the failures, the measured value, or why skipped."""

    name: RuleName
    status: Status
    findings: tuple[str, ...]


@dataclass(frozen=True)
class GateResult:
    """The answer of the gate and its reasons.

    Attributes:
        options: the limits.
        count: recordings.
        nonfinite_float, nonfinite_int8: logits that are not finite numbers.
        comparison: None when a logit is not finite.
        rules: every rule, in the order of `RuleName`.
    """

    options: GateOptions
    count: int
    nonfinite_float: int
    nonfinite_int8: int
    comparison: PairComparison | None
    rules: tuple[Rule, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """The findings of every rule that failed; empty when the gate passes."""
        return tuple(line for rule in self.rules if rule.status == "failed" for line in rule.findings)

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def verdict(self) -> str:
        """`accuracy gate passed on 400 recordings`, or `FAILED`."""
        return f"accuracy gate {'passed' if self.passed else 'FAILED'} on {self.count} recordings"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; no number in it is NaN or infinite."""
        return {
            "passed": self.passed,
            "failures": list(self.failures),
            "options": asdict(self.options),
            "recordings": self.count,
            "nonfinite": {"float": self.nonfinite_float, "int8": self.nonfinite_int8},
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "rules": [{**asdict(rule), "findings": list(rule.findings)} for rule in self.rules],
        }


def judge(
    labels: Labels,
    float_logits: Logits,
    int8_logits: Logits,
    *,
    class_names: Sequence[str],
    options: GateOptions,
    baseline: Choices | None = None,
) -> GateResult:
    """Compares the answers and applies every rule; if a logit is not finite, the gate fails without a comparison.

    Args:
        labels: [N], true class indices.
        float_logits, int8_logits: [N, classes].
        class_names: of every class, for messages.
        options: the limits.
        baseline: [N], classes that an earlier INT8 model chose on the same recordings.

    Raises:
        DataError: there are no recordings, or the arrays do not fit each other.
    """
    _check_arrays(labels, float_logits, int8_logits, class_names, baseline)
    broken = [int((~np.isfinite(logits)).sum()) for logits in (float_logits, int8_logits)]
    comparison = None
    if not any(broken):
        comparison = _compare(labels, float_logits, int8_logits, class_names, options, baseline)
    finite = _judge_finite(broken[0], broken[1], float_logits.size)
    rules: tuple[Rule, ...] = tuple(Rule(name, "skipped", ("logits are not finite",)) for name in _JUDGED)
    if comparison:
        rules = (
            _judge_drop(comparison.drop, options.max_drop),
            _judge_classes(comparison.classes, options),
            _judge_agreement(comparison.agreement, options),
            _judge_regression(comparison.regression, options),
        )
    return GateResult(options, len(labels), broken[0], broken[1], comparison, (finite, *rules))


def _check_arrays(
    labels: Labels, float_logits: Logits, int8_logits: Logits, class_names: Sequence[str], baseline: Choices | None
) -> None:
    wanted = (len(labels), len(class_names))
    if not len(labels):
        raise DataError("there are no recordings to compare on; name a folder that holds some")
    for name, logits in (("float", float_logits), ("INT8", int8_logits)):
        if logits.shape != wanted:
            raise DataError(f"the {name} model's logits have shape {logits.shape}, not {wanted}; check its labels")
    if not ((labels >= 0) & (labels < len(class_names))).all():
        raise DataError(f"a label is outside [0, {len(class_names)}); check the recordings' classes")
    if baseline is not None and baseline.shape != labels.shape:
        raise DataError(f"the baseline has {len(baseline)} answers for {len(labels)} recordings; update it")


def _compare(
    labels: Labels,
    float_logits: Logits,
    int8_logits: Logits,
    class_names: Sequence[str],
    options: GateOptions,
    baseline: Choices | None,
) -> PairComparison:
    chosen, chosen_int8 = float_logits.argmax(axis=1), int8_logits.argmax(axis=1)
    return PairComparison(
        float_score=score(float_logits, labels),
        int8_score=score(int8_logits, labels),
        float_ece=expected_calibration_error(float_logits, labels),
        int8_ece=expected_calibration_error(int8_logits, labels),
        drop=paired_drop(chosen, chosen_int8, labels, confidence=options.confidence),
        agreement=agreement(float_logits, int8_logits),
        snr_db=snr_db(float_logits, int8_logits),
        classes=_class_drops(labels, chosen == labels, chosen_int8 == labels, class_names),
        regression=None
        if baseline is None
        else paired_drop(baseline, chosen_int8, labels, confidence=options.confidence),
    )


def _class_drops(
    labels: Labels,
    float_right: npt.NDArray[np.bool_],
    int8_right: npt.NDArray[np.bool_],
    class_names: Sequence[str],
) -> tuple[ClassDrop, ...]:
    def count(rows: npt.NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(labels[rows], minlength=len(class_names)).tolist()
        return counts

    total, before, after = count(np.ones(len(labels), bool)), count(float_right), count(int8_right)
    lost, gained = count(float_right & ~int8_right), count(int8_right & ~float_right)
    present = [index for index in range(len(class_names)) if total[index]]
    corrected = holm([loss_p(lost[index], gained[index]) for index in present])
    return tuple(
        ClassDrop(class_names[i], total[i], before[i], after[i], lost[i], gained[i], p)
        for i, p in zip(present, corrected, strict=True)
    )


def _judge_finite(broken_float: int, broken_int8: int, size: int) -> Rule:
    failures = [
        f"{broken} of {size} logits of the {name} model are not finite; the model is broken"
        for name, broken in (("float", broken_float), ("INT8", broken_int8))
        if broken
    ]
    return _rule("finite numbers", failures, f"all {2 * size} logits are finite")


def _judge_drop(drop: PairedDrop, rule: MaxDrop) -> Rule:
    return Rule("accuracy drop", "passed" if rule.holds(drop) else "failed", (rule.finding(drop, "INT8"),))


def _judge_classes(classes: Sequence[ClassDrop], options: GateOptions) -> Rule:
    budget, error = options.max_class_drop_points, 1 - options.confidence
    ranked = sorted(classes, key=lambda row: (-row.points, row.p))
    over = [row for row in ranked if row.points > budget and row.p <= error]
    failures = [
        f"class {row.name} loses {row.points:.1f} points of {row.count} recordings (p {row.p:.2g}), budget {budget:g}"
        for row in over[:_CLASSES_NAMED]
    ]
    if more := len(over) - len(failures):
        failures.append(f"{more} more {'class loses' if more == 1 else 'classes lose'} over {budget:g} points")
    worst = ranked[0]
    return _rule("classes", failures, f"largest loss in {worst.name}: {worst.points:.1f} points (p {worst.p:.2g})")


def _judge_agreement(share: float, options: GateOptions) -> Rule:
    line = f"both choose the same class on {100 * share:.1f} % of the recordings"
    if options.min_agreement is None:
        return Rule("agreement", "skipped", (f"{line}; no --min-agreement",))
    failure = f"{line}, less than {100 * options.min_agreement:g} %"
    return _rule("agreement", [failure] if share < options.min_agreement else [], line)


def _judge_regression(regression: PairedDrop | None, options: GateOptions) -> Rule:
    if regression is None:
        return Rule("baseline", "skipped", ("no --baseline",))
    budget = options.max_regression_points
    line = f"INT8 loses {regression} against the baseline, allowed {budget:g}"
    failed = regression.points > budget and regression.interval_points[0] > 0
    return _rule("baseline", [line] if failed else [], line)


def _rule(name: RuleName, failures: Sequence[str], finding: str) -> Rule:
    return Rule(name, "failed", tuple(failures)) if failures else Rule(name, "passed", (finding,))

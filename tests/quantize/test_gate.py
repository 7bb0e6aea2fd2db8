"""The accuracy gate's rules on answers made to order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from preprocess.errors import DataError
from quantize.gate.paired import tango_interval
from quantize.gate.rules import GateOptions, GateResult, judge

NAMES = ("A001 one", "A002 two", "A003 three", "A004 four")


def logits_of(choices: np.ndarray, *, seed: int = 3) -> np.ndarray:
    """Logits [N, 4] whose largest is at the choice."""
    noise = np.random.default_rng(seed).uniform(0, 1, (len(choices), len(NAMES)))
    noise[np.arange(len(choices)), choices] += 2
    return noise.astype(np.float32)


def answers(count: int, *, lost: int = 0, gained: int = 0, only_class: int | None = None):
    """Labels and both models' logits on `count` recordings; the lost ones are all of `only_class`."""
    labels = np.arange(count) % len(NAMES)
    before, after = labels.copy(), labels.copy()
    rows = np.arange(count) if only_class is None else np.flatnonzero(labels == only_class)
    wrong = rows[:lost]
    after[wrong] = (labels[wrong] + 1) % len(NAMES)
    better = np.setdiff1d(np.arange(count), wrong)[:gained]
    before[better] = (labels[better] + 1) % len(NAMES)
    return labels, logits_of(before), logits_of(after)


def gate(arrays, *, baseline=None, **options) -> GateResult:
    return judge(*arrays, class_names=NAMES, options=GateOptions(**options), baseline=baseline)


def status(result: GateResult) -> dict[str, str]:
    return {rule.name: rule.status for rule in result.rules}


def test_equal_answers_pass():
    result = gate(answers(400))
    assert result.passed
    assert status(result) == {
        "finite numbers": "passed",
        "accuracy drop": "passed",
        "classes": "passed",
        "agreement": "skipped",
        "baseline": "skipped",
    }
    assert result.comparison.agreement == 1.0
    assert result.comparison.drop.points == 0.0
    assert result.comparison.snr_db == 200.0


def test_a_loss_within_the_budget_passes_only_with_enough_recordings():
    small, large = gate(answers(100)), gate(answers(381))
    assert large.passed
    assert small.failures == (
        "100 recordings are too few to tell: INT8 loses 0.00 points [-3.70, 3.70], budget 1; "
        "381 would do if the rates stay the same",
    )


@pytest.mark.parametrize(
    ("count", "lost", "message"),
    [
        (1000, 40, "budget 1"),
        (100, 2, "budget 1: over budget, but not significantly so on 100 recordings"),
        (10_000, 100, "budget 1: the loss equals the budget, which no number of recordings can decide"),
    ],
)
def test_a_loss_over_the_budget_or_undecided_fails_and_says_why(count, lost, message):
    result = gate(answers(count, lost=lost))
    assert result.failures == (f"INT8 loses {result.comparison.drop}, {message}",)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(50, 2000), st.floats(0, 20))
def test_the_drop_rule_follows_the_interval(lost, gained, count, budget):
    assume(lost + gained <= count)
    result = gate(answers(count, lost=lost, gained=gained), max_drop_points=budget, max_class_drop_points=100)
    low, high = (100 * end for end in tango_interval(lost, gained, count, confidence=0.95))
    assert (lost, gained) == (result.comparison.drop.lost, result.comparison.drop.gained)
    assert result.passed == (high <= budget)
    if not result.passed:
        distance = budget - 100 * (lost - gained) / count
        assert ("too few to tell" in result.failures[0]) == (low <= budget and distance > 1e-7)


def test_a_class_that_loses_over_its_budget_fails():
    """A fifth of one class: one point in twenty of all, which a generous budget hides."""
    result = gate(answers(400, lost=20, only_class=2), max_drop_points=10)
    assert result.failures == ("class A003 three loses 20.0 points of 100 recordings (p 3.8e-06), budget 10",)
    assert [row.points for row in result.comparison.classes] == [0, 0, 20, 0]


def test_a_class_is_not_failed_for_what_chance_explains():
    """Three of ten: p is 1/8, and one of four classes is always the worst."""
    result = gate(answers(40, lost=3, only_class=1), max_drop_points=30)
    assert result.passed
    assert result.comparison.classes[1].points == 30
    assert result.comparison.classes[1].p == pytest.approx(0.5)
    assert "A002 two: 30.0 points (p 0.5)" in result.rules[2].findings[0]


def test_many_failing_classes_are_counted_beyond_the_worst():
    labels, before, _ = answers(400)
    result = gate((labels, before, logits_of((labels + 1) % 4)))
    assert len(result.failures) == 5
    assert result.failures[1].startswith("class A001 one loses 100.0 points of 100 recordings")
    assert result.failures[4] == "1 more class loses over 10 points"


def test_a_class_without_recordings_is_left_out():
    labels, before, after = answers(400)
    rows = labels != 3
    assert [row.name for row in gate((labels[rows], before[rows], after[rows])).comparison.classes] == list(NAMES[:3])


@pytest.mark.parametrize(("minimum", "passes"), [(0.97, True), (0.98, True), (0.985, False)])
def test_agreement_is_judged_where_a_minimum_is_given(minimum, passes):
    result = gate(answers(1000, lost=10, gained=10), max_drop_points=2, min_agreement=minimum)
    assert result.passed == passes
    if not passes:
        assert result.failures == ("both choose the same class on 98.0 % of the recordings, less than 98.5 %",)


def test_a_regression_against_the_baseline_fails():
    labels, before, after = answers(1000, lost=15)
    same = gate((labels, before, after), max_drop_points=5, baseline=after.argmax(axis=1))
    assert same.passed
    result = gate((labels, before, after), max_drop_points=5, baseline=labels)
    regression = result.comparison.regression
    assert (regression.points, regression.lost, regression.gained) == (1.5, 15, 0)
    assert result.failures == (f"INT8 loses {regression} against the baseline, allowed 0.5",)


def test_a_regression_that_chance_explains_or_that_is_small_passes():
    """One point of a hundred recordings: the interval holds zero. 0.4 points of 4,000: certain, but allowed."""
    labels, before, after = answers(100, lost=1)
    assert status(gate((labels, before, after), max_drop_points=10, baseline=labels))["baseline"] == "passed"
    labels, before, after = answers(4000, lost=16)
    result = gate((labels, before, after), baseline=labels)
    assert result.comparison.regression.interval_points[0] > 0
    assert result.passed


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_fail_the_gate_without_a_crash(broken):
    labels, before, after = answers(50)
    after = after.copy()
    after[3, 1] = after[4, 0] = broken
    result = gate((labels, before, after), baseline=labels, min_agreement=0.5)
    assert result.failures == ("2 of 200 logits of the INT8 model are not finite; the model is broken",)
    assert result.comparison is None
    assert list(status(result).values()) == ["failed", "skipped", "skipped", "skipped", "skipped"]
    both = gate((labels, after, after))
    assert len(both.failures) == 2
    assert json.loads(json.dumps(both.to_dict(), allow_nan=False))["nonfinite"] == {"float": 2, "int8": 2}


def test_the_document_has_every_number_that_decides():
    arrays = answers(200, lost=7, gained=3)
    document = json.loads(json.dumps(gate(arrays, baseline=arrays[0], min_agreement=0.9).to_dict(), allow_nan=False))
    assert document.keys() == {"passed", "failures", "options", "recordings", "nonfinite", "comparison", "rules"}
    assert (document["passed"], document["recordings"], document["options"]["min_agreement"]) == (False, 200, 0.9)
    comparison = document["comparison"]
    assert (comparison["float"]["correct"], comparison["int8"]["correct"]) == (197, 193)
    assert (comparison["drop"]["lost"], comparison["drop"]["gained"], comparison["drop"]["points"]) == (7, 3, 2.0)
    assert (comparison["regression"]["lost"], len(comparison["classes"]), comparison["agreement"]) == (7, 4, 0.95)
    assert [rule["name"] for rule in document["rules"]][1:3] == ["accuracy drop", "classes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: (a[0][:0], a[1][:0], a[2][:0]), "there are no recordings to compare on"),
        (lambda a: (a[0], a[1][:-1], a[2]), r"the float model's logits have shape \(39, 4\), not \(40, 4\)"),
        (lambda a: (a[0], a[1], a[2][:, :3]), r"the INT8 model's logits have shape \(40, 3\), not \(40, 4\)"),
        (lambda a: (a[0] + 1, a[1], a[2]), r"a label is outside \[0, 4\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        gate(change(answers(40)))
    with pytest.raises(DataError, match="the baseline has 39 answers for 40 recordings"):
        gate(answers(40), baseline=np.zeros(39, int))

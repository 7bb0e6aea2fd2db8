"""Measures of a classifier, against published values, definitions and naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from preprocess.errors import AnswerIsNo, DataError
from runtime.metrics import Score, agreement, confusion_matrix, require_finite, score, snr_db, wilson_interval


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(correct, count, low, high):
    """Newcombe 1998, Statistics in Medicine 17, Table I, method 3."""
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_where_the_score_test_does_not_reject(case):
    """The definition: all p with |p̂ − p| ≤ z·sqrt(p(1 − p)/n)."""
    correct, count = case
    low, high = wilson_interval(correct, count)
    p = np.linspace(0, 1, 4001)
    accepted = p[np.abs(correct / count - p) <= 1.959963984540054 * np.sqrt(p * (1 - p) / count)]
    assert 0 <= low <= correct / count <= high <= 1
    if accepted.size:
        assert low == pytest.approx(accepted.min(), abs=1 / 4000)
        assert high == pytest.approx(accepted.max(), abs=1 / 4000)


@pytest.mark.parametrize(("correct", "count"), [(0, 0), (3, 2), (-1, 5), (1, -2)])
def test_no_proportion_is_refused(correct, count):
    for call in (wilson_interval, Score):
        with pytest.raises(DataError, match=f"{correct} correct of {count} is no proportion; evaluate at least one"):
            call(correct, count)


def test_score_counts_and_prints():
    result = score(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1, 1]))
    assert (result.correct, result.count, result.accuracy) == (3, 4, 0.75)
    low, high = wilson_interval(3, 4)
    assert result.to_dict() == {"accuracy": 0.75, "interval95": [low, high], "correct": 3, "count": 4}
    assert str(result) == "75.0 % [30.1, 95.4]"


LOGITS = st.tuples(st.integers(1, 30), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.floats(-10, 10, width=32)),
        hnp.arrays(np.int32, shape[0], elements=st.integers(0, shape[1] - 1)),
    )
)


@given(LOGITS)
def test_confusion_and_score_equal_a_naive_count(case):
    logits, labels = case
    classes = logits.shape[1]
    expected = [[0] * classes for _ in range(classes)]
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        expected[truth][row.index(max(row))] += 1
    confusion = confusion_matrix(logits, labels)
    assert confusion.tolist() == expected
    assert score(logits, labels).correct == sum(expected[i][i] for i in range(classes))
    assert score(logits, labels).count == len(labels)


def test_agreement_is_the_share_of_equal_choices():
    a = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [5.0, 1.0]])
    b = np.array([[9.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.1, 0.0]])
    assert agreement(a, b) == 0.75


@pytest.mark.parametrize("decibels", [-20.0, 0.0, 17.0, 60.0, 120.0])
def test_snr_of_noise_of_known_power(decibels):
    rng = np.random.default_rng(1)
    signal, noise = rng.normal(size=(2, 64, 10))
    noise *= math.sqrt((signal**2).sum() / (noise**2).sum()) * 10 ** (-decibels / 20)
    assert snr_db(signal, signal + noise) == pytest.approx(decibels, abs=1e-6)


def test_snr_of_known_arrays():
    ones, zeros = np.ones((2, 3)), np.zeros((2, 3))
    assert snr_db(ones, ones * 1.1) == pytest.approx(20.0, abs=1e-4)
    assert [snr_db(ones, ones), snr_db(zeros, zeros), snr_db(zeros, ones), snr_db(ones, zeros)] == [200, 200, -200, 0]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_a_failure_everywhere(broken):
    good, bad, labels = np.ones((3, 4)), np.ones((3, 4)), np.zeros(3, int)
    bad[1, 2] = broken
    message = "1 of 12 .* are not finite; the model is broken"
    calls = [(score, bad, labels), (confusion_matrix, bad, labels), (require_finite, bad, "numbers")]
    calls += [(compare, *pair) for compare in (agreement, snr_db) for pair in ((good, bad), (bad, good))]
    for function, *arguments in calls:
        with pytest.raises(AnswerIsNo, match=message):
            function(*arguments)

"""The accuracy gate's statistics against independent references: SciPy, published intervals, slow searches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm

from preprocess.errors import AnswerIsNo, UsageError
from quantize.gate.paired import (
    MaxDrop,
    PairedDrop,
    expected_calibration_error,
    holm,
    loss_p,
    mcnemar_p,
    recordings_needed,
    tango_interval,
)

PAIRS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 400)).map(
    lambda case: (case[0], case[1], case[0] + case[1] + case[2])
)


# --- Tango's interval


def score_statistic(lost: int, gained: int, count: int, delta: float) -> float:
    """T(Δ) from its definition: the nuisance share is found by maximising the multinomial likelihood numerically."""
    low, high = max(0.0, -delta), (1 - delta) / 2

    def minus_log_likelihood(q: float) -> float:
        shares = (q + delta, q, 1 - 2 * q - delta)
        counts = (lost, gained, count - lost - gained)
        return -sum(n * math.log(max(p, 1e-300)) for n, p in zip(counts, shares, strict=True) if n)

    q = minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (lost - gained - count * delta) / math.sqrt(count * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize(
    ("lost", "gained", "count"), [(5, 2, 100), (0, 3, 60), (12, 1, 40), (7, 7, 500), (30, 4, 1000), (1, 0, 9)]
)
def test_tango_interval_is_where_the_score_test_does_not_reject(lost, gained, count):
    """Its ends by a root finder, the rest on a grid; the likelihood is maximised numerically."""
    low, high = tango_interval(lost, gained, count, confidence=0.95)

    def excess(delta: float) -> float:
        return abs(score_statistic(lost, gained, count, delta)) - norm.ppf(0.975)

    drop = (lost - gained) / count
    assert low == pytest.approx(brentq(excess, -0.999, drop), abs=1e-5)
    assert high == pytest.approx(brentq(excess, drop, 0.999), abs=1e-5)
    for delta in np.linspace(-0.999, 0.999, 200):
        assert (excess(delta) <= 0) == (low <= delta <= high)


@pytest.mark.parametrize(
    ("lost", "gained", "count", "confidence", "low", "high", "tolerance"),
    [
        # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33: airway hyper-responsiveness, Tango's interval.
        (1, 7, 21, 0.95, -0.517, -0.026, 5e-4),
        # R's PropCIs::scoreci.mp(25, 28, 618, 0.90), whose difference is the second less the first.
        (28, 25, 618, 0.90, -0.0148, 0.0247, 5e-5),
    ],
)
def test_tango_interval_as_published(lost, gained, count, confidence, low, high, tolerance):
    assert tango_interval(lost, gained, count, confidence=confidence) == pytest.approx((low, high), abs=tolerance)


@pytest.mark.parametrize("count", [1, 20, 380, 5000])
def test_tango_interval_without_a_difference_has_a_closed_form(count):
    """T(Δ)² = NΔ/(1 − Δ) there, hence Δ = z²/(N + z²)."""
    z = norm.ppf(0.975)
    end = z**2 / (count + z**2)
    assert tango_interval(0, 0, count, confidence=0.95) == pytest.approx((-end, end), abs=1e-12)


@given(PAIRS, st.floats(0.5, 0.999))
def test_tango_interval_properties(case, confidence):
    lost, gained, count = case
    low, high = tango_interval(lost, gained, count, confidence=confidence)
    assert -1 <= low <= (lost - gained) / count <= high <= 1
    mirrored = tango_interval(gained, lost, count, confidence=confidence)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    wider = tango_interval(lost, gained, count, confidence=(1 + confidence) / 2)
    assert wider[0] < low
    assert wider[1] > high or high == 1


@pytest.mark.parametrize(("lost", "gained"), [(0.03, 0.02), (0.02, 0.01), (0.05, 0.05), (0.012, 0.0)])
def test_tango_interval_covers_as_often_as_it_says(lost, gained):
    """20,000 draws of 600 recordings; three standard errors of the simulated share."""
    count, draws = 600, 20_000
    counts = np.random.default_rng(7).multinomial(count, [lost, gained, 1 - lost - gained], size=draws)
    distinct, occurrences = np.unique(counts[:, :2], axis=0, return_counts=True)
    low_misses = high_misses = 0
    for pairs, times in zip(distinct.tolist(), occurrences.tolist(), strict=True):
        low, high = tango_interval(*pairs, count, confidence=0.95)
        low_misses += times * (lost - gained < low)
        high_misses += times * (lost - gained > high)

    def most(share: float) -> float:
        return share + 3 * math.sqrt(share * (1 - share) / draws)

    assert (low_misses + high_misses) / draws <= most(0.05)
    # The error that the gate must not make: a true loss above the upper end.
    assert high_misses / draws <= most(0.025)


# --- the number of recordings


@given(PAIRS, st.sampled_from([0.5, 1.0, 2.0, 5.0]), st.sampled_from([0.8, 0.95, 0.99]))
def test_with_as_many_recordings_as_needed_the_gate_decides(case, budget, confidence):
    lost, gained, count = case
    assume(100 * (lost - gained) / count != budget)
    needed = PairedDrop(lost, gained, count, confidence).recordings_needed(budget)
    assert needed is not None

    def decided(total: float) -> bool:
        share = total / count
        low, high = tango_interval(lost * share, gained * share, total, confidence=confidence)
        return 100 * high <= budget or 100 * low > budget

    assert decided(needed + 1e-6 * needed)
    assert needed <= 2 or not decided((needed - 1) * (1 - 1e-6))
    # Whole recordings, as they are: the same ones, repeated until there are enough.
    assert decided(count * math.ceil(needed / count + 1e-6))


def test_recordings_needed_without_a_difference_and_at_the_budget():
    """N ≥ z²(1 − budget)/budget, which is 380.3 for one point. No number decides a drop equal to the budget."""
    assert recordings_needed(0.0, 0.0, budget=0.01, confidence=0.95) == 381
    assert recordings_needed(0.02, 0.0, budget=0.02, confidence=0.95) is None


@given(PAIRS, st.floats(0.01, 20))
def test_max_drop_is_the_upper_end_of_the_interval(case, points):
    rule, drop = MaxDrop(points), PairedDrop(*case, 0.95)
    assert rule.holds(drop) == (100 * tango_interval(*case, confidence=0.95)[1] <= points)
    assert f"INT8 loses {drop}, budget {points:g}" in rule.finding(drop, "INT8")


@given(st.floats(0.05, 50), st.integers(1, 10_000))
def test_max_drop_asks_for_no_more_recordings_than_it_needs(points, count):
    rule = MaxDrop(points)
    if rule.holds(PairedDrop(0, 0, count, 0.95)):
        rule.require_enough(count)
        return
    with pytest.raises(UsageError, match="or allow a larger drop") as caught:
        rule.require_enough(count)
    needed = int(str(caught.value).split("--recordings ")[1].split()[0])
    assert rule.holds(PairedDrop(0, 0, needed, 0.95))
    assert not rule.holds(PairedDrop(0, 0, needed - 1, 0.95))


# --- McNemar, Holm, ECE


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_the_binomial_test(lost, gained):
    assume(lost + gained > 0)
    assert mcnemar_p(lost, gained) == pytest.approx(binomtest(lost, lost + gained, 0.5).pvalue, rel=1e-9)
    one_sided = binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue
    assert loss_p(lost, gained) == pytest.approx(one_sided, rel=1e-9)


def test_mcnemar_at_its_ends():
    assert mcnemar_p(0, 0) == 1.0
    assert loss_p(0, 0) == 1.0
    assert mcnemar_p(2000, 0) == 0.0  # 2^-1999, below what float64 holds
    assert mcnemar_p(20_000, 20_100) == pytest.approx(binomtest(20_000, 40_100).pvalue, rel=1e-6)


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1, and never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    alpha, order = 0.05, sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = set()
    for rank, index in enumerate(order):
        if (len(p_values) - rank) * p_values[index] > alpha:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(2, 6)), elements=st.floats(-8, 8, width=32)),
    st.integers(0, 2**31),
)
def test_calibration_error_equals_a_slow_loop(logits, seed):
    labels = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    members: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        shares = [math.exp(x) for x in row]
        confidence = max(shares) / sum(shares)
        assume(abs(15 * confidence - round(15 * confidence)) > 1e-9)  # rounding decides on a border
        members.setdefault(math.ceil(15 * confidence), []).append((confidence, int(row.argmax()) == label))
    expected = sum(
        len(rows) / len(logits) * abs(sum(ok for _, ok in rows) / len(rows) - sum(c for c, _ in rows) / len(rows))
        for rows in members.values()
    )
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_calibration_error_of_known_confidence():
    """Always 80 % sure and right in half of the cases; sure beyond doubt, and right; not finite."""
    logits = np.log(np.tile([0.8, 0.2], (10, 1)))
    assert expected_calibration_error(logits, np.array([0, 1] * 5)) == pytest.approx(0.3, abs=1e-12)
    assert expected_calibration_error(np.array([[3e38, -3e38]], np.float32), np.array([0])) == 0.0
    with pytest.raises(AnswerIsNo, match="1 of 2 logits are not finite"):
        expected_calibration_error(np.array([[0.0, np.nan]]), np.array([0]))

"""Statistics of timings against independent formulas and simulated data of which the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure.statistics import WIDE_DRIFT, Ratio, judge_ratio, ratio_of_medians, reasons_for_doubt, summarize
from preprocess.errors import DataError

SIMULATIONS = 250
# A share of 0.95 in 250 simulations lies within ±0.041 (three standard errors); a bootstrap of few samples covers a
# little less or more than its nominal share.
COVERAGE = (0.90, 0.995)
# Difference by chance of two bootstraps of thousands of resamples, relative to the interval's width.
SAME_BOOTSTRAP = 0.15


def quantile_by_hand(samples: list[float], share: float) -> float:
    """Linear between order statistics, the first at 0 and the last at 1."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=60))
def test_summary_is_that_of_the_order_statistics(samples):
    result = summarize(samples)
    assert result.count == len(samples)
    for share, value in ((0.5, result.median_ms), (0.9, result.p90_ms), (0.99, result.p99_ms)):
        assert value == pytest.approx(quantile_by_hand(samples, share))
    assert result.spread == pytest.approx(result.p90_ms / result.median_ms - 1)
    assert result.spread >= -1e-12
    assert result.fps * result.median_ms == pytest.approx(1000)


def rounds(rng: np.random.Generator, count: int, ratio: float, *, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Two codes whose medians have the ratio, with separate noise and noise that both share in a round."""
    common = np.exp(rng.normal(0, shared, count))
    separate = np.exp(rng.normal(0, 0.05, (2, count)))
    return 20 * ratio * common * separate[0], 20 * common * separate[1]


@pytest.mark.parametrize("paired", [True, False])
def test_interval_agrees_with_that_of_scipy(paired):
    samples, base = rounds(np.random.default_rng(1), 60, 0.8, shared=0.1)
    result = ratio_of_medians(samples, base, paired=paired)

    def statistic(a, b, axis=-1):
        return np.median(a, axis=axis) / np.median(b, axis=axis)

    peer = scipy.stats.bootstrap(
        (samples, base), statistic, paired=paired, method="percentile", n_resamples=4000, vectorized=True, rng=3
    ).confidence_interval
    assert result.value == pytest.approx(np.median(samples) / np.median(base))
    assert (result.low, result.high) == pytest.approx(
        (peer.low, peer.high), abs=SAME_BOOTSTRAP * (peer.high - peer.low)
    )


@pytest.mark.parametrize(
    ("paired", "shared", "most"),
    [
        (True, 0.0, COVERAGE[1]),
        # Medians of noise that rounds share are the same round's more often than those of resampled rounds: too wide.
        (True, 0.2, 1.0),
        (False, 0.0, COVERAGE[1]),
    ],
)
def test_interval_has_its_nominal_coverage(paired, shared, most):
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(SIMULATIONS):
        result = ratio_of_medians(*rounds(rng, 40, 1.3, shared=shared), paired=paired)
        covered += result.low <= 1.3 <= result.high
    assert COVERAGE[0] <= covered / SIMULATIONS <= most


def test_rounds_in_common_narrow_the_interval():
    samples, base = rounds(np.random.default_rng(2), 50, 1.0, shared=0.3)
    together, apart = (ratio_of_medians(samples, base, paired=paired) for paired in (True, False))
    assert together.high - together.low < 0.6 * (apart.high - apart.low)


def test_paired_rounds_must_be_equal_in_number():
    with pytest.raises(DataError, match="3 rounds against 2; paired rounds must be equal in number"):
        ratio_of_medians([1.0, 2.0, 3.0], [1.0, 2.0], paired=True)
    assert ratio_of_medians([1.0, 2.0, 3.0], [1.0, 3.0], paired=False).value == 1


@pytest.mark.parametrize(
    ("low", "high", "noise", "expected"),
    [
        (1.02, 1.10, 0.0, "slower"),
        (1.02, 1.10, 0.05, "no difference seen"),
        (1.06, 1.10, 0.05, "slower"),
        (0.99, 1.10, 0.0, "no difference seen"),
        (0.90, 0.98, 0.0, "faster"),
        (0.90, 0.98, 0.05, "no difference seen"),
        (0.90, 0.95, 0.05, "faster"),
        (1.0, 1.0, 0.0, "no difference seen"),
    ],
)
def test_a_verdict_needs_the_complete_interval_beyond_the_noise(low, high, noise, expected):
    assert judge_ratio(Ratio((low + high) / 2, low, high), noise=noise) == expected


def test_a_wide_spread_and_a_drift_are_reported_and_a_quiet_machine_is_not():
    rng = np.random.default_rng(7)
    assert not any(reasons_for_doubt(rng.lognormal(3, 0.05, 40)) for _ in range(100))
    steady = rng.lognormal(3, 0.03, 40)
    disturbed = steady * np.where(np.arange(40) % 4 == 0, 2.0, 1.0)
    assert reasons_for_doubt(disturbed) == (f"p90 is {summarize(disturbed).spread:.0%} above the median",)
    hot = steady * np.where(np.arange(40) < 20, 1.0, 1.2)
    drift = np.median(hot[20:]) / np.median(hot[:20])
    assert reasons_for_doubt(hot) == (f"the second half took {drift:.2f}× the time of the first",)
    # A drift beyond chance that is small.
    assert reasons_for_doubt(steady * np.where(np.arange(40) < 20, 1.0, 1 + WIDE_DRIFT / 2)) == ()

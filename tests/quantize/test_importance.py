"""Scores of channels against loops over single entries, finite differences of the loss, and the sensitivity scan."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kit.networks import all_logits, noise, random_weights, recogniser_with
from kit.tiny import tiny_config

from quantize.prune.groups import channel_groups, cut_channels
from quantize.prune.importance import magnitude, measure_damage, scale, score_channels, strongest
from quantize.recover.distillation import divergence

CONFIG = tiny_config(norm="batch")
GROUPS = {group.name: group for group in channel_groups(CONFIG)}
WEIGHTS = random_weights(CONFIG, 2)
SAMPLES = noise(CONFIG, 9, 3)


def test_magnitude_is_the_norm_of_everything_that_touches_the_channel():
    produced = WEIGHTS["visual/stage1/block0/conv1/kernel"]
    read = WEIGHTS["visual/stage1/block0/conv2/kernel"]
    expected = []
    for channel in range(produced.shape[3]):
        a, b = np.square(produced[..., channel]).sum(), np.square(read[:, :, channel]).sum()
        expected.append(np.sqrt((a / (produced**2).sum() + b / (read**2).sum()) * produced.shape[3] / 2))
    scores = magnitude(GROUPS["visual/stage1/block0/inner1"], WEIGHTS)
    np.testing.assert_allclose(scores, [expected], rtol=1e-5)


def test_scale_is_the_mean_factor_of_the_norms():
    factors = [np.abs(WEIGHTS[f"visual/stage0/block0/{conv}/bn/gamma"]) for conv in ("shortcut", "conv2")]
    np.testing.assert_allclose(scale(GROUPS["visual/stage0/residual"], WEIGHTS), [np.mean(factors, axis=0)], rtol=1e-6)
    inside = GROUPS["audio/stage0/block0/expanded"]
    np.testing.assert_array_equal(scale(inside, WEIGHTS), magnitude(inside, WEIGHTS))


def losses(weights):
    """Sums of the three cross-entropies on the two batches of eight and one, float64 on top of the logits."""
    log_p = [scipy.special.log_softmax(np.float64(x), axis=1) for x in all_logits(CONFIG, weights, SAMPLES)]
    entropy = -sum(p[np.arange(9), SAMPLES.labels] for p in log_p)
    return np.array([entropy[:8].mean(), entropy[8]])


@cache
def taylor_scores():
    return score_channels(recogniser_with(CONFIG, WEIGHTS), list(GROUPS.values()), "taylor", SAMPLES)


@pytest.mark.parametrize(
    "name",
    [
        "visual/stage1/block0/inner0",
        "audio/stage1/width",
        "audio/stage2/block0/expanded",
        "fusion/value_dim",
        "fusion/heads",
    ],
)
def test_taylor_is_the_squared_first_order_change_of_the_loss_added_over_batches(name):
    """Against the loss with the gates of the strongest channel a little stronger and a little weaker."""
    group, scores = GROUPS[name], taylor_scores()[name]
    part, channel = np.unravel_index(scores.argmax(), scores.shape)
    step, results = 5e-3, []
    for factor in (1 + step, 1 - step):
        changed = dict(WEIGHTS)
        for axis in group.axes:
            if axis.role == "gate":
                value = changed[axis.weight] = changed[axis.weight].copy()
                start = (part * group.width + channel) * axis.unit
                np.moveaxis(value, axis.axis, 0)[start : start + axis.unit] *= factor
        results.append(losses(changed))
    slopes = (results[0] - results[1]) / (2 * step)
    assert np.sqrt(scores[part, channel]) == pytest.approx(np.sqrt(np.square(slopes).sum()), rel=0.02)


@given(arrays.arrays(np.float64, (2, 7), elements=st.floats(0, 1)), st.integers(1, 7))
def test_the_strongest_are_kept_in_order(scores, count):
    kept = strongest(scores, count)
    assert kept.shape == (2, count)
    for row, channels in zip(scores, kept, strict=True):
        assert (np.diff(channels) > 0).all()
        gone = np.setdiff1d(np.arange(7), channels)
        assert not len(gone) or row[gone].max() <= row[channels].min()


def test_the_scan_measures_what_the_cut_network_answers():
    names = ("visual/stage2/block0/inner0", "audio/stage3/width", "fusion/key_dim")
    groups, single = [GROUPS[name] for name in names], replace(GROUPS["fusion/heads"], width=1)
    scores = score_channels(recogniser_with(CONFIG, WEIGHTS), groups, "magnitude", None)
    recogniser = recogniser_with(CONFIG, WEIGHTS)
    damage = measure_damage(recogniser, [*groups, single], scores, SAMPLES)
    for name, value in recogniser.weights().items():
        np.testing.assert_array_equal(value, WEIGHTS[name], err_msg=f"{name} was not put back")
    assert set(damage) == set(names), "a single channel has nothing to give"
    unpruned = all_logits(CONFIG, WEIGHTS, SAMPLES)[0]
    for group in groups:
        kept = strongest(scores[group.name], round(group.width / 2))
        narrow = all_logits(*cut_channels(CONFIG, WEIGHTS, {group.name: kept}), SAMPLES)[0]
        expected = float(divergence(np.float64(unpruned), np.float64(narrow), 1.0))
        assert list(damage[group.name]) == [1.0, 0.75, 0.5, 0.25]
        none, quarter, half, _ = damage[group.name].values()
        assert none == 0
        assert half == pytest.approx(max(expected, quarter), rel=1e-2, abs=1e-6), group.name

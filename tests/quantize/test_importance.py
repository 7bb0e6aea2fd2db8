"""Scores of channels against loops over single entries, finite differences of the loss, and the sensitivity scan."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kit.tiny import tiny_config

from model.recogniser import build_recogniser
from quantize.prune.groups import channel_groups, cut_channels
from quantize.prune.importance import magnitude, scale, strongest
from quantize.prune.sensitivity import importance, scan
from quantize.recover.distillation import divergence
from recordings.calibration import CalibrationSet

CONFIG = tiny_config(norm="batch")
GROUPS = {group.name: group for group in channel_groups(CONFIG)}


@cache
def model():
    recogniser = build_recogniser(CONFIG, seed=2)
    rng = np.random.default_rng(2)
    shifted = {
        name: value + rng.normal(0, 0.3, value.shape).astype(np.float32)
        for name, value in recogniser.weights().items()
        if name.endswith(("gamma", "beta", "bias"))
    }
    recogniser.set_weights(recogniser.weights() | shifted)
    return recogniser


@cache
def samples():
    rng = np.random.default_rng(3)
    skeleton = rng.random((6, *CONFIG.spec.skeleton.shape)).astype(np.float32)
    audio = rng.normal(size=(6, *CONFIG.spec.audio.shape)).astype(np.float32)
    return CalibrationSet(tuple("abcdef"), np.array([0, 1, 2, 0, 1, 2], np.int32), skeleton, audio, seed=0)


def test_magnitude_is_the_norm_of_everything_that_touches_the_channel():
    weights = model().weights()
    found = magnitude(GROUPS["visual/stage1/block0/inner1"], weights)
    produced = weights["visual/stage1/block0/conv1/kernel"]
    read = weights["visual/stage1/block0/conv2/kernel"]
    expected = []
    for channel in range(produced.shape[3]):
        a, b = np.square(produced[..., channel]).sum(), np.square(read[:, :, channel]).sum()
        expected.append(np.sqrt((a / (produced**2).sum() + b / (read**2).sum()) * produced.shape[3] / 2))
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_a_kernel_counts_relative_to_its_size():
    group, weights = GROUPS["audio/stage2/block0/expanded"], model().weights()
    louder = weights | {"audio/stage2/block0/expand/kernel": 100 * weights["audio/stage2/block0/expand/kernel"]}
    np.testing.assert_allclose(magnitude(group, louder), magnitude(group, weights), rtol=1e-6)


def test_scale_is_the_mean_factor_of_the_norms():
    weights = model().weights()
    factors = [
        np.abs(weights[name])
        for name in weights
        if name.startswith(("visual/stage0/block0/shortcut/bn", "visual/stage0/block0/conv2/bn"))
        and name.endswith("gamma")
    ]
    assert len(factors) == 2
    np.testing.assert_allclose(scale(GROUPS["visual/stage0/residual"], weights), [np.mean(factors, axis=0)], rtol=1e-6)
    inside = GROUPS["audio/stage0/block0/expanded"]
    np.testing.assert_array_equal(scale(inside, weights), magnitude(inside, weights))


def loss(weights):
    """Sum of the three cross-entropies, float64 on top of the logits."""
    recogniser, own = model(), samples()
    before = recogniser.weights()
    recogniser.set_weights(weights)
    outputs = (
        recogniser.fused([own.skeleton, own.audio], training=False),
        recogniser.visual(own.skeleton, training=False),
        recogniser.audio(own.audio, training=False),
    )
    recogniser.set_weights(before)
    log_p = [scipy.special.log_softmax(np.float64(logits), axis=1) for logits in outputs]
    return -sum(p[np.arange(len(own.labels)), own.labels].mean() for p in log_p)


@pytest.mark.parametrize(
    "name",
    [
        "visual/stage1/block0/inner0",
        "visual/stage3/residual",
        "audio/stage1/width",
        "audio/stage2/block0/expanded",
        "fusion/value_dim",
        "fusion/heads",
    ],
)
def test_taylor_is_the_squared_first_order_change_of_the_loss(name):
    """Against the loss with the gates of the strongest channel a little stronger and a little weaker."""
    group, weights = GROUPS[name], model().weights()
    found = importance(model(), [group], "taylor", samples(), batch_size=6)[name]
    part, channel = np.unravel_index(found.argmax(), found.shape)
    step, losses = 5e-3, []
    for factor in (1 + step, 1 - step):
        changed = dict(weights)
        for own in group.axes:
            if own.role == "gate":
                mask = np.ones(weights[own.weight].shape[own.axis], np.float32)
                start = (part * group.width + channel) * own.unit
                mask[start : start + own.unit] = factor
                shape = [-1 if axis == own.axis else 1 for axis in range(weights[own.weight].ndim)]
                changed[own.weight] = changed[own.weight] * mask.reshape(shape)
        losses.append(loss(changed))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert np.sqrt(found[part, channel]) == pytest.approx(abs(slope), rel=0.02)


def test_taylor_adds_batches():
    group = GROUPS["visual/stem"]
    whole = importance(model(), [group], "taylor", samples(), batch_size=2)["visual/stem"]
    parts = [
        importance(
            model(),
            [group],
            "taylor",
            CalibrationSet(
                own.names[i : i + 2], own.labels[i : i + 2], own.skeleton[i : i + 2], own.audio[i : i + 2], 0
            ),
        )["visual/stem"]
        for own in [samples()]
        for i in (0, 2, 4)
    ]
    np.testing.assert_allclose(whole, sum(parts), rtol=1e-4)


@given(arrays.arrays(np.float64, (2, 7), elements=st.floats(0, 1)), st.integers(1, 7))
def test_the_strongest_are_kept_in_order(scores, count):
    kept = strongest(scores, count)
    assert kept.shape == (2, count)
    for own, channels in zip(scores, kept, strict=True):
        assert (np.diff(channels) > 0).all()
        gone = np.setdiff1d(np.arange(7), channels)
        assert not len(gone) or own[gone].max() <= own[channels].min()


def test_the_scan_measures_what_the_cut_network_answers():
    names = ("visual/stage2/block0/inner0", "visual/stage3/residual", "audio/stage3/width", "fusion/heads")
    names += ("fusion/key_dim",)
    groups = [GROUPS[name] for name in names]
    before, own = model().weights(), samples()
    scores = importance(model(), groups, "magnitude", own)
    found = scan(model(), groups, scores, own, shares=(0.5,))
    for name, value in model().weights().items():
        np.testing.assert_array_equal(value, before[name], err_msg=f"{name} was not put back")
    whole = model().fused([own.skeleton, own.audio], training=False).numpy()
    for group in groups:
        kept = strongest(scores[group.name], round(group.width / 2))
        config, weights = cut_channels(CONFIG, before, {group.name: kept})
        narrow = build_recogniser(config)
        narrow.set_weights(weights)
        answer = narrow.fused([own.skeleton, own.audio], training=False).numpy()
        expected = float(divergence(np.float64(whole), np.float64(answer), 1.0))
        assert found[group.name].shares == (1.0, 0.5)
        assert found[group.name].values[0] == 0
        assert found[group.name].values[1] == pytest.approx(expected, rel=1e-2, abs=1e-6), group.name


def test_the_scan_leaves_single_channels_alone():
    config = tiny_config(norm="batch")
    one = next(group for group in channel_groups(config) if group.name == "fusion/heads")
    single = type(one)(one.name, 1, one.paths, one.axes)
    assert scan(model(), [single], {}, samples()) == {}

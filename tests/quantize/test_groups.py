"""Channel groups: a network without channels computes what the original computes with those channels silent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.tiny import THREE_LABELS, model_configs, tiny_config

from model.config import preset_config
from model.cost import model_cost
from model.recogniser import build_recogniser
from quantize.prune.groups import channel_groups, cut_channels, narrowed, zero_channels

# Float32 sums in another order, on logits of order one.
SAME_FLOAT = 1e-4


def random_weights(config, seed):
    """Weights of every kind away from their initial values, so that a channel that is cut wrongly shows."""
    rng = np.random.default_rng(seed)
    weights = build_recogniser(config, seed=seed).weights()
    for name, value in weights.items():
        if name.endswith("moving_variance"):
            weights[name] = rng.uniform(0.5, 2, value.shape).astype(np.float32)
        elif not name.endswith("kernel"):
            weights[name] = (value + rng.normal(0, 0.3, value.shape)).astype(np.float32)
    return weights


def some_channels(group, rng):
    """At least one and not all channels of every part, rising."""
    count = int(rng.integers(1, group.width)) if group.width > 1 else 1
    return np.stack([np.sort(rng.permutation(group.width)[:count]) for _ in range(group.parts)])


def inputs_of(config, seed):
    rng = np.random.default_rng(seed)
    skeleton = rng.random((2, *config.spec.skeleton.shape)).astype(np.float32)
    return skeleton, rng.normal(size=(2, *config.spec.audio.shape)).astype(np.float32)


def all_logits(config, weights, inputs):
    """Logits of the fused model and of both streams."""
    recogniser = build_recogniser(config)
    recogniser.set_weights(weights)
    skeleton, audio = inputs
    return [
        recogniser.fused([skeleton, audio], training=False).numpy(),
        recogniser.visual(skeleton, training=False).numpy(),
        recogniser.audio(audio, training=False).numpy(),
    ]


def check_cut(config, kept, seed):
    weights, inputs = random_weights(config, seed), inputs_of(config, seed)
    before = {name: value.copy() for name, value in weights.items()}
    silent = all_logits(config, zero_channels(config, weights, kept), inputs)
    narrow, cut = cut_channels(config, weights, kept)
    for name, value in before.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=f"{name} was changed in place")
    for found, expected in zip(all_logits(narrow, cut, inputs), silent, strict=True):
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, rtol=0, atol=SAME_FLOAT * scale)
    return narrow


@settings(max_examples=4)
@given(model_configs(), st.integers(0, 2**16))
def test_a_cut_network_equals_the_silenced_one(config, seed):
    rng = np.random.default_rng(seed)
    groups = [group for group in channel_groups(config) if group.exact and group.width > 1]
    kept = {group.name: some_channels(group, rng) for group in groups}
    narrow = check_cut(config, kept, seed)
    widths = {group.name: group.width for group in channel_groups(narrow)}
    assert {name: channels.shape[1] for name, channels in kept.items()}.items() <= widths.items()


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_order_of_channels_means_nothing(norm):
    """Every group in another order, layer norms included: the same logits."""
    config, rng = tiny_config(norm=norm), np.random.default_rng(7)
    weights, inputs = random_weights(config, 7), inputs_of(config, 7)
    order = {
        group.name: np.stack([rng.permutation(group.width)] * group.parts)
        if group.name == "fusion/heads"
        else np.stack([rng.permutation(group.width) for _ in range(group.parts)])
        for group in channel_groups(config)
    }
    same, shuffled = cut_channels(config, weights, order)
    assert same == config
    assert not np.array_equal(shuffled["fusion/query/kernel"], weights["fusion/query/kernel"])
    for a, b in zip(*(all_logits(config, own, inputs) for own in (weights, shuffled)), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=SAME_FLOAT * max(1.0, float(np.abs(a).max())))


def test_a_stem_is_cut_with_the_stream_that_adds_it():
    config = tiny_config(bottleneck=False, norm="batch")
    config = replace(config, visual=replace(config.visual, stem=config.visual.stages[0].residual))
    check_cut(config, {"visual/stage0/residual": np.array([[0, 3, 4]])}, seed=3)


def test_silent_channels_change_the_logits():
    """Otherwise the comparison above would prove nothing."""
    config = tiny_config(norm="batch")
    weights, inputs = random_weights(config, 5), inputs_of(config, 5)
    kept = {group.name: np.zeros((group.parts, 1), np.int64) for group in channel_groups(config) if group.exact}
    plain, silent = (all_logits(config, own, inputs) for own in (weights, zero_channels(config, weights, kept)))
    for a, b in zip(plain, silent, strict=True):
        assert np.abs(a - b).max() > 0.1


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("depth", [50, 18])
def test_every_width_of_the_presets_belongs_to_one_group(norm, depth):
    """All groups at half their width: every width of the configuration has halved."""
    config = preset_config("paper", THREE_LABELS, visual_depth=depth, audio_norm=norm)
    half = narrowed(config, {group.name: group.width // 2 for group in channel_groups(config)})
    document, expected = half.to_dict(), config.to_dict()
    expected["visual"]["stem"] //= 2
    for stage in expected["visual"]["stages"]:
        stage["residual"] //= 2
        stage["inner"] = [[width // 2 for width in inner] for inner in stage["inner"]]
    for stage in expected["audio"]["stages"]:
        stage["width"] //= 2
        stage["expanded"] = [width // 2 for width in stage["expanded"]]
    expected["fusion"] = {name: width // 2 for name, width in expected["fusion"].items()}
    assert document == expected
    assert model_cost(half).total.macs < 0.3 * model_cost(config).total.macs


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_every_weight_knows_its_channels(norm):
    """The axes of a weight are those of its groups: only inputs and classes belong to none."""
    config = tiny_config(norm=norm)
    covered = {}
    for group in channel_groups(config):
        for own in group.axes:
            covered.setdefault(own.weight, set()).add(own.axis)
    for name, value in build_recogniser(config).weights().items():
        open_axes = {axis for axis in range(value.ndim) if value.shape[axis] > 1 and axis not in covered.get(name, ())}
        spatial = {0, 1} if value.ndim == 4 else set()
        fixed = {
            "visual/stem/kernel": {2},
            "audio/stem/conv/kernel": {2},
            **{f"{head}/classifier/kernel": {1} for head in ("visual", "audio", "fusion")},
            **{f"{head}/classifier/bias": {0} for head in ("visual", "audio", "fusion")},
        }.get(name, set())
        assert open_axes - spatial == fixed, name


def test_the_stem_keeps_its_width_where_a_shortcut_depends_on_it():
    config = tiny_config(bottleneck=False)
    assert config.visual.stem != config.visual.stages[0].residual
    names = {group.name for group in channel_groups(config)}
    assert not {"visual/stem", "visual/stage0/residual"} & names
    tied = replace(config, visual=replace(config.visual, stem=config.visual.stages[0].residual))
    narrow = narrowed(tied, {"visual/stage0/residual": 3})
    assert (narrow.visual.stem, narrow.visual.stages[0].residual) == (3, 3)

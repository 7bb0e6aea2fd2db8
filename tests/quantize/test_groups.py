"""Channel groups: a network without some channels equals the original with those channels silent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.networks import all_logits, assert_close, initial_weights, noise, random_weights
from kit.tiny import THREE_LABELS, model_configs, tiny_config

from model.config import preset_config
from model.cost import model_cost
from quantize.prune.groups import channel_groups, cut_channels, narrowed, silenced


def exact_groups(config):
    """Groups in which removing a channel equals making it zero: no layer norm takes its mean over the channels."""
    layer_normed = ("fusion/audio_width",) if config.audio.norm == "batch" else ("fusion/audio_width", "audio/stage")
    return [
        group
        for group in channel_groups(config)
        if not group.name.startswith(layer_normed) or group.name.endswith("expanded")
    ]


def some_channels(group, rng):
    """At least one and not all channels of every part, rising."""
    count = int(rng.integers(1, group.width)) if group.width > 1 else 1
    return np.stack([np.sort(rng.permutation(group.width)[:count]) for _ in range(group.parts)])


def zero_channels(config, weights, kept):
    """The weights with all channels silenced but those kept; shapes stay."""
    for group in channel_groups(config):
        if group.name in kept:
            weights = weights | silenced(group, weights, kept[group.name])
    return weights


def check_cut(config, kept, seed):
    weights, samples = random_weights(config, seed), noise(config, 2, seed)
    before = {name: value.copy() for name, value in weights.items()}
    silent = all_logits(config, zero_channels(config, weights, kept), samples)
    narrow, cut = cut_channels(config, weights, kept)
    for name, value in before.items():
        np.testing.assert_array_equal(weights[name], value, err_msg=f"{name} was changed in place")
    for actual, expected in zip(all_logits(narrow, cut, samples), silent, strict=True):
        assert_close(actual, expected)
    return narrow


@settings(max_examples=2)
@given(model_configs(), st.integers(0, 2**16))
def test_a_cut_network_equals_the_silenced_one(config, seed):
    rng = np.random.default_rng(seed)
    kept = {group.name: some_channels(group, rng) for group in exact_groups(config) if group.width > 1}
    narrow = check_cut(config, kept, seed)
    widths = {group.name: group.width for group in channel_groups(narrow)}
    assert {name: channels.shape[1] for name, channels in kept.items()}.items() <= widths.items()


def test_silent_channels_change_the_logits():
    """Otherwise the comparison above would prove nothing."""
    config = tiny_config(norm="batch")
    weights, samples = random_weights(config, 5), noise(config, 2, 5)
    kept = {group.name: np.zeros((group.parts, 1), np.int64) for group in exact_groups(config)}
    plain, silent = (all_logits(config, w, samples) for w in (weights, zero_channels(config, weights, kept)))
    for a, b in zip(plain, silent, strict=True):
        assert np.abs(a - b).max() > 0.1


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_the_order_of_channels_means_nothing(norm):
    """Every group in another order, layer norms included: the same logits."""
    config, rng = tiny_config(norm=norm), np.random.default_rng(7)
    weights, samples = random_weights(config, 7), noise(config, 2, 7)
    order = {
        group.name: np.stack([rng.permutation(group.width) for _ in range(group.parts)])
        for group in channel_groups(config)
    }
    same, shuffled = cut_channels(config, weights, order)
    assert same == config
    assert not np.array_equal(shuffled["fusion/query/kernel"], weights["fusion/query/kernel"])
    for a, b in zip(*(all_logits(config, w, samples) for w in (weights, shuffled)), strict=True):
        assert_close(b, a)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("depth", [50, 18])
def test_every_width_of_the_presets_belongs_to_one_group(norm, depth):
    """All groups at half their width: every width of the configuration has halved."""
    config = preset_config("paper", THREE_LABELS, visual_depth=depth, audio_norm=norm)
    half = narrowed(config, {group.name: group.width // 2 for group in channel_groups(config)})
    expected = config.to_dict()
    expected["visual"]["stem"] //= 2
    for stage in expected["visual"]["stages"]:
        stage["residual"] //= 2
        stage["inner"] = [[width // 2 for width in inner] for inner in stage["inner"]]
    for stage in expected["audio"]["stages"]:
        stage["width"] //= 2
        stage["expanded"] = [width // 2 for width in stage["expanded"]]
    expected["fusion"] = {name: width // 2 for name, width in expected["fusion"].items()}
    assert half.to_dict() == expected
    assert model_cost(half).macs < 0.3 * model_cost(config).macs


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_every_weight_knows_its_channels(norm):
    """The axes of a weight are those of its groups: only inputs and classes belong to none."""
    config = tiny_config(norm=norm)
    covered = {(axis.weight, axis.axis) for group in channel_groups(config) for axis in group.axes}
    fixed = {("visual/stem/kernel", 2), ("audio/stem/conv/kernel", 2)}
    fixed |= {(f"{head}/classifier/kernel", 1) for head in ("visual", "audio", "fusion")}
    fixed |= {(f"{head}/classifier/bias", 0) for head in ("visual", "audio", "fusion")}
    axes = {
        (name, axis)
        for name, value in initial_weights(config).items()
        for axis in range(2 if value.ndim == 4 else 0, value.ndim)  # rows and columns of kernels are no channels
        if value.shape[axis] > 1
    }
    assert axes - covered == fixed


def test_a_stem_without_a_shortcut_is_cut_with_the_stream_that_adds_it():
    config = tiny_config(bottleneck=False, norm="batch")
    assert config.visual.stem != config.visual.stages[0].residual
    assert not {"visual/stem", "visual/stage0/residual"} & {group.name for group in channel_groups(config)}
    tied = replace(config, visual=replace(config.visual, stem=config.visual.stages[0].residual))
    narrow = check_cut(tied, {"visual/stage0/residual": np.array([[0, 3, 4]])}, seed=3)
    assert (narrow.visual.stem, narrow.visual.stages[0].residual) == (3, 3)

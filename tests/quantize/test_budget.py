"""Which widths a budget leads to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.tiny import THREE_LABELS

from model.config import preset_config
from model.cost import model_cost
from preprocess.errors import AnswerIsNo
from quantize.prune.budget import WidthRule, damage_at, plan_widths, uniform_widths
from quantize.prune.groups import channel_groups, narrowed

NANO = preset_config("nano", THREE_LABELS, visual_depth=18, audio_norm="batch")
EQUAL = {group.name: {1.0: 0.0, 0.5: 1.0} for group in channel_groups(NANO) if group.width > 1}


def test_damage_is_linear_between_the_shares_measured():
    damage = {1.0: 0.0, 0.75: 1.0, 0.5: 3.0}
    assert [damage_at(damage, share) for share in (1.0, 0.875, 0.75, 0.625, 0.5)] == pytest.approx([0, 0.5, 1, 2, 3])
    assert damage_at(damage, 0.25) == pytest.approx(6)
    assert damage_at(damage, 1e-6) > 1e6


@pytest.mark.parametrize(
    ("budget", "multiple"),
    [
        ({"macs": 0.75, "parameters": 0.75}, 4),
        ({"macs": 0.9, "parameters": 0.7}, 8),
        pytest.param({"macs": 0.5, "parameters": 0.5}, 2, marks=pytest.mark.slow),
    ],
)
def test_a_plan_meets_its_budget_with_allowed_widths(budget, multiple):
    widths = plan_widths(NANO, EQUAL, budget=budget, rule=WidthRule(multiple), originals={})
    before, after = (model_cost(config) for config in (NANO, narrowed(NANO, widths)))
    for measure, share in budget.items():
        left = getattr(after, measure) / getattr(before, measure)
        assert left <= share
        # Of two equal budgets, neither is undershot by as much as when the other alone decides.
        assert left > share - 0.1 or budget["macs"] != budget["parameters"]
    for group in channel_groups(NANO):
        if group.name in widths:
            assert widths[group.name] < group.width
            assert widths[group.name] >= group.width / 8
            assert widths[group.name] % multiple == 0 or group.name == "fusion/heads"


def test_groups_without_damage_are_narrowed_first():
    free = ("visual/stage2/residual", "audio/stage0/block1/expanded")
    damage = EQUAL | {name: {1.0: 0.0, 0.5: 0.0} for name in free}
    target = model_cost(narrowed(NANO, {"visual/stage2/residual": 64, "audio/stage0/block1/expanded": 32})).macs
    share = target / model_cost(NANO).macs
    assert set(plan_widths(NANO, damage, budget={"macs": share}, rule=WidthRule(4), originals={})) <= set(free)


def test_greedy_is_close_to_the_best_of_all_plans():
    """Three groups of the demo's size: every combination of widths tried."""
    rng = np.random.default_rng(1)
    names = ("visual/stage2/residual", "visual/stage3/residual", "audio/stage2/width")
    groups = {group.name: group for group in channel_groups(NANO) if group.name in names}
    damage = {name: {1.0: 0.0, 0.5: float(rng.uniform(0.5, 2))} for name in names}
    rule, target = WidthRule(multiple=16), 0.93 * model_cost(NANO).macs
    options = [range(16, group.width + 1, 16) for group in groups.values()]
    best = min(
        sum(damage_at(damage[name], w / groups[name].width) for name, w in zip(groups, widths, strict=True))
        for widths in itertools.product(*options)
        if model_cost(narrowed(NANO, dict(zip(groups, widths, strict=True)))).macs <= target
    )
    greedy = plan_widths(NANO, damage, budget={"macs": 0.93}, rule=rule, originals={})
    assert sum(damage_at(damage[name], w / groups[name].width) for name, w in greedy.items()) <= 1.2 * best


def test_a_budget_of_everything_narrows_nothing_and_one_out_of_reach_is_refused():
    rule = {"rule": WidthRule(8), "originals": {}}
    one = {"visual/stage3/residual": EQUAL["visual/stage3/residual"]}
    assert plan_widths(NANO, EQUAL, budget={"macs": 1.0}, **rule) == {}
    with pytest.raises(AnswerIsNo, match=r"^20% of the MACs is out of reach: \d\d% of the MACs are left .* than 8"):
        plan_widths(NANO, one, budget={"macs": 0.2}, **rule)
    with pytest.raises(AnswerIsNo, match=r"^20% of the MACs and 99% of the parameters is out of reach: \d\d% "):
        plan_widths(NANO, one, budget={"macs": 0.2, "parameters": 0.99}, **rule)
    with pytest.raises(AnswerIsNo, match=r"^10% of the MACs is out of reach: \d+% of the MACs are left"):
        uniform_widths(NANO, budget={"macs": 0.1}, **rule)


def test_time_makes_the_widths_of_depthwise_convolutions_give():
    """A budget of MACs alone leaves wide streams where the insides of blocks are as cheap to lose."""
    streams = [f"audio/stage{level}/width" for level in range(4)]

    def left(budget):
        widths = plan_widths(NANO, EQUAL, budget=budget, rule=WidthRule(4), originals={})
        groups = {group.name: group.width for group in channel_groups(NANO)}
        return sum(widths.get(name, groups[name]) for name in streams), narrowed(NANO, widths)

    by_macs, by_time = left({"macs": 0.8}), left({"macs": 0.8, "time": 0.7})
    assert by_time[0] < by_macs[0]
    times = []
    for config in (NANO, by_time[1]):
        layers = model_cost(config).layers
        times.append(sum(layer.macs * (12 if "depthwise" in layer.name else 1) for layer in layers))
    assert times[1] <= 0.7 * times[0]


@settings(max_examples=8)
@given(st.dictionaries(st.sampled_from(["macs", "parameters"]), st.floats(0.3, 1), min_size=1))
def test_a_uniform_plan_leaves_the_same_share_everywhere(budget):
    widths = uniform_widths(NANO, budget=budget, rule=WidthRule(1), originals={})
    before, after = (model_cost(config) for config in (NANO, narrowed(NANO, widths)))
    for measure, share in budget.items():
        assert getattr(after, measure) <= share * getattr(before, measure)
    # One of the stem's eight channels is 6 % of the MACs, and all widths take their steps together.
    assert any(getattr(after, name) > (share - 0.1) * getattr(before, name) for name, share in budget.items())
    wide = {group.name: group.width for group in channel_groups(NANO) if group.width >= 32}
    shares = [widths.get(name, width) / width for name, width in wide.items()]
    assert max(shares) - min(shares) <= 1 / 32


def test_a_width_that_is_no_multiple_goes_to_the_next_one():
    groups = {group.name: group for group in channel_groups(NANO)}
    group, rule = replace(groups["visual/stage3/residual"], width=256), WidthRule(8)
    assert rule.below(group, 256, 256) == 240
    assert rule.below(group, 37, 256) == 32
    assert rule.below(group, 32, 256) is None  # an eighth of 256 is the floor
    assert rule.below(group, 64, 512) is None  # and of the width before an earlier pruning
    assert rule.below(groups["fusion/heads"], 4, 4) == 3

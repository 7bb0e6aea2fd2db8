"""How much every group gives: the narrower widths that cost least accuracy for a budget of arithmetic or size."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from model.config import ModelConfig
from model.cost import model_cost
from preprocess.errors import AnswerIsNo

from .groups import Group, channel_groups, narrowed, set_width

Measure = Literal["macs", "parameters", "time"]
Budget: TypeAlias = Mapping[Measure, float]  # the share of each that may stay, in (0, 1]
# Share of a group's width that stays, falling from 1 → change of the logits when the group alone is narrowed, rising.
Damage: TypeAlias = Mapping[float, float]
NAMES: dict[Measure, str] = {"macs": "MACs", "parameters": "parameters", "time": "estimated time"}
# Depthwise convolutions move more than they multiply. In XNNPACK, INT8, on x86 with VNNI, at the paper's size they do
# 17 GMAC/s where other convolutions do 204 (LiteRT's profile, one thread).
DEPTHWISE_WEIGHT = 12
_STEPS = 16  # a group gives a sixteenth of its width at a time, or one multiple


def damage_at(damage: Damage, share: float) -> float:
    """Damage at any share: linear between those measured; below the last, inversely proportional to the share left."""
    shares, values = list(damage), list(damage.values())
    if share <= shares[-1]:
        return values[-1] * shares[-1] / max(share, 1e-9)
    return float(np.interp(-share, [-measured for measured in shares], values))


@dataclass(frozen=True)
class WidthRule:
    """Allowed widths of a group.

    Attributes:
        multiple: every narrowed width is a multiple of it, for which kernels are fast.
        floor: least share that stays of the width before any pruning.
    """

    multiple: int = 8
    floor: float = 0.125

    def below(self, group: Group, width: int, original: int) -> int | None:
        """The next width to try below `width`, or None; `original` is the width before any pruning."""
        multiple = self._multiple(group)
        step = max(multiple, group.width // _STEPS // multiple * multiple)
        target = (width - 1) // multiple * multiple if width % multiple else width - step
        return target if target >= max(1, self.floor * original) else None

    def within(self, group: Group, share: float, original: int) -> int:
        """The largest width of at most `share` of the group's, but never less than the rule allows."""
        multiple = self._multiple(group)
        least = multiple * max(1, math.ceil(self.floor * original / multiple))
        return min(group.width, max(least, int(share * group.width) // multiple * multiple))

    def _multiple(self, group: Group) -> int:
        return 1 if group.name == "fusion/heads" else self.multiple


def cost_of(config: ModelConfig) -> dict[Measure, int]:
    """Multiply-accumulates and parameters of the fused model, and its time in multiply-accumulates of convolutions."""
    total = model_cost(config)
    depthwise = sum(layer.macs for layer in total.layers if layer.name.endswith("/depthwise"))
    time = total.macs + (DEPTHWISE_WEIGHT - 1) * depthwise
    return {"macs": total.macs, "parameters": total.parameters, "time": time}


def describe(budget: Budget) -> str:
    """E.g. `50% of the MACs and 40% of the parameters`."""
    return " and ".join(f"{share:.0%} of the {NAMES[measure]}" for measure, share in budget.items())


def uniform_widths(
    config: ModelConfig, *, budget: Budget, rule: WidthRule, originals: Mapping[str, int]
) -> dict[str, int]:
    """Widths with the same share of every group left, the largest share of 1/256ths that meets the budget.

    Args, Raises: as for `plan_widths`.
    """
    before, groups = cost_of(config), channel_groups(config)

    def widths(step: int) -> dict[str, int]:
        return {g.name: rule.within(g, step / 256, originals.get(g.name, g.width)) for g in groups}

    def exceeds(step: int) -> bool:
        cost = cost_of(narrowed(config, widths(step)))
        return any(cost[measure] > share * before[measure] for measure, share in budget.items())

    within = bisect.bisect_right(range(1, 257), False, key=exceeds)
    if not within:
        raise _out_of_reach(budget, cost_of(narrowed(config, widths(1))), before, rule)
    return {group.name: width for group in groups if (width := widths(within)[group.name]) != group.width}


def _out_of_reach(
    budget: Budget, least: Mapping[Measure, int], before: Mapping[Measure, int], rule: WidthRule
) -> AnswerIsNo:
    left = {measure: least[measure] / before[measure] for measure in budget}
    return AnswerIsNo(
        f"{describe(budget)} is out of reach: {describe(left)} are left when all groups have their "
        f"least width; allow a smaller --multiple than {rule.multiple} or a smaller --floor"
    )


def plan_widths(
    config: ModelConfig, damage: Mapping[str, Damage], *, budget: Budget, rule: WidthRule, originals: Mapping[str, int]
) -> dict[str, int]:
    """Choose widths of the groups that bring every cost in the budget down to its share.

    Greedy: each step narrows the group that loses least per unit of cost saved, at the widths reached so far. Under two
    budgets, a saving counts relative to the excess over each.

    Args:
        damage: of every group that may give channels.
        budget: shares of the present cost.
        originals: widths of the groups before any pruning; for a missing group, its present width.

    Raises:
        AnswerIsNo: all groups at their least width cost more.
    """
    groups = {group.name: group for group in channel_groups(config) if group.name in damage}
    widths = {name: group.width for name, group in groups.items()}
    document, before = config.to_dict(), cost_of(config)
    now = before
    while excess := {
        measure: now[measure] - share * before[measure]
        for measure, share in budget.items()
        if now[measure] > share * before[measure]
    }:
        best: tuple[float, str, int, dict[Measure, int]] | None = None
        for name, group in groups.items():
            width = rule.below(group, widths[name], originals.get(name, group.width))
            if width is None:
                continue
            set_width(document, group, width)
            cost = cost_of(ModelConfig.from_dict(document))
            set_width(document, group, widths[name])
            lost = damage_at(damage[name], width / group.width) - damage_at(damage[name], widths[name] / group.width)
            price = lost / max(sum((now[measure] - cost[measure]) / over for measure, over in excess.items()), 1e-12)
            if best is None or price < best[0]:
                best = (price, name, width, cost)
        if best is None:
            raise _out_of_reach(budget, now, before, rule)
        _, name, width, now = best
        widths[name] = width
        set_width(document, groups[name], width)
    return {name: width for name, width in widths.items() if width != groups[name].width}

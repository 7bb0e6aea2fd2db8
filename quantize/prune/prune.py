"""Pruning a checkpoint: score the channels, scan the groups, plan the widths, cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from console.program import log
from model.checkpoint import Checkpoint
from model.cost import model_cost
from model.recogniser import build_recogniser
from preprocess.errors import AnswerIsNo
from recordings.calibration import CalibrationSet

from ..recover.distillation import FEATURES
from .budget import Budget, Damage, WidthRule, plan_widths, uniform_widths
from .groups import Indices, channel_groups, cut_channels
from .importance import Criterion, Scores, strongest
from .sensitivity import importance, scan

_BISECTIONS = 5


@dataclass(frozen=True)
class Ranking:
    """What pruning knows of a checkpoint before it decides how much goes: scores and damage of every group.

    Without damage all groups are alike.
    """

    checkpoint: Checkpoint
    scores: dict[str, Scores]
    damage: dict[str, Damage] | None


def rank(checkpoint: Checkpoint, criterion: Criterion, samples: CalibrationSet | None, *, uniform: bool) -> Ranking:
    """Scores every channel and scans every group on `samples`, which `taylor` and the scan need.

    `uniform`: no scan; every group is to give the same share of its width.
    """
    recogniser = build_recogniser(checkpoint.config)
    recogniser.set_weights(checkpoint.weights)
    groups = channel_groups(checkpoint.config)
    scores = importance(recogniser, groups, criterion, samples)
    if uniform:
        return Ranking(checkpoint, scores, None)
    assert samples is not None
    return Ranking(checkpoint, scores, scan(recogniser, groups, scores, samples))


def prune(ranking: Ranking, *, budget: Budget, rule: WidthRule, command: str) -> Checkpoint:
    """The checkpoint narrowed to the budget's shares of its MACs or parameters; not trained further.

    Its history says which channels of the original network it has, also when that was pruned before.

    Raises:
        AnswerIsNo: the budget is out of reach.
    """
    original = ranking.checkpoint
    before = {group.name: group.width for group in channel_groups(original.config)}
    originals: dict[str, int] = original.history.get("pruning", {}).get("original_widths", before)
    if ranking.damage is None:
        widths = uniform_widths(original.config, budget=budget, rule=rule, originals=originals)
    else:
        widths = plan_widths(original.config, ranking.damage, budget=budget, rule=rule, originals=originals)
    kept = {name: strongest(ranking.scores[name], width) for name, width in widths.items()}
    config, weights = cut_channels(original.config, original.weights, kept)
    pruning = {
        "command": command,
        "kept": _kept_features(original, kept),
        "original_widths": originals,
        "widths": {group.name: group.width for group in channel_groups(config)},
        "macs": model_cost(config).total.macs,
        "parameters": model_cost(config).total.parameters,
    }
    return Checkpoint(config, weights, {**original.history, "pruning": pruning})


def _kept_features(original: Checkpoint, kept: Mapping[str, Indices]) -> dict[str, list[int]]:
    """The channels of both streams' last features that stay, as numbered before any pruning."""
    found = dict(original.history.get("pruning", {}).get("kept", {}))
    for name in FEATURES.values():
        if name in kept:
            channels = kept[name][0].tolist()
            found[name] = [found[name][i] for i in channels] if name in found else channels
    return found


def prune_to(
    ranking: Ranking, within: Callable[[Checkpoint], float], limit: float, unit: str, *, rule: WidthRule, command: str
) -> Checkpoint:
    """A pruned checkpoint whose `within` is at most `limit`: that of most MACs among 31 shares, found by halving.

    Nothing is pruned where the checkpoint is within the limit as it is.

    Args:
        ranking: of the checkpoint to prune.
        within: what the limit is on: size or latency of the file that is exported from a checkpoint.
        limit: its largest value.
        unit: of both, for messages.
        rule: allowed widths.
        command: for the history.

    Raises:
        AnswerIsNo: even the smallest share tried is beyond the limit.
    """
    whole = prune(ranking, budget={"macs": 1.0}, rule=rule, command=command)
    value = within(whole)
    if value <= limit:
        log(f"unpruned: {value:.2f} {unit}, within the limit of {limit:g} {unit}: nothing is pruned")
        return whole
    log(f"unpruned: {value:.2f} {unit}, limit {limit:g} {unit}")
    low, high, best = 0.0, 1.0, None
    for _ in range(_BISECTIONS):
        share = (low + high) / 2
        try:
            candidate = prune(ranking, budget={"macs": share}, rule=rule, command=command)
        except AnswerIsNo:
            low = share
            continue
        value = within(candidate)
        log(f"{share:.0%} of the MACs: {value:.2f} {unit}, limit {limit:g} {unit}")
        if value <= limit:
            best, low = candidate, share
        else:
            high = share
    if best is None:
        raise AnswerIsNo(f"no pruning within {limit:g} {unit} was found; allow more, or a smaller --multiple")
    return best


def widths_table_rows(before: dict[str, int], after: dict[str, int]) -> list[list[str]]:
    """A row for every stage or part: widths before and after, summed over its groups."""
    parts: dict[str, list[Any]] = {}
    for name, width in before.items():
        part = "/".join(name.split("/")[:2]) if "stage" in name else name
        own = parts.setdefault(part, [0, 0])
        own[0] += width
        own[1] += after[name]
    return [[part, str(a), str(b), f"{b / a:.0%}"] for part, (a, b) in parts.items()]

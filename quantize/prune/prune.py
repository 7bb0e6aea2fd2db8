"""`python -m quantize prune`: score the channels, scan the groups, plan the widths, cut."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from console.child import run_command
from console.options import command_line, forward
from console.program import log, show, show_json
from console.table import format_table
from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint, save_checkpoint
from model.cost import model_cost
from model.settings import choose_settings
from model.train import open_run
from preprocess.errors import AnswerIsNo, UsageError
from recordings.sources import DataSource

from ..recover.distillation import FEATURES, Recovery, RecoverySettings, numbered_features
from ..recover.recovery import fine_tune
from .budget import NAMES, Budget, Damage, Measure, WidthRule, cost_of, describe, plan_widths, uniform_widths
from .groups import Indices, channel_groups, cut_channels
from .importance import Scores, measure_damage, score_channels, strongest

_BISECTIONS = 5
_EXPORT_RECORDINGS = "16"  # a size and a latency do not depend on the values of weights and ranges


def prune_command(options: argparse.Namespace) -> None:
    """Prune, in one step or with training in between, and show the remaining widths."""
    _check(options)
    original = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    pruned = _in_one_step(options, original) if options.steps == 1 else _in_steps(options, original)
    save_checkpoint(options.out, pruned)
    before, after = model_cost(original.config), model_cost(pruned.config)
    pruning = pruned.history["pruning"]
    if options.json:
        cost = {"macs": before.macs, "parameters": before.parameters}
        show_json({"checkpoint": str(options.out), "original": cost, **pruning})
        return
    show(format_table(["channels", "before", "after", "left"], _width_rows(original, pruning["widths"])))
    show(
        f"\nMACs {before.macs / 1e9:.3f} G → {after.macs / 1e9:.3f} G ({after.macs / before.macs:.1%}), parameters "
        f"{before.parameters / 1e6:.2f} M → {after.parameters / 1e6:.2f} M ({after.parameters / before.parameters:.1%})"
    )
    show(f"checkpoint: {options.out}")


def _check(options: argparse.Namespace) -> None:
    budgets = [name for name in (*NAMES, "size_mb", "latency_ms") if getattr(options, name) is not None]
    of_file = not set(budgets) <= set(NAMES)
    if not budgets or (len(budgets) > 1 and of_file):
        words = " with ".join(f"--{name.replace('_', '-')}" for name in budgets) or "no budget"
        raise UsageError(f"{words}: give any of --macs, --parameters and --time, or --size-mb, or --latency-ms")
    if not 0 <= options.floor < 1:
        raise UsageError(f"--floor is {options.floor:g}; use a share from 0 to below 1")
    if options.out.suffix != ".npz":
        raise UsageError(f"--out is {options.out}; a checkpoint ends in .npz")
    if options.steps == 1 and (options.settings or options.set or options.resume):
        raise UsageError("--settings, --set and --resume concern the training between --steps; give --steps")
    if options.steps > 1 and not options.data:
        raise UsageError(f"--steps {options.steps} trains in between and needs --data DIR")
    if options.steps > 1 and of_file:
        raise UsageError("--steps needs --macs, --parameters or --time; a file's size or latency is met in one step")


def _width_rows(original: Checkpoint, widths: Mapping[str, int]) -> list[list[str]]:
    """A row for every stage or part: widths before and after, summed over its groups."""
    sums: dict[str, list[int]] = {}
    for group in channel_groups(original.config):
        part = "/".join(group.name.split("/")[:2]) if "stage" in group.name else group.name
        before, after = sums.get(part, (0, 0))
        sums[part] = [before + group.width, after + widths[group.name]]
    return [[part, str(before), str(after), f"{after / before:.0%}"] for part, (before, after) in sums.items()]


def _budget(options: argparse.Namespace) -> Budget:
    shares: dict[Measure, float | None] = {measure: getattr(options, measure) for measure in NAMES}
    return {measure: share for measure, share in shares.items() if share is not None}


def _pruner(options: argparse.Namespace, checkpoint: Checkpoint) -> Callable[[Budget], Checkpoint]:
    """Score every channel and scan every group, once: the function that returned prunes to any budget."""
    recogniser, groups, samples = checkpoint.recogniser(), channel_groups(checkpoint.config), None
    if options.criterion == "taylor" or not options.uniform:
        # A model of full size takes a fifth of a second for one recording, and each group is tried on all of them.
        count = options.samples or (32 if checkpoint.config.preset == "paper" else 256)
        samples = DataSource.of(options).training_samples(checkpoint.config, count)
    scores = score_channels(recogniser, groups, options.criterion, samples)
    damage = measure_damage(recogniser, groups, scores, samples) if samples and not options.uniform else None
    rule = WidthRule(options.multiple, options.floor)
    return lambda budget: prune(checkpoint, scores, damage, budget, rule, command=command_line(options))


def _in_one_step(options: argparse.Namespace, original: Checkpoint) -> Checkpoint:
    pruner = _pruner(options, original)
    if not (options.size_mb or options.latency_ms):
        return pruner(_budget(options))
    limit, unit = (options.size_mb, "MB") if options.size_mb else (options.latency_ms, "ms")

    def measure(checkpoint: Checkpoint) -> float:
        manifest = _exported(checkpoint, options)
        return float(manifest["size_bytes"] / 1e6 if options.size_mb else manifest["measurement"]["latency_ms_median"])

    return prune_to(lambda share: pruner({"macs": share}), measure, limit, unit)


def _exported(checkpoint: Checkpoint, options: argparse.Namespace) -> Any:
    """The manifest that `python -m export tflite --int8` prints; a lost accuracy does not matter here.

    Raises:
        DataError: the export failed.
    """
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        path = Path(folder) / "checkpoint.npz"
        save_checkpoint(path, checkpoint)
        return run_command(
            "export",
            *("tflite", "--int8", "--checkpoint", str(path), "--out", f"{folder}/artifact"),
            *("--calibration", _EXPORT_RECORDINGS, "--recordings", _EXPORT_RECORDINGS),
            # Without the protocol, whose test part may be empty: accuracy does not matter.
            *forward(options, "data", "audio", "missing_list", "on_error", "workers", "seed"),
            may_answer_no=True,
        )


def _in_steps(options: argparse.Namespace, original: Checkpoint) -> Checkpoint:
    """Prune by a cubic schedule (Zhu & Gupta 2017): much at first, little at the end, training after each step."""
    from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

    recovery = Recovery.of(options, original, original, choose_settings(RecoverySettings(), options))
    removed = {
        measure: PolynomialDecay(0.0, 1 - share, begin_step=0, end_step=options.steps)
        for measure, share in _budget(options).items()
    }
    cost_before = cost_of(original.config)
    folder = options.out.with_suffix("")
    open_run(folder, {**recovery.fingerprint(), "command": recovery.command}, resume=options.resume)
    current = original
    for step in range(1, options.steps + 1):
        left: Budget = {measure: 1 - float(schedule(step)[1]) for measure, schedule in removed.items()}
        log(f"step {step} of {options.steps}: {describe(left)}")
        out = folder / f"step{step}"
        pruned_path = out / "pruned.npz"
        if pruned_path.exists():
            pruned = load_checkpoint(pruned_path)
        else:
            cost = cost_of(current.config)
            budget: Budget = {m: min(1.0, share * cost_before[m] / cost[m]) for m, share in left.items()}
            pruned = _pruner(options, current)(budget)
            save_checkpoint(pruned_path, pruned)
        # The folder of all steps has been checked: a step's run exists only if this run began it.
        current = load_checkpoint(fine_tune(replace(recovery, student=pruned), out, resume=True))
    return current


def prune(
    original: Checkpoint,
    scores: Mapping[str, Scores],
    damage: Mapping[str, Damage] | None,
    budget: Budget,
    rule: WidthRule,
    *,
    command: str,
) -> Checkpoint:
    """Narrow the checkpoint to the budget's shares of its MACs, parameters or time; no training.

    Without damage, all groups give the same share. The checkpoint's history lists its channels as numbered in the
    original network, also when that was pruned before.

    Raises:
        AnswerIsNo: the budget is out of reach.
    """
    before = {group.name: group.width for group in channel_groups(original.config)}
    originals: dict[str, int] = original.history.get("pruning", {}).get("original_widths", before)
    if damage is None:
        widths = uniform_widths(original.config, budget=budget, rule=rule, originals=originals)
    else:
        widths = plan_widths(original.config, damage, budget=budget, rule=rule, originals=originals)
    kept = {name: strongest(scores[name], width) for name, width in widths.items()}
    config, weights = cut_channels(original.config, original.weights, kept)
    pruning = {
        "command": command,
        "kept": _kept_features(original, kept),
        "original_widths": originals,
        "widths": {group.name: group.width for group in channel_groups(config)},
        "macs": model_cost(config).macs,
        "parameters": model_cost(config).parameters,
    }
    return Checkpoint(config, weights, {**original.history, "pruning": pruning})


def _kept_features(original: Checkpoint, kept: Mapping[str, Indices]) -> dict[str, list[int]]:
    """The channels of both streams' last features that stay, as numbered before any pruning."""
    numbers = numbered_features(original)
    narrowed = {name: [numbers[name][i] for i in kept[name][0]] for name in FEATURES if name in kept}
    return {**original.history.get("pruning", {}).get("kept", {}), **narrowed}


def prune_to(
    prune_macs: Callable[[float], Checkpoint], measure: Callable[[Checkpoint], float], limit: float, unit: str
) -> Checkpoint:
    """Prune until `measure` is at most `limit`, with the most MACs among 31 shares, by bisection.

    A checkpoint that is within the limit is not pruned. `prune_macs`: share of the MACs that stays → pruned checkpoint;
    `measure`: checkpoint → size or latency of its exported file, in `unit`.

    Raises:
        AnswerIsNo: even the smallest share tried is beyond the limit.
    """
    unpruned = prune_macs(1.0)
    value = measure(unpruned)
    if value <= limit:
        log(f"unpruned: {value:.2f} {unit}, within the limit of {limit:g} {unit}: nothing is pruned")
        return unpruned
    log(f"unpruned: {value:.2f} {unit}, limit {limit:g} {unit}")
    low, high, best = 0.0, 1.0, None
    for _ in range(_BISECTIONS):
        share = (low + high) / 2
        try:
            candidate = prune_macs(share)
        except AnswerIsNo:
            low = share
            continue
        value = measure(candidate)
        log(f"{share:.0%} of the MACs: {value:.2f} {unit}, limit {limit:g} {unit}")
        if value <= limit:
            best, low = candidate, share
        else:
            high = share
    if best is None:
        raise AnswerIsNo(f"no share of the MACs tried is within {limit:g} {unit}; allow more, or a smaller --multiple")
    return best

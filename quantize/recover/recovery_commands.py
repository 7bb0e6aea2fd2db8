"""Handlers of `python -m quantize prune`, `finetune` and `qat`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from console.program import log, show, show_json
from console.table import format_table
from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint, save_checkpoint
from model.cost import model_cost
from model.folding import UNFOLDED_FORM
from model.settings import override
from model.train import open_run
from preprocess.errors import DataError, UsageError
from recordings.protocols import Split
from recordings.sources import DataSource

from ..prepare import CalibrationOptions, prepare
from ..prune.budget import NAMES, Budget, Measure, WidthRule, cost_of, describe
from ..prune.groups import channel_groups
from ..prune.prune import Ranking, prune, prune_to, rank, widths_table_rows
from .distillation import QatSettings, RecoverySettings
from .recovery import Recovery, fine_tune, train_quantized

_EXPORT_RECORDINGS = "16"  # a size and a latency do not depend on the values of weights and ranges


def prune_command(options: argparse.Namespace) -> None:
    """Prunes, in one step or with training in between, and shows what is left."""
    _check(options)
    original = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    pruned = _one_step(options, original) if options.steps == 1 else _in_steps(options, original)
    save_checkpoint(options.out, pruned)
    before, after = model_cost(original.config).total, model_cost(pruned.config).total
    widths = {group.name: group.width for group in channel_groups(original.config)}
    if options.json:
        show_json(
            {
                "checkpoint": str(options.out),
                "original": {"macs": before.macs, "parameters": before.parameters},
                **pruned.history["pruning"],
            }
        )
        return
    rows = widths_table_rows(widths, pruned.history["pruning"]["widths"])
    show(format_table(["channels", "before", "after", "left"], rows))
    show(
        f"\nMACs {before.macs / 1e9:.3f} G → {after.macs / 1e9:.3f} G ({after.macs / before.macs:.1%}), parameters "
        f"{before.parameters / 1e6:.2f} M → {after.parameters / 1e6:.2f} M ({after.parameters / before.parameters:.1%})"
    )
    show(f"checkpoint: {options.out}")


def finetune_command(options: argparse.Namespace) -> None:
    """Trains a checkpoint by distillation."""
    student = load_checkpoint(options.checkpoint)
    teacher = load_checkpoint(options.teacher or DEMO_CHECKPOINT)
    settings = override(RecoverySettings(), options.set)
    recovery = Recovery(student, teacher, settings, _split(options), options.seed)
    _show_training(_fine_tune(recovery, options.out, options), "recovery", options)


def qat_command(options: argparse.Namespace) -> None:
    """Trains a checkpoint with the rounding of INT8."""
    if options.calibration < 1:
        raise UsageError(f"--calibration is {options.calibration}; use a positive number")
    student = load_checkpoint(options.checkpoint)
    teacher = load_checkpoint(options.teacher) if options.teacher else student
    settings = override(QatSettings(), options.set)
    recovery = Recovery(student, teacher, settings, _split(options), options.seed)
    calibration = DataSource.of(options).training_samples(student.config, options.calibration)
    prepared = prepare(student.config, student.weights, UNFOLDED_FORM, calibration, CalibrationOptions())
    path = train_quantized(
        recovery,
        prepared,
        options.out,
        calibration_count=options.calibration,
        command=recovery_words(options),
        workers=options.workers,
        resume=options.resume,
        on_error=options.on_error,
    )
    _show_training(path, "qat", options)


def _show_training(path: Path, kind: str, options: argparse.Namespace) -> None:
    epochs = load_checkpoint(path).history[kind]["epochs"]
    if options.json:
        show_json({"checkpoint": str(path), "epochs": epochs})
        return
    best = min(epochs, key=lambda own: own["validation_loss"])
    show(f"best epoch {best['epoch']} of {len(epochs)}, validation accuracy {100 * best['validation_accuracy']:.1f} %")
    show(f"checkpoint: {path}")


def _check(options: argparse.Namespace) -> None:
    budgets = [name for name in (*NAMES, "size_mb", "latency_ms") if getattr(options, name) is not None]
    if not budgets or (len(budgets) > 1 and not set(budgets) <= set(NAMES)):
        given = " with ".join(f"--{name.replace('_', '-')}" for name in budgets) or "no budget"
        raise UsageError(f"{given}: give any of --macs, --parameters and --time, or --size-mb, or --latency-ms")
    for measure in NAMES:
        value = getattr(options, measure)
        if value is not None and not 0 < value <= 1:
            raise UsageError(f"--{measure} is {value:g}; use a share of what there is, above 0 and at most 1")
    for name in ("size_mb", "latency_ms"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UsageError(f"--{name.replace('_', '-')} is {value:g}; use a positive number")
    for name in ("multiple", "samples", "steps"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UsageError(f"--{name} is {getattr(options, name)}; use a positive number")
    if not 0 <= options.floor < 1:
        raise UsageError(f"--floor is {options.floor:g}; use a share from 0 to below 1")
    if options.out.suffix != ".npz":
        raise UsageError(f"--out is {options.out}; a checkpoint ends in .npz")
    if options.steps > 1 and not options.data:
        raise UsageError(f"--steps {options.steps} trains in between and needs --data DIR")
    if options.steps == 1 and (options.set or options.resume):
        raise UsageError("--set and --resume concern the training between --steps; give --steps, or leave them out")
    if options.steps > 1 and not set(budgets) <= set(NAMES):
        raise UsageError("--steps needs --macs, --parameters or --time; a file's size or latency is met in one step")


def _rule(options: argparse.Namespace) -> WidthRule:
    return WidthRule(options.multiple, options.floor)


def _one_step(options: argparse.Namespace, original: Checkpoint) -> Checkpoint:
    ranking = _rank(options, original)
    command = prune_words(options)
    if options.size_mb is not None:
        return prune_to(
            ranking,
            lambda own: float(_exported(own, options)["size_bytes"]) / 1e6,
            options.size_mb,
            "MB",
            rule=_rule(options),
            command=command,
        )
    if options.latency_ms is not None:
        return prune_to(
            ranking,
            lambda own: float(_exported(own, options)["measurement"]["latency_ms_median"]),
            options.latency_ms,
            "ms",
            rule=_rule(options),
            command=command,
        )
    return prune(ranking, budget=_budget(options), rule=_rule(options), command=command)


def _in_steps(options: argparse.Namespace, original: Checkpoint) -> Checkpoint:
    """Prunes by a cubic schedule (Zhu & Gupta 2017): much at first, little at the end, training after each step."""
    from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

    settings, parts = override(RecoverySettings(), options.set), _split(options)
    gone = {
        measure: PolynomialDecay(0.0, 1 - share, begin_step=0, end_step=options.steps)
        for measure, share in _budget(options).items()
    }
    whole = cost_of(original.config)
    folder = options.out.with_suffix("")
    plan = {
        **Recovery(original, original, settings, parts, options.seed).fingerprint(),
        "command": prune_words(options),
    }
    open_run(folder, plan, resume=options.resume)
    current = original
    for step in range(1, options.steps + 1):
        left: Budget = {measure: 1 - float(schedule(step)[1]) for measure, schedule in gone.items()}
        log(f"step {step} of {options.steps}: {describe(left)}")
        out = folder / f"step{step}"
        pruned_path = out / "pruned.npz"
        if pruned_path.exists():
            pruned = load_checkpoint(pruned_path)
        else:
            now = cost_of(current.config)
            pruned = prune(
                _rank(options, current),
                budget={measure: min(1.0, share * whole[measure] / now[measure]) for measure, share in left.items()},
                rule=_rule(options),
                command=prune_words(options),
            )
            save_checkpoint(pruned_path, pruned)
        current = load_checkpoint(_fine_tune(Recovery(pruned, original, settings, parts, options.seed), out, options))
    return current


def _budget(options: argparse.Namespace) -> Budget:
    shares: dict[Measure, float | None] = {measure: getattr(options, measure) for measure in NAMES}
    return {measure: share for measure, share in shares.items() if share is not None}


def _rank(options: argparse.Namespace, checkpoint: Checkpoint) -> Ranking:
    samples = None
    if options.criterion == "taylor" or not options.uniform:
        samples = DataSource.of(options).training_samples(checkpoint.config, _samples(options, checkpoint))
    return rank(checkpoint, options.criterion, samples, uniform=options.uniform)


def _samples(options: argparse.Namespace, checkpoint: Checkpoint) -> int:
    """A model of full size takes a fifth of a second for one recording, and each group is tried on all of them."""
    return int(options.samples or (32 if checkpoint.config.preset == "paper" else 256))


def _split(options: argparse.Namespace) -> Split:
    parts = DataSource.of(options).split()
    log(f"{len(parts.train)} recordings to train on, {len(parts.validation)} to validate ({options.protocol})")
    return parts


def _fine_tune(recovery: Recovery[RecoverySettings], out: Path, options: argparse.Namespace) -> Path:
    return fine_tune(
        recovery,
        out,
        command=recovery_words(options),
        workers=options.workers,
        resume=options.resume or options.command == "prune",  # whose own folder has been checked
        on_error=options.on_error,
    )


def _exported(checkpoint: Checkpoint, options: argparse.Namespace) -> Any:
    """What `python -m export tflite --int8` says of the checkpoint; that accuracy was lost is no matter here.

    Raises:
        DataError: it could not be exported.
    """
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        path = Path(folder) / "checkpoint.npz"
        save_checkpoint(path, checkpoint)
        words = ["tflite", "--int8", "--checkpoint", str(path), "--out", f"{folder}/artifact", "--json"]
        words += ["--calibration", _EXPORT_RECORDINGS, "--recordings", _EXPORT_RECORDINGS]
        words += ["--workers", str(options.workers), "--seed", str(options.seed), "--on-error", options.on_error]
        # Without the protocol, whose test part may be empty: accuracy is not asked for.
        words += ["--data", str(options.data)] if options.data else []
        words += ["--audio", str(options.audio)] if options.audio else []
        result = subprocess.run([sys.executable, "-m", "export", *words], capture_output=True, text=True, check=False)
    if result.returncode not in (0, 1):
        last = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise DataError(f"the pruned checkpoint cannot be exported: {last[0]}")
    return json.loads(result.stdout)


def prune_words(options: argparse.Namespace) -> str:
    """The command of a pruning, without the folders of this machine."""
    budgets = {name: getattr(options, name) for name in (*NAMES, "size_mb", "latency_ms")}
    words = ["python -m quantize prune --out FILE"]
    words += [f"--checkpoint {options.checkpoint.name}"] if options.checkpoint else []
    words += [f"--{name.replace('_', '-')} {value:g}" for name, value in budgets.items() if value is not None]
    words += ["--uniform"] if options.uniform else []
    words += [f"--criterion {options.criterion} --multiple {options.multiple}"]
    words += [f"--samples {options.samples}"] if options.samples else []
    words += [f"--floor {options.floor:g}"] if options.floor != 0.125 else []
    words += [f"--steps {options.steps}"] if options.steps > 1 else []
    return " ".join([*words, *_shared_words(options)])


def recovery_words(options: argparse.Namespace) -> str:
    """The command of a fine-tuning, without the folders of this machine."""
    if options.command == "prune":
        return prune_words(options)
    words = [f"python -m quantize {options.command} --out DIR --checkpoint {options.checkpoint.name}"]
    words += [f"--teacher {options.teacher.name}"] if options.teacher else []
    words += [f"--calibration {options.calibration}"] if options.command == "qat" else []
    return " ".join([*words, *_shared_words(options)])


def _shared_words(options: argparse.Namespace) -> list[str]:
    words = [f"--data DIR --protocol {options.protocol}"] if options.data else []
    words += [f"--missing-list {options.missing_list.name}"] if options.missing_list else []
    words += [f"--on-error {options.on_error}"] if options.on_error != "raise" else []
    words += [f"--seed {options.seed}"] if options.seed else []
    return [*words, *(f"--set {assignment}" for assignment in options.set)]

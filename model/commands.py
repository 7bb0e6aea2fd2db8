"""Handlers of `python -m model`."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

from console.files import atomic_file
from console.program import log, show, show_json
from console.table import format_table
from preprocess.errors import UsageError
from preprocess.spec import PreprocessSpec
from recordings.actions import class_indices
from recordings.batches import FeatureLoader
from recordings.recording import INPUTS, Input
from recordings.sources import DataSource

from .checkpoint import DEMO_CHECKPOINT, load_checkpoint, random_checkpoint, save_checkpoint
from .config import labels_of, preset_config
from .cost import model_cost
from .evaluation import Evaluation, draw_confusion, evaluate, keras_model
from .recogniser import build_recogniser
from .settings import TrainingSettings


def train_command(options: argparse.Namespace) -> None:
    from .imagenet import imagenet_start
    from .train import TrainingPlan, train

    settings = TrainingSettings().with_overrides(options.set)
    parts = DataSource.of(options).split()
    config = preset_config(
        options.preset,
        labels_of([*parts.train, *parts.validation, *parts.test]),
        visual_depth=options.visual_depth,
        audio_norm=options.audio_norm,
    )
    if options.inputs:
        config = config.with_spec(PreprocessSpec.preset(options.inputs))
    if options.layer_scale is not None:
        config = replace(config, audio=replace(config.audio, layer_scale_init=options.layer_scale))
    initial = None
    if options.init == "imagenet":
        config, weights = imagenet_start(config)
        initial = ("imagenet", weights)
    elif options.init != "random":
        initial = (options.init, load_checkpoint(Path(options.init)).weights)
    log(
        f"{len(config.labels)} classes; {len(parts.train)} recordings to train on, {len(parts.validation)} to "
        f"validate, {len(parts.test)} left for the test ({options.protocol})"
    )
    path = train(
        TrainingPlan(config, settings, parts, options.seed, initial),
        options.out,
        command=training_command(options),
        workers=options.workers,
        resume=options.resume,
        on_error=options.on_error,
    )
    history = load_checkpoint(path).history
    if options.json:
        show_json({"checkpoint": os.fspath(path), **history})
        return
    rows = [
        [name, str(len(stage["epochs"])), str(best["epoch"]), f"{100 * best['validation_accuracy']:.1f} %"]
        for name, stage in history["stages"].items()
        for best in [stage["epochs"][stage["best_epoch"] - 1]]
    ]
    show(format_table(["stage", "epochs", "best", "validation accuracy"], rows))
    show(f"\ncheckpoint: {path}")


def training_command(options: argparse.Namespace) -> str:
    """The command that gives the same checkpoint again, without the folders of this machine."""
    words = ["python -m model train --data DIR --out DIR", f"--preset {options.preset}"]
    words += [f"--visual-depth {options.visual_depth}"] if options.visual_depth != 50 else []
    words += [f"--audio-norm {options.audio_norm}"] if options.audio_norm != "layer" else []
    words += [f"--inputs {options.inputs}"] if options.inputs else []
    words += [f"--layer-scale {options.layer_scale:g}"] if options.layer_scale is not None else []
    words += [f"--protocol {options.protocol} --seed {options.seed}"]
    words += [f"--init {Path(options.init).name}"] if options.init != "random" else []
    return " ".join([*words, *(f"--set {assignment}" for assignment in options.set)])


def evaluate_command(options: argparse.Namespace) -> None:
    if options.drop and options.stream != "fused":
        raise UsageError(f"--drop {options.drop} needs --stream fused; the {options.stream} stream has one input")
    checkpoint = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    config = checkpoint.config
    refs = DataSource.of(options).to_test()
    recogniser = build_recogniser(config)
    recogniser.set_weights(checkpoint.weights)
    inputs: dict[str, tuple[Input, ...]] = {"fused": INPUTS, "visual": ("skeleton",), "audio": ("audio",)}
    model = keras_model(recogniser, options.stream, drop=options.drop)
    with FeatureLoader(
        refs,
        class_indices(refs, config.codes),
        config.spec,
        batch_size=options.batch_size,
        workers=options.workers,
        inputs=inputs[options.stream],
        on_error=options.on_error,
    ) as loader:
        evaluation = evaluate(model, loader.epoch(0), config.labels, recordings=len(refs), title="evaluating")
        problems = loader.problems
    title = options.stream if not options.drop else f"fused without {options.drop}"
    document = {
        "checkpoint": os.fspath(options.checkpoint) if options.checkpoint else "demo",
        "stream": options.stream,
        "drop": options.drop,
        "protocol": options.protocol,
        "skipped": {problem.name: problem.reason for problem in problems},
        **evaluation.to_dict(),
    }
    if options.out:
        with atomic_file(options.out / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(document, indent=2, allow_nan=False), encoding="utf-8")
        draw_confusion(evaluation, options.out / "confusion.png", title=title)
    if options.json:
        show_json(document)
    else:
        show(evaluation_table(evaluation, title))


def evaluation_table(evaluation: Evaluation, title: str) -> str:
    """Per-class accuracy with the class that each is most often taken for."""
    confusion = evaluation.confusion
    rows = []
    for index, label in enumerate(evaluation.labels):
        total = int(confusion[index].sum())
        if not total:
            continue
        wrong = confusion[index].copy()
        wrong[index] = 0
        other = int(wrong.argmax())
        taken = f"{evaluation.labels[other].name} ({int(wrong[other])})" if wrong[other] else ""
        rows.append([f"{label.code} {label.name}", str(total), f"{100 * confusion[index, index] / total:.1f} %", taken])
    table = format_table(["class", "recordings", "accuracy", "most often taken for"], rows)
    return f"{table}\n\n{title}: {evaluation.score} over {evaluation.score.count} recordings"


def init_command(options: argparse.Namespace) -> None:
    if options.out.suffix != ".npz":
        raise UsageError(f"--out is {options.out}; a checkpoint ends in .npz")
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}; use 0 or more")
    checkpoint = random_checkpoint(
        options.preset, visual_depth=options.visual_depth, audio_norm=options.audio_norm, seed=options.seed
    )
    save_checkpoint(options.out, checkpoint)
    total = model_cost(checkpoint.config).total
    if options.json:
        show_json({"checkpoint": str(options.out), "parameters": total.parameters, "macs": total.macs})
        return
    show(f"checkpoint: {options.out} ({total.parameters / 1e6:.2f} M parameters, {total.macs / 1e9:.3f} G MACs)")

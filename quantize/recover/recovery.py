"""`python -m quantize finetune` and `qat`: a run in a folder, started, killed, resumed, and its final checkpoint."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from console.program import log, show, show_json
from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint, save_checkpoint
from model.folding import UNFOLDED_FORM
from model.settings import choose_settings
from model.train import CHECKPOINT_NAME, feature_loader, open_run
from preprocess.errors import UsageError
from recordings.recording import INPUTS

from ..prepare import CalibrationOptions, prepare
from .distillation import Distillation, FineTuning, Recovery, RecoverySettings

# The deploy form has neither the streams' classifiers nor their features.
QAT_SETTINGS = RecoverySettings(distillation=Distillation(streams=0.0, features=0.0))


def finetune_command(options: argparse.Namespace) -> None:
    """Train a checkpoint by distillation."""
    student, teacher = load_checkpoint(options.checkpoint), load_checkpoint(options.teacher or DEMO_CHECKPOINT)
    recovery = Recovery.of(options, student, teacher, choose_settings(RecoverySettings(), options))
    _show(fine_tune(recovery, options.out, resume=options.resume), "recovery", options)


def qat_command(options: argparse.Namespace) -> None:
    """Train a checkpoint with the rounding of INT8."""
    student = load_checkpoint(options.checkpoint)
    teacher = load_checkpoint(options.teacher) if options.teacher else student
    settings = choose_settings(QAT_SETTINGS, options)
    for name in ("streams", "features"):
        if getattr(settings.distillation, name):
            raise UsageError(f"distillation.{name}: qat trains the deploy form, which has no {name}; leave it out")
    recovery = Recovery.of(options, student, teacher, settings)
    _show(train_quantized(recovery, options.calibration, options.out, resume=options.resume), "qat", options)


def _show(path: Path, kind: str, options: argparse.Namespace) -> None:
    epochs = load_checkpoint(path).history[kind]["epochs"]
    if options.json:
        show_json({"checkpoint": str(path), "epochs": epochs})
        return
    best = min(epochs, key=lambda epoch: epoch["validation_loss"])
    show(f"best epoch {best['epoch']} of {len(epochs)}, validation accuracy {100 * best['validation_accuracy']:.1f} %")
    show(f"checkpoint: {path}")


def fine_tune(recovery: Recovery, out: Path, *, resume: bool) -> Path:
    """Run or resume the fine-tuning in folder `out` and return the path of the checkpoint.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds another run.
        DataError: the student was not made from the teacher.
        AnswerIsNo: the loss became non-finite.
    """
    open_run(out, recovery.fingerprint(), resume=resume)
    return _train(FineTuning(recovery, out), "recovery", recovery, out)


def train_quantized(recovery: Recovery, calibration_count: int, out: Path, *, resume: bool) -> Path:
    """Run or resume quantization-aware training in folder `out` and return the path of the checkpoint.

    The student, which may be its own teacher, is calibrated on at most `calibration_count` training recordings.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds another run.
        AnswerIsNo: the loss became non-finite.
    """
    from .qat import QuantizationAwareTraining  # only this command needs tensorflow-model-optimization

    student = recovery.student
    calibration = recovery.source.training_samples(student.config, calibration_count)
    prepared = prepare(student.config, student.weights, UNFOLDED_FORM, calibration, CalibrationOptions())
    # A second calibration may differ in the last digits: a run keeps the ranges that it began with.
    run = open_run(
        out,
        {**recovery.fingerprint(), "calibration": calibration_count},
        resume=resume,
        start=lambda: {"ranges": dict(prepared.ranges)},
    )
    prepared = replace(prepared, ranges={name: (low, high) for name, (low, high) in run["ranges"].items()})
    return _train(QuantizationAwareTraining(recovery, prepared, out), "qat", recovery, out)


def _train(trainer: Any, kind: str, recovery: Recovery, out: Path) -> Path:
    """Train to the end, from where a saved state left off, and write the student with its new weights.

    Its history has the run as `kind`.
    """
    tf.config.experimental.enable_op_determinism()
    if trainer.resume():
        log(f"{trainer.name}: resumed after epoch {trainer.state.epoch}")
    student, settings, source = recovery.student, recovery.settings, recovery.source
    loader = partial(
        feature_loader,
        config=student.config,
        settings=settings.training,
        inputs=INPUTS,
        seed=source.seed,
        workers=source.workers,
        on_error=source.on_error,
    )
    with (
        loader(recovery.split.train, augmentation=settings.augmentation) as training,
        loader(recovery.split.validation, augmentation=None) as validation,
    ):
        trainer.run(training, validation)
    run = {
        "command": recovery.command,
        "seed": source.seed,
        "settings": asdict(settings),
        "recordings": {"train": len(recovery.split.train), "validation": len(recovery.split.validation)},
        "best_epoch": trainer.state.best_epoch + 1,
        "epochs": trainer.state.history,
    }
    path = out / CHECKPOINT_NAME
    save_checkpoint(path, Checkpoint(student.config, trainer.weights(), {**student.history, kind: run}))
    return path

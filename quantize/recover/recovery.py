"""`python -m quantize finetune` and `qat`: a run in a folder, started, killed, resumed, and its final checkpoint."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from console.options import command_line
from console.program import log, show, show_json
from model.checkpoint import DEMO_CHECKPOINT, Checkpoint, load_checkpoint, save_checkpoint
from model.evaluation import silent_audio
from model.folding import UNFOLDED_FORM, unfold
from model.recogniser import Recogniser, Weights, build_recogniser
from model.settings import choose_settings
from model.train import CHECKPOINT_NAME, feature_loader, open_run
from model.training import Trainer
from preprocess.errors import DataError, UsageError
from recordings.catalogue import OnError
from recordings.protocols import Split
from recordings.recording import INPUTS
from recordings.sources import DataSource

from ..prepare import CalibrationOptions, Prepared, prepare
from .distillation import FEATURES, Distillation, FineTuning, RecoverySettings

Channels: TypeAlias = npt.NDArray[np.int64]

# The deploy form has neither the streams' classifiers nor their features.
QAT_SETTINGS = RecoverySettings(distillation=Distillation(streams=0.0, features=0.0))


def finetune_command(options: argparse.Namespace) -> None:
    """Train a checkpoint by distillation."""
    student = load_checkpoint(options.checkpoint)
    teacher = load_checkpoint(options.teacher or DEMO_CHECKPOINT)
    settings = choose_settings(RecoverySettings(), options)
    recovery = Recovery(student, teacher, settings, training_split(options), options.seed)
    path = fine_tune(
        recovery,
        options.out,
        command=command_line(options),
        workers=options.workers,
        resume=options.resume,
        on_error=options.on_error,
    )
    _show(path, "recovery", options)


def qat_command(options: argparse.Namespace) -> None:
    """Train a checkpoint with the rounding of INT8."""
    student = load_checkpoint(options.checkpoint)
    teacher = load_checkpoint(options.teacher) if options.teacher else student
    settings = choose_settings(QAT_SETTINGS, options)
    for name in ("streams", "features"):
        if getattr(settings.distillation, name):
            raise UsageError(
                f"--set distillation.{name}: qat trains the deploy form, which has no {name}; leave it out"
            )
    recovery = Recovery(student, teacher, settings, training_split(options), options.seed)
    calibration = DataSource.of(options).training_samples(student.config, options.calibration)
    path = train_quantized(
        recovery,
        prepare(student.config, student.weights, UNFOLDED_FORM, calibration, CalibrationOptions()),
        options.out,
        calibration_count=options.calibration,
        command=command_line(options),
        workers=options.workers,
        resume=options.resume,
        on_error=options.on_error,
    )
    _show(path, "qat", options)


def training_split(options: argparse.Namespace) -> Split:
    """The recordings of `--data`, split by `--protocol`."""
    parts = DataSource.of(options).split()
    log(f"{len(parts.train)} recordings to train on, {len(parts.validation)} to validate ({options.protocol})")
    return parts


def _show(path: Path, kind: str, options: argparse.Namespace) -> None:
    epochs = load_checkpoint(path).history[kind]["epochs"]
    if options.json:
        show_json({"checkpoint": str(path), "epochs": epochs})
        return
    best = min(epochs, key=lambda epoch: epoch["validation_loss"])
    show(f"best epoch {best['epoch']} of {len(epochs)}, validation accuracy {100 * best['validation_accuracy']:.1f} %")
    show(f"checkpoint: {path}")


@dataclass(frozen=True)
class Recovery:
    """A training run after pruning or for quantization; equal runs give equal checkpoints.

    Attributes:
        student: the checkpoint to recover.
        teacher: the one that it was made from.
        settings: constants.
        split: recordings to train and to validate on.
        seed: of order, augmentation and dropout.
    """

    student: Checkpoint
    teacher: Checkpoint
    settings: RecoverySettings
    split: Split
    seed: int

    def __post_init__(self) -> None:
        for name in ("labels", "spec"):
            if getattr(self.student.config, name) != getattr(self.teacher.config, name):
                raise DataError(f"the checkpoints differ in their {name}; the teacher is the one before pruning")

    def kept(self) -> dict[str, Channels]:
        """The channels of the teacher's features that the student has, by group.

        Raises:
            DataError: the student was not made from the teacher.
        """
        kept = {}
        of_teacher = _features(self.teacher)
        for group, channels in _features(self.student).items():
            positions = {channel: index for index, channel in enumerate(of_teacher[group])}
            if not set(channels) <= positions.keys():
                raise DataError(
                    f"the student has channels in {group} that the teacher has not; name the checkpoint that it was "
                    "pruned from, or leave features out with --set distillation.features=0"
                )
            kept[group] = np.array([positions[channel] for channel in channels], np.int64)
        return kept

    def fingerprint(self) -> dict[str, Any]:
        """Everything that must agree for a run to be resumed."""
        names = "\n".join(ref.name for part in (self.split.train, self.split.validation) for ref in part)
        return {
            "student": _weights_hash(self.student),
            "teacher": _weights_hash(self.teacher),
            "settings": asdict(self.settings),
            "recordings": hashlib.sha256(names.encode()).hexdigest(),
            "seed": self.seed,
        }


def fine_tune(recovery: Recovery, out: Path, *, command: str, workers: int, resume: bool, on_error: OnError) -> Path:
    """Run or resume the fine-tuning in folder `out` and return the path of the checkpoint.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds another run.
        AnswerIsNo: the loss became non-finite.
    """
    open_run(out, recovery.fingerprint(), resume=resume)
    tf.config.experimental.enable_op_determinism()
    student = _built(recovery.student, dropout=recovery.settings.training.dropout)
    trainer = FineTuning(
        student,
        _built(recovery.teacher),
        recovery.settings,
        kept=recovery.kept() if recovery.settings.distillation.features else {},
        silence=silent_audio(recovery.student.config.spec),
        seed=recovery.seed,
        state_path=out / "finetune.state.npz",
    )
    _run(trainer, recovery, workers=workers, on_error=on_error)
    return _save(recovery, trainer, student.weights(), "recovery", out, command)


def train_quantized(
    recovery: Recovery,
    prepared: Prepared,
    out: Path,
    *,
    calibration_count: int,
    command: str,
    workers: int,
    resume: bool,
    on_error: OnError,
) -> Path:
    """Run or resume quantization-aware training in folder `out` and return the path of the checkpoint.

    Args:
        recovery: the student may be its own teacher.
        prepared: the student, calibrated in `model.folding.UNFOLDED_FORM`.
        calibration_count: number of recordings in the calibration.
        out, command, workers, resume, on_error: as for `fine_tune`.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds another run.
        AnswerIsNo: the loss became non-finite.
    """
    from .qat import QuantizationAwareTraining  # only this command needs tensorflow-model-optimization

    # A second calibration may differ in the last digits: a run keeps the ranges that it began with.
    run = open_run(
        out,
        {**recovery.fingerprint(), "calibration": calibration_count},
        resume=resume,
        start=lambda: {"ranges": dict(prepared.ranges)},
    )
    tf.config.experimental.enable_op_determinism()
    config = recovery.student.config
    trainer = QuantizationAwareTraining(
        replace(prepared, ranges={name: (low, high) for name, (low, high) in run["ranges"].items()}),
        _built(recovery.teacher),
        recovery.settings,
        silence=silent_audio(config.spec),
        seed=recovery.seed,
        state_path=out / "qat.state.npz",
    )
    _run(trainer, recovery, workers=workers, on_error=on_error)
    weights = unfold(config, trainer.weights(), recovery.student.weights)
    return _save(recovery, trainer, weights, "qat", out, command)


def _run(trainer: Trainer, recovery: Recovery, *, workers: int, on_error: OnError) -> None:
    """Train on the training part to the end, from where a saved state left off."""
    if trainer.resume():
        log(f"{trainer.name}: resumed after epoch {trainer.state.epoch}")
    settings, config = recovery.settings, recovery.student.config

    def loader(refs: Sequence[Any], augmentation: Any) -> Any:
        return feature_loader(
            refs,
            config,
            settings.training,
            augmentation,
            inputs=INPUTS,
            seed=recovery.seed,
            workers=workers,
            on_error=on_error,
        )

    with (
        loader(recovery.split.train, settings.augmentation) as training,
        loader(recovery.split.validation, None) as validation,
    ):
        trainer.run(training, validation)


def _save(recovery: Recovery, trainer: Trainer, weights: Weights, kind: str, out: Path, command: str) -> Path:
    """Write the student with its new weights, and the run in its history as `kind`."""
    run = {
        "command": command,
        "seed": recovery.seed,
        "settings": asdict(recovery.settings),
        "recordings": {"train": len(recovery.split.train), "validation": len(recovery.split.validation)},
        "best_epoch": trainer.state.best_epoch + 1,
        "epochs": trainer.state.history,
    }
    path = out / CHECKPOINT_NAME
    student = recovery.student
    save_checkpoint(path, Checkpoint(student.config, weights, {**student.history, kind: run}))
    return path


def _features(checkpoint: Checkpoint) -> dict[str, list[int]]:
    """The channels of both streams' features, as numbered before any pruning."""
    kept = checkpoint.history.get("pruning", {}).get("kept", {})
    widths = {
        FEATURES["visual"]: checkpoint.config.visual.stages[-1].residual,
        FEATURES["audio"]: checkpoint.config.audio.stages[-1].width,
    }
    return {group: kept.get(group, list(range(width))) for group, width in widths.items()}


def _weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 of configuration and weights."""
    digest = hashlib.sha256(checkpoint.config.to_json().encode())
    for name, value in sorted(checkpoint.weights.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value, "<f4").data)
    return digest.hexdigest()


def _built(checkpoint: Checkpoint, *, dropout: float = 0.0) -> Recogniser:
    recogniser = build_recogniser(checkpoint.config, dropout=dropout)
    recogniser.set_weights(checkpoint.weights)
    return recogniser

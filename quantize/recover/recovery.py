"""A fine-tuning run in a folder: started, killed, resumed, and the checkpoint that it ends with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from console.program import log
from model.checkpoint import Checkpoint, save_checkpoint
from model.evaluation import silent_audio
from model.folding import unfold
from model.recogniser import Recogniser, build_recogniser
from model.train import CHECKPOINT_NAME, feature_loader, open_run
from model.training import Trainer
from preprocess.errors import DataError
from recordings.catalogue import OnError
from recordings.protocols import Split
from recordings.recording import INPUTS

from ..prepare import Prepared
from .distillation import FEATURES, FineTuning, QatSettings, RecoverySettings

Channels: TypeAlias = npt.NDArray[np.int64]


Settings = TypeVar("Settings", bound=QatSettings)


@dataclass(frozen=True)
class Recovery(Generic[Settings]):
    """What is trained on what; equal ones give equal checkpoints.

    Attributes:
        student: the checkpoint to recover.
        teacher: the one that it was made from.
        settings: constants.
        split: recordings to train and to validate on.
        seed: of order, augmentation and dropout.
    """

    student: Checkpoint
    teacher: Checkpoint
    settings: Settings
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
        found = {}
        theirs, own = _features(self.teacher), _features(self.student)
        for group, channels in own.items():
            at = {channel: index for index, channel in enumerate(theirs[group])}
            if not set(channels) <= at.keys():
                raise DataError(
                    f"the student has channels in {group} that the teacher has not; name the checkpoint that it was "
                    "pruned from, or leave features out with --set distillation.features=0"
                )
            found[group] = np.array([at[channel] for channel in channels], np.int64)
        return found

    def fingerprint(self) -> dict[str, Any]:
        """What must agree for a run to be resumed."""
        names = "\n".join(ref.name for part in (self.split.train, self.split.validation) for ref in part)
        return {
            "student": weights_hash(self.student),
            "teacher": weights_hash(self.teacher),
            "settings": asdict(self.settings),
            "recordings": hashlib.sha256(names.encode()).hexdigest(),
            "seed": self.seed,
        }


def fine_tune(
    recovery: Recovery[RecoverySettings], out: Path, *, command: str, workers: int, resume: bool, on_error: OnError
) -> Path:
    """Runs or resumes the fine-tuning in folder `out` and returns the path of the checkpoint.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds another run.
        AnswerIsNo: the loss became non-finite.
    """
    open_run(out, recovery.fingerprint(), resume=resume)
    tf.config.experimental.enable_op_determinism()
    student = _built(recovery.student, dropout=recovery.settings.training.dropout)
    teacher = _built(recovery.teacher)
    trainer = FineTuning(
        student,
        teacher,
        recovery.settings,
        kept=recovery.kept() if recovery.settings.distillation.features else {},
        silence=silent_audio(recovery.student.config.spec),
        seed=recovery.seed,
        state_path=out / "finetune.state.npz",
    )
    run_trainer(trainer, recovery, workers=workers, on_error=on_error)
    history = {**recovery.student.history, "recovery": _history(recovery, trainer, command)}
    path = out / CHECKPOINT_NAME
    save_checkpoint(path, Checkpoint(recovery.student.config, student.weights(), history))
    return path


def train_quantized(
    recovery: Recovery[QatSettings],
    prepared: Prepared,
    out: Path,
    *,
    calibration_count: int,
    command: str,
    workers: int,
    resume: bool,
    on_error: OnError,
) -> Path:
    """Runs or resumes quantization-aware training in folder `out` and returns the path of the checkpoint.

    Args:
        recovery: the student may be its own teacher.
        prepared: the student, calibrated in `model.folding.UNFOLDED_FORM`.
        calibration_count: recordings that it was calibrated with.
        out, command, workers, resume, on_error: as for `fine_tune`.

    Raises:
        UsageError: `out` holds a run and `resume` is not set, or holds another run.
        AnswerIsNo: the loss became non-finite.
    """
    from .qat import QuantizationAwareTraining, quantization_aware

    # Ranges found again may differ in their last digits: a run keeps those that it began with.
    kept = open_run(
        out,
        {**recovery.fingerprint(), "calibration": calibration_count},
        resume=resume,
        start=lambda: {"ranges": dict(prepared.ranges)},
    )
    prepared = replace(prepared, ranges={name: (low, high) for name, (low, high) in kept["ranges"].items()})
    tf.config.experimental.enable_op_determinism()
    config = recovery.student.config
    trainer = QuantizationAwareTraining(
        quantization_aware(prepared),
        _built(recovery.teacher),
        recovery.settings,
        silence=silent_audio(config.spec),
        seed=recovery.seed,
        state_path=out / "qat.state.npz",
    )
    run_trainer(trainer, recovery, workers=workers, on_error=on_error)
    weights = unfold(config, trainer.weights(), recovery.student.weights)
    history = {**recovery.student.history, "qat": _history(recovery, trainer, command)}
    path = out / CHECKPOINT_NAME
    save_checkpoint(path, Checkpoint(config, weights, history))
    return path


def run_trainer(trainer: Trainer, recovery: Recovery[Settings], *, workers: int, on_error: OnError) -> None:
    """Trains on the training part until the end, from where a saved state left off."""
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
        loader(recovery.split.validation, None) as held,
    ):
        trainer.run(training, held)


def _history(recovery: Recovery[Settings], trainer: Trainer, command: str) -> dict[str, Any]:
    return {
        "command": command,
        "seed": recovery.seed,
        "settings": asdict(recovery.settings),
        "recordings": {"train": len(recovery.split.train), "validation": len(recovery.split.validation)},
        "best_epoch": trainer.state.best_epoch + 1,
        "epochs": trainer.state.history,
    }


def _features(checkpoint: Checkpoint) -> dict[str, list[int]]:
    """The channels of both streams' features as they were numbered before any pruning."""
    kept = checkpoint.history.get("pruning", {}).get("kept", {})
    widths = {
        FEATURES["visual"]: checkpoint.config.visual.stages[-1].residual,
        FEATURES["audio"]: checkpoint.config.audio.stages[-1].width,
    }
    return {group: kept.get(group, list(range(width))) for group, width in widths.items()}


def weights_hash(checkpoint: Checkpoint) -> str:
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

"""Constants of the three training stages; the defaults are those of the paper's appendix B."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, TypeVar

from preprocess.errors import DataError, UsageError
from recordings.augment import AudioAugmentation, SkeletonAugmentation

Augmentation: TypeAlias = tuple[SkeletonAugmentation, AudioAugmentation]
StageName = Literal["visual", "audio", "fusion"]
STAGES: tuple[StageName, ...] = ("visual", "audio", "fusion")


@dataclass(frozen=True)
class StageSettings:
    """How one stage is trained with Adam and decoupled weight decay.

    Attributes:
        epochs: passes over the training set at the most.
        batch_size: recordings per step.
        learning_rate: initial rate.
        schedule: `plateau` multiplies the rate by `plateau_factor` after `plateau_patience` epochs without a
            better validation loss; `cosine` lets it fall to zero over all epochs.
        early_stopping: epochs without a better validation loss after which the stage ends; 0 never.
        weight_decay: decay of kernels per step, times the rate. Norms and biases do not decay.
        label_smoothing: share of the target spread over all classes.
        clip_norm: largest global norm of the gradient; 0 does not clip.
        dropout: rate on the attention's output, where the fusion is trained.
        modality_dropout: share of training recordings that lose one of their two inputs, where both are trained on.
    """

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 3e-4
    schedule: Literal["plateau", "cosine"] = "plateau"
    plateau_factor: float = 0.1
    plateau_patience: int = 5
    early_stopping: int = 0
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    dropout: float = 0.0
    modality_dropout: float = 0.0

    def __post_init__(self) -> None:
        rules = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "schedule": self.schedule in ("plateau", "cosine"),
            "plateau_factor": 0 < self.plateau_factor < 1,
            "plateau_patience": self.plateau_patience >= 1,
            "early_stopping": self.early_stopping >= 0,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "clip_norm": 0 <= self.clip_norm < math.inf,
            "dropout": 0 <= self.dropout < 1,
            "modality_dropout": 0 <= self.modality_dropout < 1,
        }
        for name, good in rules.items():
            if not good:
                raise UsageError(f"{name} is {getattr(self, name)!r}, which is out of its range")


@dataclass(frozen=True)
class TrainingSettings:
    """All three stages and the augmentation of both inputs."""

    visual: StageSettings = StageSettings(early_stopping=10)
    audio: StageSettings = StageSettings(batch_size=5, schedule="cosine")
    fusion: StageSettings = StageSettings(
        batch_size=16, learning_rate=1e-4, schedule="cosine", label_smoothing=0.1, clip_norm=1.0, dropout=0.5
    )
    skeleton_augmentation: SkeletonAugmentation = field(default_factory=SkeletonAugmentation)
    audio_augmentation: AudioAugmentation = field(default_factory=AudioAugmentation)

    @property
    def augmentation(self) -> Augmentation:
        return self.skeleton_augmentation, self.audio_augmentation

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def with_overrides(self, assignments: list[str]) -> TrainingSettings:
        """See `override`."""
        return override(self, assignments)


Settings = TypeVar("Settings")


def override(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Settings, a dataclass of dataclasses, with `PART.FIELD=VALUE` applied in order, e.g. `audio.batch_size=32`.

    Raises:
        UsageError: an assignment names nothing that exists or a value of the wrong type.
    """
    for assignment in assignments:
        settings = _assign(settings, assignment)
    return settings


def _assign(settings: Settings, assignment: str) -> Settings:
    target, equals, text = assignment.partition("=")
    part, dot, name = target.partition(".")
    parts = [item.name for item in fields(settings)]  # type: ignore[arg-type]
    if not equals or not dot or part not in parts:
        raise UsageError(f"--set {assignment!r} must read PART.FIELD=VALUE with PART one of {', '.join(parts)}")
    group = getattr(settings, part)
    names = [item.name for item in fields(group)]
    if name not in names:
        raise UsageError(f"--set {assignment!r}: {part} has no field {name!r}; it has {', '.join(names)}")
    kind = type(getattr(group, name))
    try:
        value = kind(text)
    except ValueError as error:
        raise UsageError(f"--set {assignment!r}: {text!r} is no {kind.__name__}") from error
    try:
        changed: Settings = replace(settings, **{part: replace(group, **{name: value})})  # type: ignore[type-var]
    except (DataError, UsageError) as error:
        raise UsageError(f"--set {assignment!r}: {error}") from error
    return changed

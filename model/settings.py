"""Constants of the three training stages; the defaults are those of the paper's appendix B."""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from preprocess.errors import DataError, UsageError
from recordings.augment import AudioAugmentation, SkeletonAugmentation

Augmentation: TypeAlias = tuple[SkeletonAugmentation, AudioAugmentation]
StageName: TypeAlias = Literal["visual", "audio", "fusion"]
STAGES: tuple[StageName, ...] = ("visual", "audio", "fusion")


@dataclass(frozen=True)
class StageSettings:
    """How one stage is trained with Adam and decoupled weight decay.

    Attributes:
        epochs: passes over the training set, at most.
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


Settings = TypeVar("Settings")


def choose_settings(defaults: Settings, options: argparse.Namespace) -> Settings:
    """The defaults, changed by the file of `--settings`, then by every `--set`.

    Args:
        defaults: a dataclass of dataclasses.
        options: with the options of `console.options.add_settings`.

    Raises:
        DataError: the file is no TOML, or it names an unknown constant or a value that does not fit.
        UsageError: the same of a `--set`.
    """
    settings = read_settings(defaults, options.settings) if options.settings else defaults
    return override(settings, options.set)


def read_settings(defaults: Settings, path: Path) -> Settings:
    """The defaults, changed by a TOML file with a table for every part, e.g. `[visual]` and `epochs = 16`.

    Raises:
        DataError: see `choose_settings`; the message starts with the file.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"--settings {path} does not exist") from None
    except ValueError as error:
        raise DataError(f"{path} is no TOML file: {error}") from error
    settings = defaults
    for part, table in tables.items():
        if not isinstance(table, dict):
            raise DataError(f"{path}: {part!r} stands outside of a table; write it below the [part] that it belongs to")
        for name, value in table.items():
            try:
                settings = _replace(settings, part, name, value)
            except (DataError, UsageError) as error:
                raise DataError(f"{path}: {part}.{name}: {error}") from error
    return settings


def override(settings: Settings, assignments: Sequence[str]) -> Settings:
    """The settings with every `PART.FIELD=VALUE` applied in order, e.g. `audio.batch_size=32`.

    Raises:
        UsageError: an assignment names an unknown constant or a value that does not fit.
    """
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        part, dot, name = target.partition(".")
        try:
            if not equals or not dot:
                raise UsageError("write PART.FIELD=VALUE")
            settings = _replace(settings, part, name, text)
        except (DataError, UsageError) as error:
            raise UsageError(f"--set {assignment!r}: {error}") from error
    return settings


def _replace(settings: Settings, part: str, name: str, value: Any) -> Settings:
    """One constant replaced; a text is converted, another value must have the field's type."""
    group = getattr(settings, _known(part, settings, "part"))
    kind = type(getattr(group, _known(name, group, "field")))
    try:
        number = kind is float and type(value) is int
        converted = kind(value) if isinstance(value, str) or number else value
    except ValueError:
        converted = None
    if type(converted) is not kind:
        raise UsageError(f"{value!r} is no {kind.__name__}")
    changed: Settings = replace(settings, **{part: replace(group, **{name: converted})})  # type: ignore[type-var]
    return changed


def _known(name: str, owner: Any, kind: str) -> str:
    names = [item.name for item in fields(owner)]
    if name not in names:
        raise UsageError(f"there is no {kind} {name!r}; use one of {', '.join(names)}")
    return name

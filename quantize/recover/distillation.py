"""Fine-tuning by distillation: a smaller or coarser network learns from the one it was made from.

The loss is the cross-entropy with the labels, the divergence from the teacher's logits (Hinton et al. 2015) for the
fused model and, weaker, for both streams, and the distance from the teacher's features on the remaining channels.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.options import command_line
from console.program import log
from model.checkpoint import Checkpoint
from model.evaluation import silent_audio
from model.recogniser import Recogniser, Weights
from model.settings import Augmentation, StageSettings
from model.trainer import Trainer
from preprocess.errors import DataError, UsageError
from recordings.augment import AudioAugmentation, SkeletonAugmentation
from recordings.sources import DataSource
from recordings.splits import Split

_TRAINING = StageSettings(epochs=10, learning_rate=5e-4, schedule="cosine", clip_norm=1.0, modality_dropout=0.1)
FEATURES = ("visual/stage3/residual", "audio/stage3/width")  # groups of the streams' last channels


@dataclass(frozen=True)
class Distillation:
    """Weights of the parts of the loss.

    Attributes:
        labels: cross-entropy of the fused logits with the labels.
        logits: divergence of the fused logits from the teacher's.
        temperature: of both softmaxes in a divergence.
        streams: divergence of each stream's logits, so that both stay usable alone.
        features: squared distance of each stream's features, relative to their power.
    """

    labels: float = 0.5
    logits: float = 1.0
    temperature: float = 2.0
    streams: float = 0.25
    features: float = 0.25

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < np.inf or (name == "temperature" and not value):
                raise UsageError(f"{name} is {value!r}, which is out of its range")

    def loss(self, entropy: tf.Tensor, expected: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Cross-entropy with the labels, and the divergence of the fused logits [B, classes] from the teacher's."""
        return self.labels * entropy + self.logits * divergence(expected, logits, self.temperature)


@dataclass(frozen=True)
class RecoverySettings:
    """All constants that `--settings` and `--set` can change in `quantize finetune` and `quantize qat`."""

    training: StageSettings = _TRAINING
    distillation: Distillation = Distillation()
    skeleton_augmentation: SkeletonAugmentation = field(default_factory=SkeletonAugmentation)
    audio_augmentation: AudioAugmentation = field(
        default_factory=lambda: AudioAugmentation(pitch_semitones=0, stretch=0)
    )

    @property
    def augmentation(self) -> Augmentation:
        return self.skeleton_augmentation, self.audio_augmentation


@dataclass(frozen=True)
class Recovery:
    """A training run after pruning or for quantization; equal runs give equal checkpoints.

    Attributes:
        student: the checkpoint to recover.
        teacher: the one that it was made from.
        settings: constants.
        split: recordings to train and to validate on.
        source: how they are read; its seed is also that of order, augmentation and dropout.
        command: the command that gives the same result again.
    """

    student: Checkpoint
    teacher: Checkpoint
    settings: RecoverySettings
    split: Split
    source: DataSource
    command: str

    @classmethod
    def of(
        cls, options: argparse.Namespace, student: Checkpoint, teacher: Checkpoint, settings: RecoverySettings
    ) -> Recovery:
        """A run of a command that has the options of `console.options.add_recordings`."""
        source = DataSource.of(options)
        parts = source.split()
        log(f"{len(parts.train)} recordings to train on, {len(parts.validation)} to validate ({options.protocol})")
        return cls(student, teacher, settings, parts, source, command_line(options))

    def __post_init__(self) -> None:
        for name in ("labels", "spec"):
            if getattr(self.student.config, name) != getattr(self.teacher.config, name):
                raise DataError(f"the checkpoints differ in their {name}; the teacher is the one before pruning")

    def kept(self) -> dict[str, npt.NDArray[np.int64]]:
        """The channels of the teacher's features that the student has, by group.

        Raises:
            DataError: the student was not made from the teacher.
        """
        kept = {}
        teacher = numbered_features(self.teacher)
        for group, channels in numbered_features(self.student).items():
            positions = {channel: index for index, channel in enumerate(teacher[group])}
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
            "seed": self.source.seed,
        }


def numbered_features(checkpoint: Checkpoint) -> dict[str, list[int]]:
    """The channels of both streams' features, as numbered before any pruning."""
    kept = checkpoint.history.get("pruning", {}).get("kept", {})
    widths = (checkpoint.config.visual.stages[-1].residual, checkpoint.config.audio.stages[-1].width)
    return {group: kept.get(group, list(range(width))) for group, width in zip(FEATURES, widths, strict=True)}


def _weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 of configuration and weights."""
    digest = hashlib.sha256(checkpoint.config.to_json().encode())
    for name, value in sorted(checkpoint.weights.items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value, "<f4").data)
    return digest.hexdigest()


class FineTuning(Trainer):
    """Trains all of the student to answer as the teacher does; the state is a file in folder `out`."""

    def __init__(self, recovery: Recovery, out: Path) -> None:
        settings = recovery.settings
        student = recovery.student.recogniser(dropout=settings.training.dropout)
        teacher = recovery.teacher.recogniser()
        self._student, self._teacher = _backbones(student), _backbones(teacher)
        self._head, self._teacher_head = student.head, teacher.head
        self._fused = student.fused
        self._distillation = settings.distillation
        kept = recovery.kept() if settings.distillation.features else {}
        self._kept = [kept.get(group) for group in FEATURES]
        models = (student.visual, student.audio, student.head)
        trainable = {id(variable): variable for model in models for variable in model.trainable_variables}
        super().__init__(
            "finetune",
            student.variables(),
            list(trainable.values()),
            student.dropout_layers(),
            settings.training,
            silence=silent_audio(recovery.student.config.spec),
            seed=recovery.source.seed,
            state_path=out / "finetune.state.npz",
        )

    def weights(self) -> Weights:
        """Weights of the student, as trained so far."""
        return {name: variable.numpy() for name, variable in self._variables.items()}

    def _train_step_eager(self, inputs: list[tf.Tensor], labels: tf.Tensor, lost: tf.Tensor) -> tf.Tensor:
        weights = self._distillation
        inputs = self._masked(inputs, lost)
        *expected_features, expected_visual, expected_audio = self._teacher(inputs, training=False)
        expected = self._teacher_head(expected_features, training=False)
        targets = tf.one_hot(labels, expected.shape[-1])
        with tf.GradientTape() as tape:
            *features, visual, audio = self._student(inputs, training=True)
            logits = self._head(features, training=True)
            loss = weights.loss(self._loss(targets, logits), expected, logits)
            for a, b in ((expected_visual, visual), (expected_audio, audio)):
                loss += weights.streams * divergence(a, b, weights.temperature)
            for a, b, kept in zip(expected_features, features, self._kept, strict=True):
                if kept is not None:
                    loss += weights.features * feature_distance(a, b, kept)
        self._apply(tape, loss)
        return loss

    def _logits_eager(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return self._fused(inputs, training=False)


def divergence(expected: tf.Tensor, logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Mean Kullback-Leibler divergence of softened answers [B, classes], times T² so that gradients keep their size."""
    p, q = (tf.nn.log_softmax(answer / temperature) for answer in (expected, logits))
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(p) * (p - q), axis=-1))


def feature_distance(expected: tf.Tensor, features: tf.Tensor, kept: npt.NDArray[np.int64]) -> tf.Tensor:
    """Squared distance from the expected features on the `kept` channels, relative to their power; [B, h, w, C]."""
    expected = tf.gather(expected, kept, axis=-1)
    return tf.reduce_sum(tf.square(features - expected)) / (tf.reduce_sum(tf.square(expected)) + 1e-6)


def _backbones(recogniser: Recogniser) -> Any:
    """(skeleton, audio) → visual features, audio features, visual logits, audio logits; runs each backbone once."""
    outputs = [*recogniser.features.output, recogniser.visual.output, recogniser.audio.output]
    return keras.Model(recogniser.features.input, outputs)

"""Fine-tuning by distillation: a smaller or coarser network learns from the one it was made from.

The loss is the cross-entropy with the labels, the divergence from the teacher's logits (Hinton et al. 2015) for the
fused model and, weaker, for both streams, and the distance from the teacher's features on the remaining channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from model.recogniser import Recogniser
from model.settings import Augmentation, StageSettings
from model.training import Trainer
from preprocess.errors import UsageError
from recordings.augment import AudioAugmentation, SkeletonAugmentation

FEATURES = {"visual": "visual/stage3/residual", "audio": "audio/stage3/width"}


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
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0 <= value < np.inf or (item.name == "temperature" and not value):
                raise UsageError(f"{item.name} is {value!r}, which is out of its range")

    def loss(self, entropy: tf.Tensor, expected: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Cross-entropy with the labels, and the divergence of the fused logits [B, classes] from the teacher's."""
        return self.labels * entropy + self.logits * divergence(expected, logits, self.temperature)


_TRAINING = StageSettings(epochs=10, learning_rate=5e-4, schedule="cosine", clip_norm=1.0, modality_dropout=0.1)


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


class FineTuning(Trainer):
    """Trains all of a recogniser to answer as its teacher does.

    Args:
        student, teacher: models of the same inputs and classes.
        settings: constants of the loop and of the loss.
        kept: the teacher's channels that the student has, by `FEATURES`' groups; other features are not compared.
        silence, seed, state_path: as for `model.training.Trainer`.
    """

    def __init__(
        self,
        student: Recogniser,
        teacher: Recogniser,
        settings: RecoverySettings,
        *,
        kept: Mapping[str, npt.NDArray[np.int64]],
        silence: npt.NDArray[np.float32],
        seed: int,
        state_path: Path,
    ) -> None:
        self._student, self._teacher = _backbones(student), _backbones(teacher)
        self._head, self._teacher_head = student.head, teacher.head
        self._fused = student.fused
        self._distillation = settings.distillation
        self._kept = [kept.get(group) for group in FEATURES.values()]
        models = (student.visual, student.audio, student.head)
        trainable = {id(variable): variable for model in models for variable in model.trainable_variables}
        super().__init__(
            "finetune",
            student.variables(),
            list(trainable.values()),
            student.dropout_layers(),
            settings.training,
            silence=silence,
            seed=seed,
            state_path=state_path,
        )

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

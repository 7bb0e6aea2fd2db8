"""The training loop: steps, schedule, early stopping, and a state that resumes to the same result; the three stages."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras

from console.files import atomic_file
from console.program import log, warn
from console.progress import Progress, format_duration
from preprocess.errors import AnswerIsNo, DataError
from recordings.batches import Batch, FeatureLoader

from .checkpoint import read_arrays
from .layers import SeededDropout
from .recogniser import Recogniser
from .settings import STAGES, StageName, StageSettings

_SEEDS = {"visual": 1, "audio": 2, "fusion": 3, "finetune": 4, "qat": 5}
Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass
class StageState:
    """All state that the next epoch depends on besides the data; saved after every epoch."""

    epoch: int = 0
    learning_rate: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = -1
    since_reduction: int = 0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer(ABC):
    """A training, ready to run or to resume. A subclass computes the step and the logits.

    Args:
        name: of the training, in its progress and in the parts of `--set`.
        variables: all variables that the state holds, by name.
        trainable: the variables that the optimizer changes.
        dropout: dropout layers, to be seeded.
        settings: constants.
        silence: audio tensor [bands, frames, 3] of a silent recording, for modality dropout.
        seed: seeds dropout and modality dropout.
        state_path: file of the state.
    """

    def __init__(
        self,
        name: str,
        variables: Mapping[str, Any],
        trainable: list[Any],
        dropout: list[SeededDropout],
        settings: StageSettings,
        *,
        silence: npt.NDArray[np.float32],
        seed: int,
        state_path: Path,
    ) -> None:
        self.name = name
        self.settings_name = name if name in STAGES else "training"
        self._settings = settings
        self._silence = tf.constant(silence)
        self._seed = seed
        self._state_path = state_path
        self._variables = variables
        self._trainable = trainable
        self._dropout = dropout
        self._best: Arrays = {}
        self._optimizer = _make_optimizer(settings, trainable)
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing)
        self._train_step = tf.function(self._train_step_eager, reduce_retracing=True)
        self._logits = tf.function(self._logits_eager, reduce_retracing=True)
        self.state = StageState(learning_rate=settings.learning_rate)

    def run(self, training: FeatureLoader, validation: FeatureLoader) -> None:
        """Train until the last epoch or early stopping; the model then holds the best epoch's weights."""
        while not self.state.finished:
            self._run_epoch(training, validation)
            self._save()
        for name, variable in self._variables.items():
            variable.assign(self._best[name])
        problems = {**training.problems, **validation.problems}
        if problems:
            first = next(iter(problems.values()))
            warn(f"{self.name}: {len(problems)} recording(s) could not be used; the first: {first}")

    def resume(self) -> bool:
        """Restore the saved state; False if there is none."""
        if not self._state_path.is_file():
            return False
        arrays = read_arrays(self._state_path)
        self.state = StageState(**json.loads(arrays["state.json"].tobytes().decode()))
        for name, variable in self._variables.items():
            variable.assign(arrays[f"weights/{name}"])
            self._best[name] = arrays[f"best/{name}"]
        for index, variable in enumerate(self._optimizer.variables):
            variable.assign(arrays[f"optimizer/{index}"])
        return True

    def _save(self) -> None:
        arrays: dict[str, Any] = {f"weights/{name}": v.numpy() for name, v in self._variables.items()}
        arrays |= {f"best/{name}": value for name, value in self._best.items()}
        arrays |= {f"optimizer/{i}": v.numpy() for i, v in enumerate(self._optimizer.variables)}
        arrays["state.json"] = np.frombuffer(json.dumps(asdict(self.state)).encode(), dtype=np.uint8)
        with atomic_file(self._state_path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    def _run_epoch(self, training: FeatureLoader, validation: FeatureLoader) -> None:
        state, settings = self.state, self._settings
        start = time.monotonic()
        losses = []
        steps = training.steps_per_epoch
        with Progress(f"{self.name} epoch {state.epoch + 1}/{settings.epochs}", steps) as progress:
            for step, batch in enumerate(training.epoch(state.epoch)):
                if settings.schedule == "cosine":
                    done = (state.epoch * steps + step) / (settings.epochs * steps)
                    state.learning_rate = 0.5 * settings.learning_rate * (1 + math.cos(math.pi * done))
                losses.append(self.step(batch, state.epoch, step))
                progress.advance(note=f"loss {losses[-1]:.3f}")
        if not losses:
            raise DataError(
                f"too few usable recordings for one batch of {settings.batch_size}; try "
                f"--set {self.settings_name}.batch_size=1"
            )
        seconds = time.monotonic() - start
        validation_loss, validation_accuracy = self.validate(validation)
        self._require_finite(validation_loss, "validation")
        entry = {
            "epoch": state.epoch + 1,
            "loss": float(np.mean(losses)),
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "learning_rate": state.learning_rate,
        }
        state.history.append(entry)
        log(
            f"{self.name} epoch {state.epoch + 1}/{settings.epochs}: loss {entry['loss']:.3f}, validation loss "
            f"{validation_loss:.3f}, accuracy {100 * validation_accuracy:.1f} %, {format_duration(seconds)}, "
            f"{100 * training.waiting_s / seconds:.0f} % waiting for data"
        )
        self._judge(validation_loss)
        state.epoch += 1
        state.finished = state.finished or state.epoch >= settings.epochs

    def _judge(self, validation_loss: float) -> None:
        """Keep the best weights, lower the rate on a plateau, and stop early."""
        state, settings = self.state, self._settings
        if validation_loss < state.best_loss:
            state.best_loss, state.best_epoch, state.since_reduction = validation_loss, state.epoch, 0
            self._best = {name: v.numpy() for name, v in self._variables.items()}
            return
        state.since_reduction += 1
        if settings.schedule == "plateau" and state.since_reduction >= settings.plateau_patience:
            state.learning_rate *= settings.plateau_factor
            state.since_reduction = 0
        if settings.early_stopping and state.epoch - state.best_epoch >= settings.early_stopping:
            state.finished = True

    def step(self, batch: Batch, epoch: int, step: int) -> float:
        """One step of the optimizer; returns the loss.

        Raises:
            AnswerIsNo: the loss is not finite.
        """
        self._optimizer.learning_rate.assign(self.state.learning_rate)
        rng = np.random.default_rng([self._seed, _SEEDS[self.name], epoch, step])
        dropout_seed = rng.integers(0, 2**31, 2).astype(np.int32)
        for layer in self._dropout:
            layer.seed.assign(dropout_seed)
        lost = _draw_lost(rng, len(batch.labels), self._settings.modality_dropout)
        loss = float(self._train_step(self._inputs(batch), tf.constant(batch.labels), tf.constant(lost)))
        self._require_finite(loss, f"step {step + 1}")
        return loss

    def _require_finite(self, loss: float, when: str) -> None:
        if not math.isfinite(loss):
            raise AnswerIsNo(
                f"the loss became {loss} in stage {self.name}, epoch {self.state.epoch + 1}, {when}; try a lower rate, "
                f"e.g. --set {self.settings_name}.learning_rate={self._settings.learning_rate / 3:.1g}"
            )

    def _masked(self, inputs: list[tf.Tensor], lost: tf.Tensor) -> list[tf.Tensor]:
        """Both inputs, replaced by silence or empty heatmaps where modality dropout removes them."""
        skeleton, audio = inputs
        return [
            tf.where((lost == 1)[:, None, None, None], tf.zeros_like(skeleton), skeleton),
            tf.where((lost == 2)[:, None, None, None], self._silence, audio),
        ]

    def _apply(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        gradients = tape.gradient(loss, self._trainable)
        self._optimizer.apply_gradients(zip(gradients, self._trainable, strict=True))

    def _inputs(self, batch: Batch) -> list[tf.Tensor]:
        """The tensors of a batch that a step and the validation read."""
        return [tf.constant(batch.skeleton), tf.constant(batch.audio)]

    @abstractmethod
    def _train_step_eager(self, inputs: list[tf.Tensor], labels: tf.Tensor, lost: tf.Tensor) -> tf.Tensor:
        """One step of the optimizer; returns the loss.

        `lost` int32 [B] is 0 for a complete recording, 1 for one without skeleton, 2 for one without sound.
        """

    @abstractmethod
    def _logits_eager(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """Logits in inference."""

    def validate(self, validation: FeatureLoader) -> tuple[float, float]:
        """Mean cross-entropy and accuracy."""
        loss_sum, correct, count = 0.0, 0, 0
        for batch in validation.epoch(0):
            logits = self._logits(self._inputs(batch))
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
            loss_sum += float(tf.reduce_sum(entropy))
            correct += int((logits.numpy().argmax(axis=1) == batch.labels).sum())
            count += len(batch.labels)
        return loss_sum / count, correct / count


class Stage(Trainer):
    """One of the three stages.

    Args:
        recogniser: the models; the variables of the stage are trained in place.
        name: of the stage.
        settings: constants.
        options: silence, seed and state_path, as for `Trainer`.
    """

    def __init__(self, recogniser: Recogniser, name: StageName, settings: StageSettings, **options: Any) -> None:
        self._recogniser = recogniser
        self._model = {"visual": recogniser.visual, "audio": recogniser.audio, "fusion": recogniser.head}[name]
        variables = {v.name.removesuffix(":0"): v for v in self._model.variables}
        trainable = self._model.trainable_variables
        super().__init__(name, variables, trainable, recogniser.dropout_layers(), settings, **options)

    def _inputs(self, batch: Batch) -> list[tf.Tensor]:
        arrays = {"visual": (batch.skeleton,), "audio": (batch.audio,), "fusion": (batch.skeleton, batch.audio)}
        return [tf.constant(array) for array in arrays[self.name]]

    def _train_step_eager(self, inputs: list[tf.Tensor], labels: tf.Tensor, lost: tf.Tensor) -> tf.Tensor:
        targets = tf.one_hot(labels, self._recogniser.config.classes)
        if self.name == "fusion":
            # Both backbones are frozen: outside the tape, in inference mode.
            inputs = self._recogniser.features(self._masked(inputs, lost), training=False)
        else:
            inputs = inputs[0]
        with tf.GradientTape() as tape:
            loss = self._loss(targets, self._model(inputs, training=True))
        self._apply(tape, loss)
        return loss

    def _logits_eager(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        if self.name == "fusion":
            return self._recogniser.fused(inputs, training=False)
        return self._model(inputs[0], training=False)


def _make_optimizer(settings: StageSettings, variables: list[Any]) -> Any:
    optimizer = keras.optimizers.AdamW(
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm or None,
    )
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not v.name.endswith("kernel:0")])
    optimizer.build(variables)
    return optimizer


def _draw_lost(rng: np.random.Generator, count: int, rate: float) -> npt.NDArray[np.int32]:
    """For every recording 0 (complete), 1 (no skeleton) or 2 (no sound)."""
    lost = rng.random(count) < rate
    return np.where(lost, rng.integers(1, 3, count), 0).astype(np.int32)

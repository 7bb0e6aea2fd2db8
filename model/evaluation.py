"""Evaluation of a checkpoint on recordings: accuracy with an interval, per class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from console.plot import draw_confusion_matrix
from console.progress import track
from preprocess.logmel import waveform_to_logmel
from preprocess.spec import PreprocessSpec
from recordings.batches import Batch, FeatureLoader
from runtime.manifest import Label
from runtime.metrics import Score, confusion_matrix, score

from .config import Stream

Modality = Literal["skeleton", "audio"]
Predictor = Callable[[Batch], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Evaluation:
    """What a model answered on a set of recordings.

    Attributes:
        labels: the classes.
        logits: float32 [N, classes].
        truth: int32 [N], indices of the true classes.
        names: the recordings, in order.
    """

    labels: tuple[Label, ...]
    logits: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @property
    def score(self) -> Score:
        return score(self.logits, self.truth)

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        return confusion_matrix(self.logits, self.truth)

    def to_dict(self) -> dict[str, Any]:
        """Score, per-class accuracy (None for a class without recordings) and confusion matrix."""
        confusion = self.confusion
        totals = confusion.sum(axis=1)
        per_class = [
            {
                "code": label.code,
                "name": label.name,
                "count": int(total),
                "accuracy": int(confusion[i, i]) / int(total) if total else None,
            }
            for i, (label, total) in enumerate(zip(self.labels, totals, strict=True))
        ]
        return {**self.score.to_dict(), "classes": per_class, "confusion": confusion.tolist()}


def evaluate(predictor: Predictor, loader: FeatureLoader, labels: tuple[Label, ...], *, label: str) -> Evaluation:
    """Runs `predictor` over one epoch of `loader`.

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    logits, truth = [], []
    names: list[str] = []
    for batch in track(loader.epoch(0), label, loader.steps_per_epoch):
        logits.append(predictor(batch))
        truth.append(batch.labels)
        names.extend(batch.names)
    return Evaluation(labels, np.concatenate(logits), np.concatenate(truth), tuple(names))


def keras_predictor(model: Any, stream: Stream, *, drop: Modality | None, spec: PreprocessSpec) -> Predictor:
    """Batches → logits with a Keras model of the recogniser.

    With `drop`, the fused model gets what it would get where that sensor fails: the tensor of silence, or an
    empty heatmap.
    """
    import tensorflow as tf

    call = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)
    silence = silent_audio(spec)

    def run(batch: Batch) -> npt.NDArray[np.float32]:
        skeleton, audio = batch.skeleton, batch.audio
        if skeleton is not None and drop == "skeleton":
            skeleton = np.zeros_like(skeleton)
        if audio is not None and drop == "audio":
            audio = np.broadcast_to(silence, audio.shape)
        inputs = {"fused": [skeleton, audio], "visual": skeleton, "audio": audio}[stream]
        result: npt.NDArray[np.float32] = call(inputs).numpy()
        return result

    return run


def silent_audio(spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """The audio tensor [bands, frames, 3] of a silent recording."""
    return waveform_to_logmel(np.zeros(spec.audio.samples, np.float32), spec.audio)


def draw_confusion(evaluation: Evaluation, path: Path, *, title: str) -> None:
    """Writes the confusion matrix, in per cent of each true class, as a PNG."""
    names = [label.name for label in evaluation.labels]
    draw_confusion_matrix(evaluation.confusion, names, path, title=f"{title}\n{evaluation.score}")

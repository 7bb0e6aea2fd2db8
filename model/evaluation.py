"""Evaluation of a checkpoint on recordings: accuracy with an interval, per class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from console.plot import draw_confusion_matrix
from preprocess.logmel import waveform_to_logmel
from preprocess.spec import PreprocessSpec
from runtime.answers import Array, Batch, Model, ask
from runtime.manifest import Label
from runtime.metrics import Score, confusion_matrix, score

from .config import INPUTS_OF, Stream

if TYPE_CHECKING:
    from .recogniser import Recogniser

Modality = Literal["skeleton", "audio"]


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


def evaluate(
    model: Model, batches: Iterable[Batch], labels: tuple[Label, ...], *, recordings: int, title: str
) -> Evaluation:
    """Asks a model about all recordings of `batches`; `recordings` is their number, for the progress bar."""
    answers = ask({title: model}, batches, title=title, recordings=recordings)
    return Evaluation(labels, answers.logits[title], answers.labels, answers.names)


def keras_model(recogniser: Recogniser, stream: Stream = "fused", *, drop: Modality | None = None) -> Model:
    """A stream of the recogniser in inference: tensors by the name of the input → logits.

    With `drop`, the fused model reads what it would read where that sensor fails: the tensor of silence, or an empty
    heatmap. Tensors that the stream does not read are ignored.
    """
    import tensorflow as tf

    model = recogniser.stream(stream)
    infer = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)
    absent: dict[str, Array] = {"skeleton": np.zeros((), np.float32), "audio": silent_audio(recogniser.config.spec)}

    def answer(tensors: Mapping[str, Array]) -> Array:
        inputs = [
            np.broadcast_to(absent[name], tensors[name].shape) if name == drop else tensors[name]
            for name in INPUTS_OF[stream]
        ]
        logits: Array = infer(inputs if len(inputs) > 1 else inputs[0]).numpy()
        return logits

    return answer


def silent_audio(spec: PreprocessSpec) -> npt.NDArray[np.float32]:
    """The audio tensor [bands, frames, 3] of a silent recording."""
    return waveform_to_logmel(np.zeros(spec.audio.samples, np.float32), spec.audio)


def draw_confusion(evaluation: Evaluation, path: Path, *, title: str) -> None:
    """Writes the confusion matrix, in per cent of each true class, as a PNG."""
    names = [label.name for label in evaluation.labels]
    draw_confusion_matrix(evaluation.confusion, names, path, title=f"{title}\n{evaluation.score}")

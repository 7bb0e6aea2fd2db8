"""Evaluation of a checkpoint on recordings: accuracy with an interval, per class, and the confusion matrix."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from console.files import atomic_file
from console.plot import draw_confusion_matrix
from console.program import show, show_json
from console.table import format_table
from preprocess.errors import UsageError
from preprocess.logmel import waveform_to_logmel
from preprocess.spec import PreprocessSpec
from recordings.actions import class_indices
from recordings.batches import FeatureLoader
from recordings.recording import Input
from recordings.sources import DataSource
from runtime.answers import Array, Model, ask
from runtime.manifest import Label
from runtime.metrics import confusion_matrix, score

from .checkpoint import DEMO_CHECKPOINT, load_checkpoint
from .config import INPUTS_OF, Stream

if TYPE_CHECKING:
    from .recogniser import Recogniser

_BATCH_SIZE = 32


def keras_model(recogniser: Recogniser, stream: Stream = "fused", *, drop: Input | None = None) -> Model:
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


def evaluate_command(options: argparse.Namespace) -> None:
    """Evaluate a checkpoint and show the accuracy per class.

    Raises:
        AnswerIsNo: a logit is not finite.
    """
    if options.drop and options.stream != "fused":
        raise UsageError(f"--drop {options.drop} needs --stream fused; the {options.stream} stream has one input")
    checkpoint = load_checkpoint(options.checkpoint or DEMO_CHECKPOINT)
    config = checkpoint.config
    refs = DataSource.of(options).to_test()
    classes = class_indices(refs, config.codes)
    model = keras_model(checkpoint.recogniser(), options.stream, drop=options.drop)
    with FeatureLoader(
        refs,
        classes,
        config.spec,
        batch_size=_BATCH_SIZE,
        workers=options.workers,
        inputs=INPUTS_OF[options.stream],
        on_error=options.on_error,
    ) as loader:
        answers = ask({options.stream: model}, loader.epoch(0), title="evaluating", recordings=len(refs))
        problems = loader.problems
    title = options.stream if not options.drop else f"fused without {options.drop}"
    logits, truth = answers.logits[options.stream], answers.labels
    document = {
        "checkpoint": os.fspath(options.checkpoint) if options.checkpoint else "demo",
        "stream": options.stream,
        "drop": options.drop,
        "protocol": options.protocol,
        "skipped": problems,
        **evaluation(logits, truth, config.labels),
    }
    if options.out:
        with atomic_file(options.out / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(document, indent=2, allow_nan=False), encoding="utf-8")
        names, picture = [label.name for label in config.labels], options.out / "confusion.png"
        counts = confusion_matrix(logits, truth)
        draw_confusion_matrix(counts, names, picture, title=f"{title}\n{score(logits, truth)}")
    if options.json:
        show_json(document)
    else:
        show(evaluation_table(logits, truth, config.labels, title))


def evaluation(
    logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int32], labels: Sequence[Label]
) -> dict[str, Any]:
    """Score, accuracy per class (None for a class without recordings) and confusion matrix, as JSON.

    Args:
        logits: float32 [N, classes].
        truth: int32 [N], indices of the true classes.
        labels: the classes.
    """
    confusion = confusion_matrix(logits, truth)
    classes = [
        {
            "code": label.code,
            "name": label.name,
            "count": int(total),
            "accuracy": int(confusion[i, i]) / int(total) if total else None,
        }
        for i, (label, total) in enumerate(zip(labels, confusion.sum(axis=1), strict=True))
    ]
    return {**score(logits, truth).to_dict(), "classes": classes, "confusion": confusion.tolist()}


def evaluation_table(
    logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int32], labels: Sequence[Label], title: str
) -> str:
    """Accuracy per class with its most frequent confusion; arguments as for `evaluation`."""
    rows = []
    for index, (label, counts) in enumerate(zip(labels, confusion_matrix(logits, truth), strict=True)):
        if not counts.any():
            continue
        wrong = np.where(np.arange(len(counts)) == index, 0, counts)
        other = int(wrong.argmax())
        confused = f"{labels[other].name} ({int(wrong[other])})" if wrong[other] else ""
        accuracy = f"{100 * counts[index] / counts.sum():.1f} %"
        rows.append([f"{label.code} {label.name}", str(counts.sum()), accuracy, confused])
    table = format_table(["class", "recordings", "accuracy", "most often taken for"], rows)
    return f"{table}\n\n{title}: {score(logits, truth)} over {len(truth)} recordings"

"""Answers of models on recordings: one function for float models, artifacts, emulators and corrupted inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from console.progress import Progress
from preprocess.errors import DataError

from .metrics import Score, agreement, score, snr_db
from .runners import Runner

Array: TypeAlias = npt.NDArray[Any]
# Tensors by the name of the input, float32 [B, ...] each, to logits, float32 [B, classes].
Model: TypeAlias = Callable[[Mapping[str, Array]], Array]


class LabelledBatch(Protocol):
    """Recordings ready for a model; `recordings.batches.Batch` is one.

    Attributes:
        names: of the recordings, B of them.
        labels: int32 [B], true classes.
        tensors: float32 [B, ...] by the name of the input.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> npt.NDArray[np.int32]: ...

    @property
    def tensors(self) -> Mapping[str, Array]: ...


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits of several models on the same recordings.

    Attributes:
        names: of the recordings, N of them.
        labels: int32 [N], true classes.
        logits: float32 [N, classes] of every model, in the order in which they were asked.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    logits: dict[Hashable, npt.NDArray[np.float32]]

    def score(self, model: Hashable) -> Score:
        """Accuracy of a model. Raises AnswerIsNo when a logit is not finite."""
        return score(self.logits[model], self.labels)

    def agreement(self, a: Hashable, b: Hashable) -> float:
        """Share of the recordings on which two models choose the same class."""
        return agreement(self.logits[a], self.logits[b])

    def snr_db(self, reference: Hashable, model: Hashable) -> float:
        """Signal-to-noise ratio of a model's logits against those of a reference, in dB."""
        return snr_db(self.logits[reference], self.logits[model])

    def joined(self, other: Answers) -> Answers:
        """With the models of `other`, which were asked about the same recordings."""
        assert self.names == other.names
        return Answers(self.names, self.labels, {**self.logits, **other.logits})


def ask(
    models: Mapping[Any, Model], batches: Iterable[LabelledBatch], *, title: str, recordings: int, at_once: int = 1
) -> Answers:
    """Asks every model about every recording, in one pass over the batches.

    Args:
        models: by any key.
        batches: one after another; each is released before the next.
        title: of the progress bar.
        recordings: how many there are, for the progress bar.
        at_once: how many models may compute at the same time.

    Raises:
        DataError: there are no recordings, or one cannot be read.
    """
    names: list[str] = []
    labels: list[npt.NDArray[np.int32]] = []
    logits: list[list[Array]] = [[] for _ in models]
    with Progress(title, recordings) as progress, ThreadPoolExecutor(at_once) as pool:
        for batch in batches:
            names += batch.names
            labels.append(batch.labels)
            tensors = batch.tensors
            for rows, answer in zip(logits, pool.map(lambda model: model(tensors), models.values()), strict=True):  # noqa: B023
                rows.append(answer)
            progress.advance(len(batch.labels))
    if not names:
        raise DataError("there are no recordings to compare on; check the folder and the split")
    stacked = (np.concatenate(rows).astype(np.float32, copy=False) for rows in logits)
    return Answers(tuple(names), np.concatenate(labels), dict(zip(models, stacked, strict=True)))


def one_by_one(runner: Runner, times_ms: list[float] | None = None) -> Model:
    """A model file, whose batch is one, as a model of any batch. Inputs that the file does not have are left out.

    `times_ms` receives the time of every inference.
    """
    inputs = [info.name for info in runner.inputs]

    def answer(tensors: Mapping[str, Array]) -> Array:
        logits = []
        for i in range(len(tensors[inputs[0]])):
            start = time.perf_counter()
            logits.append(runner({name: tensors[name][i : i + 1] for name in inputs}))
            if times_ms is not None:
                times_ms.append(1e3 * (time.perf_counter() - start))
        return np.stack(logits)

    return answer

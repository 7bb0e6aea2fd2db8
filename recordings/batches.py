"""Batches of preprocessed recordings, computed from disk in worker processes while the consumer trains.

What a sample holds depends on the seed, the epoch and the recording's name alone: neither on the number of workers
nor on the order, and epoch k is the same whether or not the epochs before it were run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError, PocketHarError, UsageError
from preprocess.spec import PreprocessSpec

from .augment import AudioAugmentation, SkeletonAugmentation
from .catalogue import OnError
from .reading import read_recording
from .recording import INPUTS, Arrays, Input, RecordingRef, preprocess_recording
from .workers import WorkerPool, run_here


@dataclass(frozen=True)
class Batch:
    """Samples for one step; the arrays belong to the receiver.

    Attributes:
        skeleton: float32 [B, S, S, channels] in [0, 1], or None when not asked for.
        audio: float32 [B, bands, frames, 3], or None when not asked for.
        labels: int32 [B].
        names: the recordings' names.
    """

    skeleton: npt.NDArray[np.float32] | None
    audio: npt.NDArray[np.float32] | None
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @property
    def tensors(self) -> Arrays:
        """The tensors by the name of the input, without those that were not asked for."""
        tensors = {"skeleton": self.skeleton, "audio": self.audio}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@dataclass(frozen=True)
class Problem:
    """A recording that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class _Task:
    ref: RecordingRef
    epoch: int


@dataclass(frozen=True)
class _SampleMaker:
    """What a worker does: read one recording and preprocess it."""

    spec: PreprocessSpec
    inputs: tuple[Input, ...]
    seed: int
    skeleton_augmentation: SkeletonAugmentation | None
    audio_augmentation: AudioAugmentation | None

    def __call__(self, task: _Task) -> Arrays:
        try:
            recording = read_recording(task.ref, sample_rate_hz=self.spec.audio.sample_rate_hz, inputs=self.inputs)
        except OSError as error:
            raise DataError(f"{task.ref.name} cannot be read: {error}") from error
        return preprocess_recording(
            recording,
            self.spec,
            inputs=self.inputs,
            rng=recording_rng(self.seed, task.epoch, task.ref.name),
            skeleton_augmentation=self.skeleton_augmentation,
            audio_augmentation=self.audio_augmentation,
        )


def recording_rng(seed: int, number: int, name: str) -> np.random.Generator:
    """A generator of its own for every seed, number (an epoch, a kind of corruption) and recording's name."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.random.default_rng((seed, number, int.from_bytes(digest, "big")))


class FeatureLoader:
    """Reads, varies and preprocesses recordings, epoch by epoch.

    Use as a context manager. The workers start with the first epoch and serve all others. Memory is bounded: besides
    the references there are at most `batch_size + 2 · workers` samples in flight, and the batch handed out.

        with FeatureLoader(refs, labels, spec, batch_size=32, shuffle=True) as loader:
            for epoch in range(epochs):
                for batch in loader.epoch(epoch):
                    ...
    """

    def __init__(
        self,
        refs: Sequence[RecordingRef],
        labels: Sequence[int] | npt.NDArray[np.integer[Any]],
        spec: PreprocessSpec,
        *,
        batch_size: int,
        seed: int = 0,
        workers: int = 2,
        inputs: Sequence[Input] = INPUTS,
        shuffle: bool = False,
        drop_remainder: bool = False,
        skeleton_augmentation: SkeletonAugmentation | None = None,
        audio_augmentation: AudioAugmentation | None = None,
        on_error: OnError = "raise",
    ) -> None:
        """Checks the options; nothing is read yet.

        Args:
            refs: the recordings.
            labels: class index of each.
            spec: sizes and constants.
            batch_size: samples of a batch; the last one of an epoch may have fewer.
            seed: of order and variations, 0 or more.
            workers: processes; 0 computes in this one.
            inputs: which of `skeleton` and `audio` to compute; files that no input needs are not read.
            shuffle: every epoch has its own order.
            drop_remainder: leaves a last batch out that is not full.
            skeleton_augmentation, audio_augmentation: variations for training, or None for evaluation.
            on_error: a recording that cannot be used ends the epoch with its error, or is left out and listed in
                `problems`; the next one takes its place in the batch.

        Raises:
            UsageError: an option is out of range.
            DataError: there are no recordings, or not one label for each.
        """
        _require(batch_size >= 1, "batch_size", batch_size, "use at least 1")
        _require(workers >= 0, "workers", workers, "use 0 or more")
        _require(seed >= 0, "seed", seed, "use 0 or more")
        _require(len(inputs) > 0 and set(inputs) <= set(INPUTS), "inputs", inputs, f"use some of {', '.join(INPUTS)}")
        _require(on_error in ("raise", "skip"), "on_error", on_error, "use raise or skip")
        if not refs:
            raise DataError("there are no recordings to load; check the folder and the split")
        if len(labels) != len(refs):
            raise DataError(f"{len(labels)} labels were given for {len(refs)} recordings; give one for each")
        self._refs = tuple(refs)
        self._labels = np.asarray(labels, np.int32)
        self._batch_size = batch_size
        self._workers = workers
        self._shuffle = shuffle
        self._drop_remainder = drop_remainder
        self._on_error = on_error
        self._job = _SampleMaker(spec, tuple(inputs), seed, skeleton_augmentation, audio_augmentation)
        shapes = {"skeleton": spec.skeleton.shape, "audio": spec.audio.shape}
        self._shapes: dict[str, tuple[int, ...]] = {name: shapes[name] for name in inputs}
        self._pool: WorkerPool[_Task] | None = None
        self._problems: dict[str, Problem] = {}
        self._waiting_s = 0.0

    def __enter__(self) -> FeatureLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers. An epoch asked for later starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch in which no recording is left out."""
        full, rest = divmod(len(self._refs), self._batch_size)
        return full + bool(rest and not self._drop_remainder)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Recordings that were left out so far, each once."""
        return tuple(self._problems.values())

    @property
    def waiting_s(self) -> float:
        """Time that the consumer has spent waiting for batches in the latest epoch, in seconds."""
        return self._waiting_s

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch. It may be given up at any time; starting another one ends it.

        Args:
            number: of the epoch, 0 or more; it seeds the order and the variations.

        Raises:
            DataError: a recording cannot be used (`on_error="raise"`), or none of them can.
            MissingComponentError: a worker died, or there is too little shared memory.
        """
        order = self._order(number).tolist()
        results = self._results(_Task(self._refs[index], number) for index in order)
        batch = _Assembly(self._shapes, self._batch_size)
        self._waiting_s = 0.0
        loaded = 0
        started = time.perf_counter()
        for index in order:
            # The result may be a view of shared memory: it must not live on in a variable while this is suspended.
            loaded += self._take(index, next(results), batch)
            if batch.is_full:
                finished = batch.finish()
                self._waiting_s += time.perf_counter() - started
                yield finished
                started = time.perf_counter()
        self._waiting_s += time.perf_counter() - started
        if not loaded:
            first = next(iter(self._problems.values()))
            raise DataError(f"none of the {len(order)} recordings can be used; the first problem is: {first.reason}")
        if batch.names and not self._drop_remainder:
            yield batch.finish()

    def _order(self, epoch: int) -> npt.NDArray[np.intp]:
        if not self._shuffle:
            return np.arange(len(self._refs))
        return np.random.default_rng((self._job.seed, epoch)).permutation(len(self._refs))

    def _results(self, tasks: Iterable[_Task]) -> Iterator[Arrays | PocketHarError]:
        if self._workers == 0:
            return run_here(self._job, tasks)
        if self._pool is None or self._pool.closed:
            prefetch = self._batch_size + 2 * self._workers
            self._pool = WorkerPool(self._job, self._shapes, workers=self._workers, prefetch=prefetch)
        return self._pool.imap(tasks)

    def _take(self, index: int, result: Arrays | PocketHarError, batch: _Assembly) -> bool:
        """Adds a result to the batch; false when the recording is left out."""
        name = self._refs[index].name
        if isinstance(result, DataError) and self._on_error == "skip":
            self._problems.setdefault(name, Problem(name, str(result)))
            return False
        if isinstance(result, PocketHarError):
            raise result
        batch.add(result, int(self._labels[index]), name)
        return True


class _Assembly:
    """A batch being filled."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], batch_size: int) -> None:
        self._shapes = shapes
        self._batch_size = batch_size
        self._clear()

    def _clear(self) -> None:
        self._arrays: Arrays = {}
        self._labels: list[int] = []
        self.names: list[str] = []

    @property
    def is_full(self) -> bool:
        return len(self.names) == self._batch_size

    def add(self, sample: Arrays, label: int, name: str) -> None:
        for key, shape in self._shapes.items():
            if key not in self._arrays:
                self._arrays[key] = np.empty((self._batch_size, *shape), np.float32)
            self._arrays[key][len(self.names)] = sample[key]
        self._labels.append(label)
        self.names.append(name)

    def finish(self) -> Batch:
        """The batch so far; the assembly is empty afterwards."""
        count = len(self.names)
        arrays = {key: values[:count] for key, values in self._arrays.items()}
        labels = np.array(self._labels, np.int32)
        batch = Batch(arrays.get("skeleton"), arrays.get("audio"), labels, tuple(self.names))
        self._clear()
        return batch


def _require(condition: bool, name: str, value: object, remedy: str) -> None:
    if not condition:
        raise UsageError(f"{name} is {value!r}; {remedy}")

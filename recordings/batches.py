"""Batches of preprocessed recordings, computed from disk in worker processes while the consumer trains.

The content of a sample depends on the seed, the epoch and the recording's name alone: neither on the number of workers
nor on the order, and epoch k is the same whether or not the epochs before it were run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from preprocess.errors import DataError, PocketHarError
from preprocess.spec import FloatArray, PreprocessSpec

from .augment import AudioAugmentation, SkeletonAugmentation
from .catalogue import OnError
from .reading import read_recording
from .recording import INPUTS, Arrays, Input, RecordingRef, preprocess_recording
from .workers import WorkerPool, run_here

_Task: TypeAlias = tuple[RecordingRef, int]  # and the number of the epoch


@dataclass(frozen=True)
class Batch:
    """Samples for one step; the arrays belong to the receiver.

    Attributes:
        skeleton: float32 [B, S, S, channels] in [0, 1], or None when not asked for.
        audio: float32 [B, bands, frames, 3], or None when not asked for.
        labels: int32 [B].
        names: the recordings' names.
    """

    skeleton: FloatArray | None
    audio: FloatArray | None
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @property
    def tensors(self) -> Arrays:
        """The tensors by the name of the input, without those that were not asked for."""
        tensors = {"skeleton": self.skeleton, "audio": self.audio}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def recording_rng(seed: int, number: int, name: str) -> np.random.Generator:
    """An independent generator for every seed, number (an epoch, a kind of corruption) and recording's name."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.random.default_rng((seed, number, int.from_bytes(digest, "big")))


def _read_and_preprocess(
    task: _Task,
    *,
    spec: PreprocessSpec,
    inputs: tuple[Input, ...],
    seed: int,
    skeleton_augmentation: SkeletonAugmentation | None,
    audio_augmentation: AudioAugmentation | None,
) -> Arrays:
    """The job of a worker: read only the files that the inputs need, and preprocess."""
    ref, epoch = task
    try:
        recording = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz, inputs=inputs)
    except OSError as error:
        raise DataError(f"{ref.name} cannot be read: {error}") from error
    return preprocess_recording(
        recording,
        spec,
        inputs=inputs,
        rng=recording_rng(seed, epoch, ref.name),
        skeleton_augmentation=skeleton_augmentation,
        audio_augmentation=audio_augmentation,
    )


@dataclass(eq=False)
class FeatureLoader:
    """Reader of recordings that varies and preprocesses recordings, epoch by epoch.

    Use as a context manager. The workers start with the first epoch and serve all others. Memory is bounded: besides
    the references there are at most `batch_size + 2 · workers` samples in flight, and the batch handed out.

        with FeatureLoader(refs, labels, spec, batch_size=32, shuffle=True) as loader:
            for epoch in range(epochs):
                for batch in loader.epoch(epoch):
                    ...

    Attributes:
        refs: the recordings.
        labels: class index of each.
        spec: sizes and constants.
        batch_size: samples of a batch; the last one of an epoch may have fewer.
        seed: of order and variations, 0 or more.
        workers: processes; 0 computes in this one.
        inputs: which of `skeleton` and `audio` to compute; files that no input needs are not read.
        shuffle: draw a new order for every epoch.
        drop_remainder: leaves out a last batch that is not full.
        skeleton_augmentation, audio_augmentation: variations for training, or None for evaluation.
        on_error: a recording that cannot be used ends the epoch with its error (`raise`), or is left out and listed
            in `problems` (`skip`); the next one takes its place in the batch.
        problems: why recordings were left out so far, by their names.
        waiting_s: time that the consumer has spent waiting for batches in the latest epoch, in seconds.

    Raises:
        DataError: there are no recordings.
    """

    refs: Sequence[RecordingRef]
    labels: Sequence[int] | npt.NDArray[np.integer[Any]]
    spec: PreprocessSpec
    _: KW_ONLY
    batch_size: int
    seed: int = 0
    workers: int = 2
    inputs: Sequence[Input] = INPUTS
    shuffle: bool = False
    drop_remainder: bool = False
    skeleton_augmentation: SkeletonAugmentation | None = None
    audio_augmentation: AudioAugmentation | None = None
    on_error: OnError = "raise"
    problems: dict[str, str] = field(init=False, default_factory=dict)
    waiting_s: float = field(init=False, default=0.0)
    _pool: WorkerPool[_Task] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.refs)
        if not self.refs:
            raise DataError("there are no recordings to load; check the folder and the split")

    def __enter__(self) -> FeatureLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. An epoch asked for later starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch in which no recording is left out."""
        full, rest = divmod(len(self.refs), self.batch_size)
        return full + bool(rest and not self.drop_remainder)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch. It may be abandoned at any time; starting another one ends it.

        Args:
            number: of the epoch, 0 or more; it seeds the order and the variations.

        Raises:
            DataError: a recording cannot be used (`on_error="raise"`), or none of them can.
            MissingComponentError: a worker died, or there is too little shared memory.
        """
        order = range(len(self.refs))
        if self.shuffle:
            order = np.random.default_rng((self.seed, number)).permutation(len(self.refs)).tolist()
        results = self._results([(self.refs[index], number) for index in order])
        arrays, members = self._empty(), list[int]()
        self.waiting_s = 0.0
        empty = True
        started = time.perf_counter()
        for index in order:
            # The result may be a view of shared memory: it must not live on in a variable while this is suspended.
            if self._put(index, next(results), arrays, len(members)):
                members.append(index)
            if len(members) == self.batch_size:
                self.waiting_s += time.perf_counter() - started
                yield self._batch(arrays, members)
                arrays, members, empty = self._empty(), [], False
                started = time.perf_counter()
        self.waiting_s += time.perf_counter() - started
        if empty and not members:
            first = next(iter(self.problems.values()))
            raise DataError(f"none of the {len(order)} recordings can be used; the first problem is: {first}")
        if members and not self.drop_remainder:
            yield self._batch(arrays, members)

    def _results(self, tasks: list[_Task]) -> Iterator[Arrays | PocketHarError]:
        job = partial(
            _read_and_preprocess,
            spec=self.spec,
            inputs=tuple(self.inputs),
            seed=self.seed,
            skeleton_augmentation=self.skeleton_augmentation,
            audio_augmentation=self.audio_augmentation,
        )
        if self.workers == 0:
            return run_here(job, tasks)
        if self._pool is None or self._pool.closed:
            prefetch = self.batch_size + 2 * self.workers
            self._pool = WorkerPool(job, self._shapes, workers=self.workers, prefetch=prefetch)
        return self._pool.imap(tasks)

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"skeleton": self.spec.skeleton.shape, "audio": self.spec.audio.shape}
        return {name: shapes[name] for name in self.inputs}

    def _empty(self) -> Arrays:
        return {name: np.empty((self.batch_size, *shape), np.float32) for name, shape in self._shapes.items()}

    def _put(self, index: int, result: Arrays | PocketHarError, arrays: Arrays, place: int) -> bool:
        """Copy a result to its place in the batch; False when the recording is left out."""
        if isinstance(result, DataError) and self.on_error == "skip":
            self.problems.setdefault(self.refs[index].name, str(result))
            return False
        if isinstance(result, PocketHarError):
            raise result
        for name, array in arrays.items():
            array[place] = result[name]
        return True

    def _batch(self, arrays: Arrays, members: list[int]) -> Batch:
        tensors = {name: array[: len(members)] for name, array in arrays.items()}
        labels = np.array([self.labels[index] for index in members], np.int32)
        names = tuple(self.refs[index].name for index in members)
        return Batch(tensors.get("skeleton"), tensors.get("audio"), labels, names)

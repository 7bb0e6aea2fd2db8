"""A pool of processes that computes float32 arrays, in order, through shared memory.

Written for a parent that runs TensorFlow: workers are spawned, never forked, import only what the job needs, and use
one thread each. Arrays do not pass through pipes: a worker writes them into a slot of one shared segment, and only the
slot's number travels.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import shutil
import signal
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

import numpy as np

from console.child import changed_environment
from preprocess.errors import MissingComponentError, PocketHarError
from preprocess.spec import FloatArray

from .recording import Arrays

Task = TypeVar("Task")
Job: TypeAlias = Callable[[Task], Mapping[str, FloatArray]]

_MAX_QUEUED_PER_WORKER = 32  # messages that fit the buffer of a pipe: neither of its ends can block the other
_SHARED_MEMORY_FOLDER = Path("/dev/shm")
_ALIGNMENT_BYTES = 64
_SINGLE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class WorkerPool(Generic[Task]):
    """Processes that run one job on many tasks.

    `close`, or leaving the `with` block, ends the processes and frees the shared memory at any time. The same happens
    when the pool is collected or the program ends.
    """

    def __init__(
        self,
        job: Job[Task],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        workers: int,
        prefetch: int,
    ) -> None:
        """Start the workers.

        Args:
            job: picklable; returns the arrays of a task.
            shapes: shape of each of these arrays by name.
            workers: number of processes, at least 1.
            prefetch: tasks in flight or waiting for the consumer, at most 32 per worker.

        Raises:
            MissingComponentError: the machine has too little shared memory.
        """
        assert workers >= 1
        assert prefetch >= 1
        layout = _Layout(dict(shapes), min(prefetch, _MAX_QUEUED_PER_WORKER * workers))
        _check_shared_memory(layout.total_bytes)
        memory = SharedMemory(create=True, size=layout.total_bytes)
        self._slots = layout.views(memory)
        self._free: list[int] = []
        self._iteration = 0
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _shut_down, self._workers, self._slots, memory)
        context = multiprocessing.get_context("spawn")
        try:
            # They are the parallelism: each computes with one thread.
            with changed_environment(_SINGLE_THREAD), interrupts_blocked():
                for _ in range(workers):
                    self._workers.append(_Worker(context, job, layout, memory.name))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> WorkerPool[Task]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and free the shared memory. Arrays from `imap` are no longer valid."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """True after `close`, and after a worker died."""
        return not self._finalizer.alive

    def imap(self, tasks: Iterable[Task]) -> Iterator[Arrays | PocketHarError]:
        """Run the job on every task and yield the results in the order of the tasks.

        Arrays are views, valid until the next result is asked for. Where the job raised a `PocketHarError`, that error
        is the result. An iteration may be abandoned at any time; starting another one ends it.

        Raises:
            MissingComponentError: a worker died.
            OSError, ImportError: from the job.
            RuntimeError: the job raised something else; the message holds its traceback.
        """
        iteration = self._restart()
        source = enumerate(tasks)
        done: dict[int, tuple[int, Exception | None]] = {}
        for index in itertools.count():
            self._submit(source)
            while index not in done:
                if not any(worker.pending for worker in self._workers):
                    return
                self._receive(done)
            slot, error = done.pop(index)
            if error is not None and not isinstance(error, PocketHarError):
                raise error
            yield error or self._slots[slot]
            assert iteration == self._iteration, "this iteration ended when another one was started"
            self._free.append(slot)

    def _restart(self) -> int:
        """Wait for the tasks of an abandoned iteration; every slot is free afterwards."""
        assert not self.closed, "the pool is closed"
        while any(worker.pending for worker in self._workers):
            self._receive({})
        self._free = list(range(len(self._slots)))
        self._iteration += 1
        return self._iteration

    def _submit(self, source: Iterator[tuple[int, Task]]) -> None:
        while self._free and (item := next(source, None)) is not None:
            worker = min(self._workers, key=lambda worker: len(worker.pending))
            try:
                index, task = item
                slot = worker.pending[index] = self._free.pop()
                worker.connection.send((index, slot, task))
            except OSError:
                self._fail(worker)

    def _receive(self, done: dict[int, tuple[int, Exception | None]]) -> None:
        """Wait until at least one worker has an answer, or is dead."""
        ready = multiprocessing.connection.wait([worker.connection for worker in self._workers])
        for worker in self._workers:
            if worker.connection not in ready:
                continue
            try:
                index, error = worker.connection.recv()
            except (EOFError, OSError):
                self._fail(worker)
            done[index] = (worker.pending.pop(index), error)

    def _fail(self, worker: _Worker) -> NoReturn:
        worker.process.join(timeout=1)
        code = worker.process.exitcode
        ending = f"ended with exit code {code}"
        if code is not None and code < 0:
            ending = f"was killed by {signal.Signals(-code).name}"
        self.close()
        raise MissingComponentError(
            f"worker process {worker.process.pid} {ending}; if memory ran out, use fewer workers or smaller batches"
        )


def run_here(job: Job[Task], tasks: Iterable[Task]) -> Iterator[Arrays | PocketHarError]:
    """As `WorkerPool.imap`, in this process; one thread, as workers have: products of more threads round differently.

    Arrays belong to the receiver. Errors of the job other than a `PocketHarError` pass through.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    for task in tasks:
        result: Arrays | PocketHarError
        try:
            with blas.limit(limits=1):
                result = dict(job(task))
        except PocketHarError as error:
            result = error
        yield result


@dataclass(frozen=True)
class _Layout:
    """Places of the arrays in the shared segment: `count` slots, each with one array for every entry of `shapes`."""

    shapes: dict[str, tuple[int, ...]]
    count: int

    @property
    def total_bytes(self) -> int:
        return self.count * sum(_aligned_bytes(shape) for shape in self.shapes.values())

    def views(self, memory: SharedMemory) -> list[Arrays]:
        slots: list[Arrays] = []
        offset = 0
        for _ in range(self.count):
            arrays: Arrays = {}
            for name, shape in self.shapes.items():
                arrays[name] = np.ndarray(shape, np.float32, memory.buf, offset)
                offset += _aligned_bytes(shape)
            slots.append(arrays)
        return slots


def _aligned_bytes(shape: tuple[int, ...]) -> int:
    size_bytes = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


class _Worker:
    """The parent's side of one process: `pending` maps the tasks it has not answered to their slots."""

    def __init__(
        self, context: multiprocessing.context.SpawnContext, job: Callable[[Any], Any], layout: _Layout, memory: str
    ) -> None:
        self.connection, remote = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(remote, job, layout, memory), daemon=True)
        self.pending: dict[int, int] = {}
        self.process.start()
        remote.close()  # the worker then holds the only copy, and its death ends the stream


def _serve(connection: Connection, job: Callable[[Any], Any], layout: _Layout, memory_name: str) -> None:
    """A worker's life: answer tasks until the parent closes its end or dies."""
    memory = SharedMemory(memory_name)
    slots = layout.views(memory)
    try:
        while True:
            index, slot, task = connection.recv()
            connection.send((index, _run(job, task, slots[slot])))
    except (EOFError, ConnectionError):
        pass
    finally:
        slots.clear()
        memory.close()


def _run(job: Callable[[Any], Any], task: Any, slot: Arrays) -> Exception | None:
    try:
        for name, values in job(task).items():
            slot[name][...] = values
    except (PocketHarError, OSError, ImportError) as error:
        return error
    except Exception:
        return RuntimeError(f"a worker failed on {task}:\n{traceback.format_exc()}")
    return None


def _shut_down(workers: list[_Worker], slots: list[Arrays], memory: SharedMemory) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=5)
        worker.process.kill()  # one that is stopped or stuck in the kernel's queue does not answer to terminate
        worker.process.join()
        worker.connection.close()
    slots.clear()
    memory.unlink()
    with contextlib.suppress(BufferError):  # a consumer still holds arrays; the memory goes when they do
        memory.close()


def _check_shared_memory(needed_bytes: int) -> None:
    """A segment larger than what is left can be made, but kills who writes to it."""
    if not _SHARED_MEMORY_FOLDER.is_dir():  # macOS keeps no such folder and no such limit
        return
    free_bytes = shutil.disk_usage(_SHARED_MEMORY_FOLDER).free
    if free_bytes < needed_bytes:
        raise MissingComponentError(
            f"{_SHARED_MEMORY_FOLDER} has {free_bytes / 1e6:.0f} MB free, the batches in flight need "
            f"{needed_bytes / 1e6:.0f} MB; enlarge it (docker: --shm-size), use smaller batches, or 0 workers"
        )


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which a terminal sends to all: the parent ends them."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)

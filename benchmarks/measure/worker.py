"""The process in which one model file is timed: it answers the number of a recording with how long that took.

Imports the preprocessing and one runtime, as a program on a device would, and nothing of training.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from preprocess import PreprocessSpec
from recordings.recording import INPUTS, Recording
from runtime.measure import random_input
from runtime.runners import Array, LocalRunner, open_here

# What libraries read how many threads to use from; before they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)

_REST_STEP_S = 0.01
_REST_CPU_S = 0.001  # CPU time within a step below which all threads are taken to sleep
_REST_STEPS = 50


@dataclass(frozen=True)
class Job:
    """What the process is to do.

    Attributes:
        model: path of the model file.
        runtime: a name in `runtime.runners.RUNTIMES`.
        threads: of the runtime.
        cores: to run on; None where the system cannot be told.
        spec: of the preprocessing; None where the model gets random tensors.
        inputs: recordings; empty where the model gets random tensors.
    """

    model: Path
    runtime: str
    threads: int
    cores: tuple[int, ...] | None
    spec: PreprocessSpec | None
    inputs: tuple[Recording, ...]


@dataclass(frozen=True)
class Answer:
    """Of one round.

    Attributes:
        preprocessing_ms: raw input to tensors that lie in the model's inputs; None where they are random.
        inference_ms: of the runtime's own call.
        output: float32, the model's answer.
    """

    preprocessing_ms: float | None
    inference_ms: float
    output: Array


def serve(handle: int) -> None:
    """The process: gets a Job, says that it is ready, and answers until the other end closes.

    Answers are an Answer, None for ready, or an exception.
    """
    connection = Connection(handle)
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        try:
            job: Job = connection.recv()
            if job.cores:
                os.sched_setaffinity(0, job.cores)
            runner = open_here(job.model, job.runtime, threads=job.threads)
            turn = _turn(job, runner)
            connection.send(None)
            # A device has no garbage collector that might run while the clock does.
            gc.disable()
            while True:
                answer = turn(connection.recv())
                if job.threads > 1:
                    _rest()
                connection.send(answer)
        except (ValueError, RuntimeError) as error:
            connection.send(error)


def _turn(job: Job, runner: LocalRunner) -> Callable[[int], Answer]:
    """The function that takes the number of a recording."""
    names = {tensor.name for tensor in runner.inputs}
    inputs = tuple(name for name in INPUTS if name in names)
    feed = {} if job.inputs else {tensor.name: random_input(tensor) for tensor in runner.inputs}

    def turn(index: int) -> Answer:
        preprocessing_ms = None
        if job.inputs:
            assert job.spec is not None
            start = time.perf_counter()
            runner.load(job.inputs[index % len(job.inputs)].tensors(job.spec, inputs))
            preprocessing_ms = 1e3 * (time.perf_counter() - start)
        else:
            runner.load(feed)
        start = time.perf_counter()
        runner.invoke()
        inference_ms = 1e3 * (time.perf_counter() - start)
        return Answer(preprocessing_ms, inference_ms, runner.output())

    return turn


def _rest() -> None:
    """Waits until the runtime's threads sleep: tflite-runtime's spin some 25 ms for more work, on cores of the next."""
    for _ in range(_REST_STEPS):
        before = time.process_time()
        time.sleep(_REST_STEP_S)
        if time.process_time() - before < _REST_CPU_S:
            return

"""The process in which one model file is timed: its message is the number of a round, its answer the times.

Imports the preprocessing and one runtime, as a program on a device would, and nothing of training.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from preprocess import PreprocessSpec
from recordings.recording import INPUTS, Recording
from runtime.measure import random_input
from runtime.runners import Array, open_here

# Milliseconds from the raw recording to tensors in the model's inputs (None for random tensors), milliseconds of the
# runtime's own call, and the model's output, float32.
Answer: TypeAlias = tuple[float | None, float, Array]

# Libraries read their number of threads from these when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)

_REST_STEP_S = 0.01
_REST_CPU_S = 0.001  # with less CPU time in a step, all threads sleep
_REST_STEPS = 50


def load(
    model: Path,
    runtime: str,
    threads: int,
    cores: tuple[int, ...] | None,
    spec: PreprocessSpec,
    recordings: tuple[Recording, ...],
) -> Callable[[int], Answer]:
    """Loads a model and returns the function that takes one recording through preprocessing and inference.

    Args:
        model: path of the model file.
        runtime: a name in `runtime.runners.RUNTIMES`.
        threads: of the runtime.
        cores: to run on; None if the system cannot pin a process.
        spec: of the preprocessing.
        recordings: fed in turn, by the number of the round; empty: random tensors.
    """
    if cores:
        os.sched_setaffinity(0, cores)
    runner = open_here(model, runtime, threads=threads)
    names = {tensor.name for tensor in runner.inputs}
    inputs = tuple(name for name in INPUTS if name in names)
    feed = {} if recordings else {tensor.name: random_input(tensor) for tensor in runner.inputs}
    # A device has no garbage collector that might run inside a timed section.
    gc.disable()

    def answer(round_: int) -> Answer:
        preprocessing_ms = None
        if recordings:
            start = time.perf_counter()
            runner.load(recordings[round_ % len(recordings)].tensors(spec, inputs))
            preprocessing_ms = 1e3 * (time.perf_counter() - start)
        else:
            runner.load(feed)
        start = time.perf_counter()
        runner.invoke()
        inference_ms = 1e3 * (time.perf_counter() - start)
        output = runner.output()
        if threads > 1:
            _rest()
        return preprocessing_ms, inference_ms, output

    return answer


def _rest() -> None:
    """Waits until the runtime's threads sleep: tflite-runtime's spin for 25 ms on cores of the next process."""
    for _ in range(_REST_STEPS):
        before = time.process_time()
        time.sleep(_REST_STEP_S)
        if time.process_time() - before < _REST_CPU_S:
            return

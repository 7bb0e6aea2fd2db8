"""Measures artifacts side by side: each in its own process, in turn, in a new order every round.

Disturbances of the machine then meet all of them alike, and waiting processes use no core. A round takes one recording
through preprocessing and inference. Memory is measured afterwards, in processes that hold no recordings.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from console.child import Server
from console.progress import Progress
from preprocess.errors import DataError, UsageError
from preprocess.spec import PreprocessSpec
from recordings.catalogue import scan
from recordings.reading import read_golden, read_recording
from recordings.recording import INPUTS, Recording
from runtime.artifact import Artifact
from runtime.manifest import Manifest
from runtime.measure import MAPPED, measure, random_input
from runtime.runners import Array, open_here

from .records import Measurement, Memory, Subject, Timing

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

_REST_STEPS, _REST_STEP_S = 50, 0.01
_REST_CPU_S = 0.001  # with less CPU time in a step, all threads sleep
WARMUP = 3  # rounds that do not count
TIMEOUT_S = 300.0  # for a process to start, and for each of its answers
_MEMORY_RUNS = 3


@dataclass(frozen=True)
class Contender:
    """An artifact on a number of threads.

    Attributes:
        artifact: in its runtime.
        threads: of the runtime.
        inputs: recordings that it is fed; empty for random tensors.
    """

    artifact: Artifact
    threads: int = 1
    inputs: tuple[Recording, ...] = field(default=(), repr=False)

    @property
    def subject(self) -> Subject:
        """The entry in a record."""
        artifact = self.artifact
        return Subject.of(artifact.manifest, artifact.runtime, artifact.version, self.threads, name=artifact.name)

    def start(self) -> Server:
        """The process with the model; raises DataError when the model cannot be loaded."""
        artifact = self.artifact
        server = Server(
            "benchmarks.measure.runner:load_model",
            artifact.path.absolute(),
            artifact.runtime,
            self.threads,
            pick_cores(self.threads),
            artifact.manifest.spec,
            self.inputs,
            what=f"the process of {self.subject.label}",
            environment=dict.fromkeys(THREAD_VARIABLES, str(self.threads)),
        )
        server.ready(TIMEOUT_S)
        return server


def artifact_contenders(
    artifacts: Sequence[Artifact], threads: Sequence[int], *, data: Path | None = None, limit: int = 0, seed: int = 0
) -> list[Contender]:
    """Every artifact with every number of threads. Artifacts with the same sample rate get the same recordings.

    These are at most `limit` of the folder `data`, or without one the golden ones of the first artifact.

    Raises:
        DataError: there are no recordings.
        UsageError: two contenders have the same name, runtime and threads.
    """
    inputs: dict[int, tuple[Recording, ...]] = {}
    for artifact in artifacts:
        rate_hz = artifact.manifest.spec.audio.sample_rate_hz
        if rate_hz in inputs:
            continue
        if data is None:
            inputs[rate_hz] = golden_recordings(artifact.folder, artifact.manifest)
        else:
            inputs[rate_hz] = drawn_recordings(data, rate_hz, limit=limit, seed=seed)
    keys = [(artifact.name, artifact.runtime) for artifact in artifacts]
    for name, runtime in keys:
        if keys.count((name, runtime)) > 1:
            raise UsageError(f"two artifacts are called {name!r}; write NAME=DIR for one of them")
    return [
        Contender(artifact, count, inputs[artifact.manifest.spec.audio.sample_rate_hz])
        for artifact in artifacts
        for count in threads
    ]


def golden_recordings(folder: Path, manifest: Manifest) -> tuple[Recording, ...]:
    """The recordings in the golden files of an artifact.

    Raises:
        DataError: there are none, or one is damaged.
    """
    if not manifest.golden:
        raise DataError(f"{folder} has no golden recordings; name a folder of recordings with --data")
    rate_hz = manifest.spec.audio.sample_rate_hz
    return tuple(read_golden(folder / name, sample_rate_hz=rate_hz) for name in manifest.golden)


def drawn_recordings(folder: Path, sample_rate_hz: int, *, limit: int, seed: int) -> tuple[Recording, ...]:
    """At most `limit` recordings below a folder, drawn at random.

    Raises:
        DataError: the folder has no recordings, or one is not valid.
    """
    refs = scan(folder).refs
    order = np.random.default_rng(seed).permutation(len(refs))[:limit].tolist()
    return tuple(read_recording(refs[index], sample_rate_hz=sample_rate_hz) for index in order)


def measure_all(contenders: Sequence[Contender], *, rounds: int, seed: int) -> tuple[Measurement, ...]:
    """Times all contenders, then measures the memory of each.

    Raises:
        DataError: a process failed or did not answer; the message names the contender.
    """
    times = time_in_turn(contenders, rounds=rounds, seed=seed)
    measurements = []
    with Progress("memory", len(contenders)) as progress:
        for contender, (preprocessing_ms, inference_ms) in zip(contenders, times, strict=True):
            preprocessing = Timing(tuple(preprocessing_ms)) if preprocessing_ms else None
            timing, memory = Timing(tuple(inference_ms)), memory_of(contender)
            measurements.append(Measurement(contender.subject, preprocessing, timing, memory, _conditions(contender)))
            progress.advance()
    return tuple(measurements)


def memory_of(contender: Contender) -> Memory:
    """Peak of a fresh process that runs the file a few times; with LiteRT also with its weights in a mapped file."""

    def peak(runtime: str) -> int:
        path, threads = contender.artifact.path, contender.threads
        return int(measure(path, runtime, threads=threads, warmup=1, runs=_MEMORY_RUNS)["peak_bytes"])

    runtime = contender.artifact.runtime
    return Memory(peak_bytes=peak(runtime), mapped_peak_bytes=peak(MAPPED) if runtime == "litert" else None)


def _conditions(contender: Contender) -> dict[str, str]:
    cores = pick_cores(contender.threads)
    names = ", ".join(recording.name for recording in contender.inputs)
    return {
        "inputs": f"{len(contender.inputs)} recordings: {names}" if names else "random tensors",
        "cores": ", ".join(map(str, cores)) if cores else "not pinned",
        "warm-up rounds": str(WARMUP),
    }


def time_in_turn(contenders: Sequence[Contender], *, rounds: int, seed: int) -> list[tuple[list[float], list[float]]]:
    """Runs every contender once a round, in a new random order; all get the same recording in a round.

    All are loaded at once; WARMUP rounds come before those that count.

    Returns:
        Of every contender, milliseconds of preprocessing (empty for random inputs) and of inference, by round.

    Raises:
        DataError: a process failed, did not answer, or gave an output that is not finite; the message names it.
    """
    rng = np.random.default_rng(seed)
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in contenders]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(contender.start()) for contender in contenders]
        with Progress("rounds", WARMUP + rounds) as progress:
            for round_ in range(WARMUP + rounds):
                for index in rng.permutation(len(processes)).tolist():
                    answer: Answer = processes[index].ask(round_, TIMEOUT_S)
                    preprocessing_ms, inference_ms, output = answer
                    if not np.isfinite(output).all():
                        label = contenders[index].subject.label
                        raise DataError(f"{label} gives an output that is not finite; its times mean nothing")
                    if round_ >= WARMUP:
                        times[index][1].append(round(inference_ms, 4))
                        if preprocessing_ms is not None:
                            times[index][0].append(round(preprocessing_ms, 4))
                progress.advance()
    return times


def pick_cores(count: int) -> tuple[int, ...] | None:
    """The cores for `count` threads, of those that this process may use; second hardware threads of a core come last.

    Returns all of them if there are fewer than `count`, and None on a system that cannot pin a process.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    available = sorted(os.sched_getaffinity(0), key=lambda core: (_rank_among_siblings(core), core))
    return tuple(available[:count])


def _rank_among_siblings(core: int, folder: Path = Path("/sys/devices/system/cpu")) -> int:
    """0 for the first of the hardware threads that share a core, 1 for the second."""
    try:
        text = (folder / f"cpu{core}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return 0
    siblings: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        siblings += range(int(first), int(last or first) + 1)
    return siblings.index(core) if core in siblings else 0


def load_model(
    model: Path,
    runtime: str,
    threads: int,
    cores: tuple[int, ...] | None,
    spec: PreprocessSpec,
    recordings: tuple[Recording, ...],
) -> Callable[[int], Answer]:
    """Loads a model in this process; the returned function takes a recording through preprocessing and inference.

    Args:
        runtime: a name in `runtime.runners.RUNTIMES`.
        cores: to run on; None if the system cannot pin a process.
        recordings: fed in turn, by the number of the round; empty for random tensors.
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

"""Measures model files side by side: each in a process of its own, in turn, in a new order every round.

Whatever else the machine does then meets all of them alike, and the others wait without using a core. A round takes one
recording through preprocessing and inference. Memory is measured afterwards, in processes that hold no recordings.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from console.progress import Progress
from preprocess.errors import DataError, UsageError
from recordings.catalogue import scan
from recordings.reading import read_golden, read_recording
from recordings.recording import Recording
from runtime.manifest import Manifest, file_sha256, read_artifact
from runtime.measure import MAPPED, measure
from runtime.runners import distribution_of

from .provenance import package_version
from .records import Measurement, Memory, Subject, Timing
from .worker import THREAD_VARIABLES, Answer, Job

FORMATS = {".tflite": "tflite", ".onnx": "onnx"}
WARMUP = 3  # rounds before the clock counts
TIMEOUT_S = 300.0

_MEMORY_RUNS = 3
_END_S = 10.0


@dataclass(frozen=True)
class Contender:
    """A model file in a runtime.

    Attributes:
        name: that it has in the results.
        model: the file, `.tflite` or `.onnx`.
        runtime: a name in `runtime.runners.RUNTIMES`.
        threads: of the runtime.
        manifest: of the artefact; None for a model file alone.
        inputs: what it is fed; empty for random tensors. Only an artefact can be fed recordings.
    """

    name: str
    model: Path
    runtime: str
    threads: int = 1
    manifest: Manifest | None = None
    inputs: tuple[Recording, ...] = field(default=(), repr=False)

    def subject(self) -> Subject:
        """What a record says of it."""
        manifest = self.manifest
        return Subject(
            name=self.name,
            sha256=manifest.sha256 if manifest else file_sha256(self.model),
            format=FORMATS[self.model.suffix],
            recipe=manifest.recipe if manifest else None,
            preset=manifest.preset if manifest else None,
            stream=manifest.stream if manifest else None,
            size_bytes=self.model.stat().st_size,
            runtime=self.runtime,
            runtime_version=package_version(distribution_of(self.runtime)),
            threads=self.threads,
        )

    @property
    def label(self) -> str:
        return f"{self.name} ({self.runtime}, threads: {self.threads})"


@dataclass
class Times:
    """Milliseconds of every round; `preprocessing_ms` is empty where inputs were random."""

    preprocessing_ms: list[float] = field(default_factory=list)
    inference_ms: list[float] = field(default_factory=list)


def artifact_contenders(
    folders: Sequence[tuple[str | None, Path]],
    runtimes: Sequence[tuple[str, ...]],
    threads: Sequence[int],
    *,
    data: Path | None,
    recordings: int,
    seed: int,
) -> list[Contender]:
    """Every artefact in each of its runtimes with every number of threads.

    Artefacts whose sounds have the same rate get the same recordings.

    Args:
        folders: name in the results, or None for the manifest's, and folder.
        runtimes: of each artefact.
        threads: numbers of threads.
        data: folder of recordings; None for the golden ones of the first artefact.
        recordings: to read from `data`, at most.
        seed: of their choice.

    Raises:
        DataError: a folder is no artefact, or there are no recordings.
        UsageError: two contenders could not be told apart.
    """
    inputs: dict[int, tuple[Recording, ...]] = {}
    contenders = []
    for (name, folder), own in zip(folders, runtimes, strict=True):
        manifest, model = read_artifact(folder)
        rate_hz = manifest.spec.audio.sample_rate_hz
        if rate_hz not in inputs:
            inputs[rate_hz] = (
                golden_recordings(folder, manifest)
                if data is None
                else drawn_recordings(data, rate_hz, limit=recordings, seed=seed)
            )
        contenders += [
            Contender(name or manifest.name, model, runtime, count, manifest, inputs[rate_hz])
            for runtime in own
            for count in threads
        ]
    found = [(own.name, own.runtime, own.threads) for own in contenders]
    for name, runtime, count in found:
        if found.count((name, runtime, count)) > 1:
            raise UsageError(f"two artefacts are called {name!r}; write NAME=DIR for one of them")
    return contenders


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
    """Times all, then measures the memory of each.

    Raises:
        DataError: a process failed or gave no answer; the message names the contender.
    """
    times = time_in_turn(contenders, rounds=rounds, seed=seed)
    measurements = []
    with Progress("memory", len(contenders)) as progress:
        for contender, own in zip(contenders, times, strict=True):
            measurements.append(
                Measurement(
                    contender.subject(),
                    Timing(tuple(own.preprocessing_ms)) if own.preprocessing_ms else None,
                    Timing(tuple(own.inference_ms)),
                    memory_of(contender),
                    _conditions(contender),
                )
            )
            progress.advance()
    return tuple(measurements)


def memory_of(contender: Contender) -> Memory:
    """Peak of a fresh process that runs the file a few times; with LiteRT also with its weights in a mapped file."""

    def peak(runtime: str) -> int:
        found = measure(contender.model, runtime, threads=contender.threads, warmup=1, runs=_MEMORY_RUNS)
        return int(found["peak_bytes"])

    return Memory(
        peak_bytes=peak(contender.runtime), mapped_peak_bytes=peak(MAPPED) if contender.runtime == "litert" else None
    )


def _conditions(contender: Contender) -> dict[str, str]:
    cores = pick_cores(contender.threads)
    names = ", ".join(recording.name for recording in contender.inputs)
    return {
        "inputs": f"{len(contender.inputs)} recordings: {names}" if names else "random tensors",
        "cores": ", ".join(map(str, cores)) if cores else "not pinned",
        "warm-up rounds": str(WARMUP),
    }


def time_in_turn(
    contenders: Sequence[Contender], *, rounds: int, seed: int, warmup: int = WARMUP, timeout_s: float = TIMEOUT_S
) -> list[Times]:
    """Runs every contender once a round, in an order that is drawn anew; all get the same recording in a round.

    Args:
        contenders: all are loaded at once.
        rounds: that count.
        seed: of the orders.
        warmup: rounds before, which do not count.
        timeout_s: for a process to start, and for each of its answers.

    Raises:
        DataError: a process failed or gave no answer; the message names the contender.
    """
    rng = np.random.default_rng(seed)
    times = [Times() for _ in contenders]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(contender_process(own, timeout_s=timeout_s)) for own in contenders]
        with Progress("rounds", warmup + rounds) as progress:
            for round_ in range(warmup + rounds):
                for index in rng.permutation(len(processes)).tolist():
                    answer = processes[index].answer(round_)
                    if round_ >= warmup:
                        times[index].inference_ms.append(round(answer.inference_ms, 4))
                        if answer.preprocessing_ms is not None:
                            times[index].preprocessing_ms.append(round(answer.preprocessing_ms, 4))
                progress.advance()
    return times


@contextlib.contextmanager
def contender_process(contender: Contender, *, timeout_s: float = TIMEOUT_S) -> Iterator[ContenderProcess]:
    """The process of a contender, ready to answer; it ends with the block."""
    process = ContenderProcess(contender, timeout_s=timeout_s)
    try:
        process.start()
        yield process
    finally:
        process.close()


class ContenderProcess:
    """A process with one model file loaded; see `benchmarks.measure.worker`."""

    def __init__(self, contender: Contender, *, timeout_s: float) -> None:
        self._contender = contender
        self._timeout_s = timeout_s
        self._connection, theirs = multiprocessing.Pipe()
        root = str(Path(__file__).parents[2])
        threads = dict.fromkeys(THREAD_VARIABLES, str(contender.threads))
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from benchmarks.measure.worker import serve; serve({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
        )
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Loads the model; raises DataError where that fails."""
        own = self._contender
        job = Job(
            model=own.model.absolute(),
            runtime=own.runtime,
            threads=own.threads,
            cores=pick_cores(own.threads),
            spec=own.manifest.spec if own.manifest else None,
            inputs=own.inputs,
        )
        self._ask(job)

    def answer(self, index: int) -> Answer:
        """Takes the recording of this number (modulo how many there are) through the model.

        Raises:
            DataError: the process failed or gave no answer in time, or the model's output is not finite.
        """
        answer: Answer = self._ask(index)
        if not np.isfinite(answer.output).all():
            raise DataError(f"{self._contender.label} gives an output that is not finite; its times mean nothing")
        return answer

    def _ask(self, message: Any) -> Any:
        label = self._contender.label
        try:
            self._connection.send(message)
            if not self._connection.poll(self._timeout_s):
                self._process.kill()
                raise DataError(f"{label} gave no answer for {self._timeout_s:g} s; measuring was given up")
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise DataError(f"the process of {label} ended {_how(self._process.wait())}") from None
        if isinstance(answer, Exception):
            raise DataError(f"{label} failed: {answer}") from answer
        return answer

    def close(self) -> None:
        """The closed connection tells the process to end; one that does not is killed."""
        self._connection.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    names = {own.value: own.name for own in signal.Signals}
    return f"by signal {names.get(-code, -code)}"


def pick_cores(count: int) -> tuple[int, ...] | None:
    """So many of the cores that this process may use, all of them where there are fewer; siblings on one core last.

    None where the system has no such notion.
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

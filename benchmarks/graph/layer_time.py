"""Time of every operation of a model file, as the runtime itself takes it while it runs the whole file.

Profiling costs time of its own, so a whole inference is a little slower here than in `runtime.measure`.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.errors import DataError, MissingComponentError
from runtime.runners import is_installed

from .layer_rules import plain_name

RUNTIMES = ("litert", "onnxruntime")
_WARMUP = 3


@dataclass(frozen=True)
class LayerTime:
    """One operation of the graph that the runtime made of the file.

    Attributes:
        name: of the layer in the file (`benchmarks.graph.file_cost`), or the operation of the runtime without one.
        op: the runtime's kind of operation, of several for one layer joined by ` + `.
        median_us: microseconds, median over the quickest quarter of the runs: other programs interrupted the slow ones.
        share: of the median time of a whole inference in those runs.
    """

    name: str
    op: str
    median_us: float
    share: float


def layer_times(path: Path, runtime: str, *, threads: int = 1, runs: int = 30) -> list[LayerTime]:
    """Runs the file on random inputs in a fresh process, in the order of execution.

    Args:
        path: a `.tflite` file for `litert`, an `.onnx` file for `onnxruntime`.
        runtime: one of RUNTIMES. tflite-runtime's library has no way to its profiler.
        threads: for one operation.
        runs: inferences that count; a few more come before.

    The shares add up to less than one: the rest of an inference is the runtime's own work between operations. LiteRT
    cuts times off to whole microseconds, so small operations come out too short, down to 0.

    Raises:
        DataError: the runtime cannot run the file, or its profiler does not answer as in the release this was written
            for.
        MissingComponentError: the runtime is not installed.
    """
    if runtime not in RUNTIMES:
        raise DataError(f"times by layer exist for {' and '.join(RUNTIMES)}, not for {runtime}")
    if not is_installed(runtime):
        raise MissingComponentError(f"runtime {runtime} is not installed; run `pip install {runtime}`")
    if runs < 1:
        raise DataError(f"runs is {runs}; use a positive number")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        result = Path(folder) / "times.json"
        words = [str(path), runtime, str(threads), str(runs), str(result)]
        command = [sys.executable, "-c", "from benchmarks.graph.layer_time import serve; serve()", *words]
        child = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if child.returncode:
            last = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise DataError(f"profiling {path.name} in {runtime} failed: {last[0]}")
        return [LayerTime(**entry) for entry in json.loads(result.read_text(encoding="utf-8"))]


def serve() -> None:
    """The fresh process. Runtimes write to standard output, so the answer goes to a file."""
    path, runtime, threads, runs, result = sys.argv[1:]
    profilers = {"litert": _profile_litert, "onnxruntime": _profile_onnxruntime}
    found = profilers[runtime](Path(path), int(threads), int(runs))
    Path(result).write_text(json.dumps([asdict(entry) for entry in found]), encoding="utf-8")


def summarise(
    labels: Sequence[tuple[str, str]], times: Sequence[Sequence[float]], whole: Sequence[float]
) -> list[LayerTime]:
    """Medians over the quickest quarter of the runs.

    Args:
        labels: name and op of every operation.
        times: microseconds of every run and operation.
        whole: microseconds of every run.
    """
    quick = sorted(range(len(whole)), key=lambda run: whole[run])[: -(-len(whole) // 4)]
    total = statistics.median(whole[run] for run in quick)
    medians = [statistics.median(column) for column in zip(*(times[run] for run in quick), strict=True)]
    return [LayerTime(*label, own, own / total) for label, own in zip(labels, medians, strict=True)]


def _profile_litert(path: Path, threads: int, runs: int) -> list[LayerTime]:
    from .litert_profiler import LitertProfiler, name_events

    profiler = LitertProfiler(path, threads)
    for _ in range(_WARMUP):
        profiler.run()
    recorded = [profiler.run() for _ in range(runs)]
    kinds = [(event.op, event.index, event.delegated) for event in recorded[0].events]
    if any([(event.op, event.index, event.delegated) for event in run.events] != kinds for run in recorded):
        raise DataError("LiteRT ran other operations in some inferences than in the first")
    groups = name_events(recorded[0].events, path)
    labels = [(name, " + ".join(kinds[i][0] for i in members)) for name, members in groups]
    times = [[float(sum(run.events[i].us for i in members)) for _, members in groups] for run in recorded]
    return summarise(labels, times, [run.whole_us for run in recorded])


def _profile_onnxruntime(path: Path, threads: int, runs: int) -> list[LayerTime]:
    import numpy as np
    import onnxruntime as ort

    from .onnx_graph import node_names

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        options.profile_file_prefix = f"{folder}/trace"
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        types = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}
        rng = np.random.default_rng(0)
        feed = {t.name: rng.random(t.shape).astype(types[t.type]) for t in session.get_inputs()}
        for _ in range(_WARMUP + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    labels, times, whole = read_trace(events, node_names(path))
    return summarise(labels, times[-runs:], whole[-runs:])


def read_trace(
    events: Sequence[dict[str, Any]], names: dict[str, str]
) -> tuple[list[tuple[str, str]], list[list[float]], list[float]]:
    """Labels, times of every run and operation, and times of every run, from ONNX Runtime's trace (microseconds).

    Raises:
        DataError: the runs differ in their operations.
    """
    labels: list[tuple[str, str]] = []
    times: list[list[float]] = []
    whole: list[float] = []
    current: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda event: float(event["ts"]) + float(event["dur"])):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            current.append(event)
        elif event["name"] == "model_run":
            found = [(_trace_name(own["name"], names), own["args"]["op_name"]) for own in current]
            if labels and found != labels:
                raise DataError("ONNX Runtime ran other operations in some inferences than in the first")
            labels = found
            times.append([float(own["dur"]) for own in current])
            whole.append(float(event["dur"]))
            current = []
    return labels, times, whole


def _trace_name(event: str, names: dict[str, str]) -> str:
    """`names` by node or output; optimisations call a node that they exchange after one of the two, with a suffix."""
    own = re.sub(r"(_nchwc|_token_\d+)+$", "", event.removesuffix("_kernel_time"))
    return names.get(own, plain_name(own))

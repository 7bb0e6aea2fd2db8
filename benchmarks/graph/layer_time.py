"""Time of every operation of a model file, from the runtime's profiler during complete inferences.

Profiling takes time, so an inference is a little slower here than in `runtime.measure`.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from console.child import run_function
from preprocess.errors import DataError, MissingComponentError
from runtime.blocks import plain_name
from runtime.runners import is_installed

RUNTIMES = ("litert", "onnxruntime")
_WARMUP = 3


@dataclass(frozen=True)
class LayerTime:
    """One operation of the runtime's graph.

    Attributes:
        name: of the layer in the file (`benchmarks.graph.file_cost`), or of the runtime's operation without a layer.
        op: the runtime's kind of operation; several for one layer are joined by ` + `.
        median_us: microseconds, median over the fastest quarter of the runs: other programs interrupt the slow ones.
        share: of the median time of a complete inference in those runs.
    """

    name: str
    op: str
    median_us: float
    share: float


def layer_times(path: Path, runtime: str, *, threads: int = 1, runs: int = 30) -> list[LayerTime]:
    """Runs the file on random inputs in a fresh process, in the order of execution.

    Args:
        path: a `.tflite` file for `litert`, an `.onnx` file for `onnxruntime`.
        runtime: one of RUNTIMES. tflite-runtime's library has no interface to its profiler.
        threads: for one operation.
        runs: counted inferences, after a few for warm-up.

    The shares add up to less than one: the rest of an inference is the runtime's work between operations. LiteRT
    truncates times to microseconds, so small operations appear too short, down to 0.

    Raises:
        DataError: the runtime cannot run the file, or its profiler differs from that of the release this was written
            for.
        MissingComponentError: the runtime is not installed.
    """
    if runtime not in RUNTIMES:
        raise DataError(f"times by layer exist for {' and '.join(RUNTIMES)}, not for {runtime}")
    if not is_installed(runtime):
        raise MissingComponentError(f"runtime {runtime} is not installed; run `pip install {runtime}`")
    if runs < 1:
        raise DataError(f"runs is {runs}; use a positive number")
    words = [str(path.resolve()), runtime, threads, runs]
    entries = run_function("benchmarks.graph.layer_time:profile", *words, what=f"profiling {path.name} in {runtime}")
    return [LayerTime(**entry) for entry in entries]


def profile(path: str, runtime: str, threads: int, runs: int) -> list[dict[str, Any]]:
    """`layer_times` in this process."""
    profilers = {"litert": _profile_litert, "onnxruntime": _profile_onnxruntime}
    return [asdict(layer) for layer in profilers[runtime](Path(path), threads, runs)]


def summarise(
    labels: Sequence[tuple[str, str]], times: Sequence[Sequence[float]], totals: Sequence[float]
) -> list[LayerTime]:
    """Medians over the fastest quarter of the runs.

    Args:
        labels: name and op of every operation.
        times: microseconds of every run and operation.
        totals: microseconds of every run.
    """
    quick = sorted(range(len(totals)), key=lambda run: totals[run])[: -(-len(totals) // 4)]
    total = statistics.median(totals[run] for run in quick)
    medians = [statistics.median(column) for column in zip(*(times[run] for run in quick), strict=True)]
    return [LayerTime(*label, us, us / total) for label, us in zip(labels, medians, strict=True)]


def _profile_litert(path: Path, threads: int, runs: int) -> list[LayerTime]:
    from .litert_profiler import LitertProfiler, name_events

    profiler = LitertProfiler(path, threads)
    for _ in range(_WARMUP):
        profiler.run()
    recorded = [profiler.run() for _ in range(runs)]
    kinds = [(event.op, event.index, event.delegated) for event in recorded[0][0]]
    if any([(event.op, event.index, event.delegated) for event in events] != kinds for events, _ in recorded):
        raise DataError("LiteRT ran other operations in some inferences than in the first")
    groups = name_events(recorded[0][0], path)
    labels = [(name, " + ".join(kinds[i][0] for i in members)) for name, members in groups]
    times = [[float(sum(events[i].us for i in members)) for _, members in groups] for events, _ in recorded]
    return summarise(labels, times, [total_us for _, total_us in recorded])


def _profile_onnxruntime(path: Path, threads: int, runs: int) -> list[LayerTime]:
    import numpy as np
    import onnxruntime as ort

    from .file_cost import node_names

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
    labels, times, totals = read_trace(events, node_names(path))
    return summarise(labels, times[-runs:], totals[-runs:])


def read_trace(
    events: Sequence[dict[str, Any]], names: dict[str, str]
) -> tuple[list[tuple[str, str]], list[list[float]], list[float]]:
    """Labels, times of every run and operation, and times of every run, from ONNX Runtime's trace (microseconds).

    Raises:
        DataError: the runs differ in their operations.
    """
    labels: list[tuple[str, str]] = []
    times: list[list[float]] = []
    totals: list[float] = []
    current: list[dict[str, Any]] = []
    for event in sorted(events, key=lambda event: float(event["ts"]) + float(event["dur"])):
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            current.append(event)
        elif event["name"] == "model_run":
            operations = [(_trace_name(node["name"], names), node["args"]["op_name"]) for node in current]
            if labels and operations != labels:
                raise DataError("ONNX Runtime ran other operations in some inferences than in the first")
            labels = operations
            times.append([float(node["dur"]) for node in current])
            totals.append(float(event["dur"]))
            current = []
    return labels, times, totals


def _trace_name(event: str, names: dict[str, str]) -> str:
    """The layer of a node or output; optimisations name a replaced node after one of the two, with a suffix."""
    node = re.sub(r"(_nchwc|_token_\d+)+$", "", event.removesuffix("_kernel_time"))
    return names.get(node, plain_name(node))

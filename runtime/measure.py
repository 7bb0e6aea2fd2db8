"""Latency and memory of a model file in a process that does nothing else.

Imports the runtime and NumPy alone, so that the peak belongs to the model.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.errors import DataError

from .manifest import TensorInfo
from .runners import Array, Runner, open_here

MAPPED = "litert-mapped"
_TIMEOUT_S = 900
# A runtime's own libraries are not the model's: they are imported before the first reading.
_LIBRARIES = {
    "litert": ("ai_edge_litert.interpreter",),
    MAPPED: ("ai_edge_litert.compiled_model", "ai_edge_litert.schema_py_generated"),
    "tflite-runtime": ("tflite_runtime.interpreter",),
    "onnxruntime": ("onnxruntime",),
}


def measure(path: Path, runtime: str, *, threads: int = 1, warmup: int = 5, runs: int = 30) -> dict[str, Any]:
    """Runs the file in a fresh process.

    Returns latency in ms (median and 90th percentile over `runs` inferences of random inputs), peak memory in bytes
    beyond what the process held before loading the file, and the conditions. Runtime `litert-mapped` is LiteRT with
    reordered weights in a mapped file (`runtime.runners.MappedRunner`), which an earlier process has written.

    Raises:
        DataError: the process failed or did not end.
    """
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        words = [str(path), runtime, folder, str(threads)]
        if runtime == MAPPED:
            _child([*words, "0", "1"])  # writes the cache
        return _child([*words, str(warmup), str(runs)])


def _child(words: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])}
    command = [sys.executable, "-c", "from runtime.measure import serve; serve()", *words]
    what = f"measuring {Path(words[0]).name} in {words[1]}"
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{what} was given up after {_TIMEOUT_S:.0f} s") from error
    if result.returncode:
        last = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise DataError(f"{what} failed: {last[0]}")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def _measure_here(path: Path, runtime: str, folder: Path, threads: int, warmup: int, runs: int) -> dict[str, Any]:
    for module in (*_LIBRARIES[runtime], "numpy.random"):
        importlib.import_module(module)
    before = _peak_bytes()
    cache = folder / "weights.xnnpack" if runtime == MAPPED else None
    model = open_here(path, runtime, threads=threads, weight_cache=cache)
    return _run(model, before, runtime, threads, warmup, runs)


def _run(model: Runner, before: int, runtime: str, threads: int, warmup: int, runs: int) -> dict[str, Any]:
    feed = {t.name: random_input(t) for t in model.inputs}
    inputs_bytes = sum(array.nbytes for array in feed.values())
    for _ in range(warmup):
        model(feed)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        model(feed)
        times.append(1e3 * (time.perf_counter() - start))
    return {
        "runtime": runtime,
        "threads": threads,
        "machine": platform.machine(),
        "runs": runs,
        "latency_ms_median": float(np.median(times)),
        "latency_ms_p90": float(np.percentile(times, 90)),
        "peak_bytes": _peak_bytes() - before - inputs_bytes,
    }


def random_input(info: TensorInfo) -> Array:
    """As a device would write it, in the type of the file; copies of it would count as the model's memory.

    Float values are uniform in [0, 1), integers uniform over their type; the same at every call.
    """
    rng = np.random.default_rng(0)
    if info.dtype == "float32":
        return rng.random(info.shape, dtype=np.float32)
    return np.frombuffer(rng.bytes(int(np.prod(info.shape))), info.dtype).reshape(info.shape)


def _peak_bytes() -> int:
    """Largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which on Linux starts at the parent's size.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve() -> None:
    """The fresh process."""
    path, runtime, folder, *numbers = sys.argv[1:]
    json.dump(_measure_here(Path(path), runtime, Path(folder), *map(int, numbers)), sys.stdout)

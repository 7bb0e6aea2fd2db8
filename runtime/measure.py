"""Latency and memory of a model file in a process of its own.

Imports the runtime and NumPy alone, so that the peak belongs to the model.
"""

from __future__ import annotations

import importlib
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from console.child import run_function

from .manifest import TensorInfo
from .runners import Array, open_here

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
        words = [str(path.resolve()), runtime, folder, threads]
        if runtime == MAPPED:
            _in_a_child([*words, 0, 1])  # writes the cache
        return _in_a_child([*words, warmup, runs])


def _in_a_child(words: list[Any]) -> dict[str, Any]:
    what = f"measuring {Path(words[0]).name} in {words[1]}"
    document: dict[str, Any] = run_function("runtime.measure:measure_here", *words, what=what, timeout_s=_TIMEOUT_S)
    return document


def measure_here(path: str, runtime: str, folder: str, threads: int, warmup: int, runs: int) -> dict[str, Any]:
    """`measure` in this process, whose peak of memory must be its own; reordered weights lie in `folder`."""
    for module in (*_LIBRARIES[runtime], "numpy.random"):
        importlib.import_module(module)
    before = _peak_bytes()
    cache = Path(folder) / "weights.xnnpack" if runtime == MAPPED else None
    model = open_here(Path(path), runtime, threads=threads, weight_cache=cache)
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
    """A random input in the type of the file, since a conversion would count as the model's memory.

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

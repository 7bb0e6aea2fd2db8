"""Time, size and memory of INT8 and float32 model files beside a plain export: `python -m benchmarks.int8`.

All files of a runtime run in one process, in turn and in a new order every round, so that whatever else the machine
does meets all of them alike; a ratio compares files within the rounds. The clock runs during the inference alone.
What INT8 gains depends on the processor's 8-bit instructions, so the document says which there are and how fast one
large convolution is with and without.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.files import atomic_file
from console.program import add_common_options, log, make_parser, run_as_main, show, show_json, warn
from console.table import format_table
from preprocess.errors import DataError, PocketHarError, UsageError
from runtime.manifest import file_sha256, read_artifact
from runtime.measure import MAPPED, measure

from .plain import GEMM_COLUMNS, GEMM_DEPTH, GEMM_ROWS, write_gemm
from .provenance import provenance

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SCHEMA_VERSION = 1
RESULT = Path(__file__).parent / "results" / "int8.json"
RUNTIMES = {".tflite": "litert", ".onnx": "onnxruntime"}
PLAIN_FLOAT = "plain float32"
PLAIN_FILES = {"plain-float32": PLAIN_FLOAT, "plain-int8": "plain INT8"}
CPU_FLAGS = ("avx2", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
WIDE_SPREAD = 0.25  # p90 / median − 1 above which a timing is called unsteady
PACKAGES = ("numpy", "tensorflow", "tf-keras", "ai-edge-litert", "onnx", "tf2onnx", "onnxruntime")

_WARMUP = 3
_MEMORY_RUNS = 3
_RESAMPLES = 2000
_NONZERO = 0.05  # share of a skeleton's heatmaps that a body covers
# Random weights: the recordings only have to make the export run. Time does not depend on the values.
# Strides as keras.applications has them, so that ours and the plain files are the same network.
_EXPORT = ["--preset", "paper", "--init", "random", "--stride-on", "1x1", "--calibration", "4", "--recordings", "2"]


@dataclass(frozen=True)
class ModelFile:
    """A file to measure: the name it has in the table, and where it is."""

    name: str
    path: Path

    @property
    def runtime(self) -> str:
        return RUNTIMES[self.path.suffix]


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.int8", "Compare INT8 and float32 model files with a plain export.")
    parser.add_argument("--plain", type=Path, metavar="DIR", help="files of `benchmarks.plain` (default: made anew)")
    parser.add_argument(
        "--ours", nargs="+", metavar="NAME=FILE", help=".tflite or .onnx files (default: exported anew, preset paper)"
    )
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="timed rounds (default 30)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="threads (default 1 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of inputs and order (default 0)")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE", help="result file")
    add_common_options(parser)
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.runs < 10:
        raise UsageError(f"--runs is {options.runs}; a median needs at least 10")
    if min(options.threads) < 1:
        raise UsageError(f"--threads has {min(options.threads)}; use positive numbers")
    threads = sorted(set(options.threads))
    ours = [_named_file(text) for text in options.ours or ()]
    plain = _plain_files(options.plain) if options.plain else []
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as name:
        folder = Path(name)
        if not options.plain:
            _call("benchmarks.plain", str(folder / "plain"))
            plain = _plain_files(folder / "plain")
        files = [*plain, *(ours or _export_ours(folder))]
        _refuse_twins(files)
        entries = _measure(files, threads, options)
        gemm = [ModelFile(path.stem, path) for path in write_gemm(folder)]
        gemm_entries = _measure_gemm(gemm, threads, options)
    command = f"python -m benchmarks.int8 --runs {options.runs} --threads {' '.join(map(str, threads))}"
    command += " --plain DIR" if options.plain else ""
    command += " --ours NAME=FILE" if ours else ""
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "int8",
        "provenance": provenance(f"{command} --seed {options.seed}", packages=PACKAGES),
        "seed": options.seed,
        "threads": threads,
        "warmup_runs": _WARMUP,
        "cpu_flags": cpu_flags(),
        "files": entries,
        "gemm": {"rows": GEMM_ROWS, "depth": GEMM_DEPTH, "columns": GEMM_COLUMNS, "results": gemm_entries},
    }
    with atomic_file(options.out) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _warn_if_unsteady(entries)
    if options.json:
        show_json(document)
    else:
        show(f"{latency_table(document)}\n\n{gemm_table(document)}")


def _named_file(text: str) -> ModelFile:
    name, _, path = text.partition("=")
    if not name or not path:
        raise UsageError(f"--ours has {text!r}; write NAME=FILE")
    file = ModelFile(name, Path(path))
    if file.path.suffix not in RUNTIMES:
        raise UsageError(f"{path} is no model file; use one that ends in {' or '.join(RUNTIMES)}")
    if not file.path.is_file():
        raise DataError(f"{path} does not exist")
    return file


def _plain_files(folder: Path) -> list[ModelFile]:
    """Those of the plain files that are in the folder."""
    paths = [folder / f"{stem}{suffix}" for suffix in RUNTIMES for stem in PLAIN_FILES]
    files = [ModelFile(PLAIN_FILES[path.stem], path) for path in paths if path.is_file()]
    if not files:
        raise DataError(f"{folder} holds no {paths[0].name}; make it with `python -m benchmarks.plain {folder}`")
    return files


def _refuse_twins(files: Sequence[ModelFile]) -> None:
    names = [(file.runtime, file.name) for file in files]
    for runtime, name in names:
        if names.count((runtime, name)) > 1:
            raise UsageError(f"two {runtime} files are called {name!r}; give them different names")


def _export_ours(folder: Path) -> list[ModelFile]:
    """Ours with both normalizations in float32 and INT8, for both runtimes, with random weights."""
    files = []
    for file_format, words in (("tflite", []), ("onnx", ["--target", "x86"])):
        for norm in ("batch", "layer"):
            for label, precision in (("float32", []), ("INT8", ["--int8"])):
                out = folder / f"{file_format}-{norm}-{label}"
                _call("export", file_format, *_EXPORT, "--audio-norm", norm, *words, *precision, "--out", str(out))
                files.append(ModelFile(f"{norm} norm {label}", read_artifact(out)[1]))
    return files


def _call(package: str, *words: str) -> None:
    """Runs one of the project's commands. Exit code 1, an artefact that missed a tolerance, is only warned about."""
    log(f"python -m {package} {' '.join(w for w in words if '/' not in w)}")
    command = [sys.executable, "-m", package, *words]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=sys.stderr, check=False)
    if result.returncode == 1:
        warn(f"python -m {package} {words[0]} wrote a file that is not verified; it is measured all the same")
    elif result.returncode:
        raise PocketHarError(f"python -m {package} {words[0]} ended with exit code {result.returncode}")


def _measure(files: Sequence[ModelFile], threads: Sequence[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One entry for every file, in the order given."""
    samples = time_all(files, threads, options)
    entries = []
    for index, file in enumerate(files):
        log(f"memory of {file.name} in {file.runtime}")
        base = next((i for i, f in enumerate(files) if (f.name, f.runtime) == (PLAIN_FLOAT, file.runtime)), None)
        latency = {str(n): summary(s[index], None if base is None else s[base]) for n, s in samples.items()}
        entries.append(
            {
                "name": file.name,
                "runtime": file.runtime,
                "size_bytes": file.path.stat().st_size,
                "sha256": file_sha256(file.path),
                "peak_bytes": _peak_bytes(file, file.runtime),
                # Weights in a mapped file instead of twice in memory.
                "peak_bytes_mapped": _peak_bytes(file, MAPPED) if file.runtime == "litert" else None,
                "latency": latency,
            }
        )
    return entries


def _measure_gemm(
    files: Sequence[ModelFile], threads: Sequence[int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    samples = time_all(files, threads, options)
    macs = GEMM_ROWS * GEMM_DEPTH * GEMM_COLUMNS
    entries = []
    for index, file in enumerate(files):
        latency = {str(n): summary(s[index]) for n, s in samples.items()}
        speed = {n: macs / (1e6 * entry["median_ms"]) for n, entry in latency.items()}
        entries.append({"name": file.name, "runtime": file.runtime, "gmac_per_s": speed, "latency": latency})
    return entries


def time_all(
    files: Sequence[ModelFile], threads: Sequence[int], options: argparse.Namespace
) -> dict[int, list[list[float]]]:
    """Milliseconds of every round of every file, by threads."""
    times: dict[int, list[list[float]]] = {count: [[] for _ in files] for count in threads}
    for runtime in dict.fromkeys(file.runtime for file in files):
        indices = [index for index, file in enumerate(files) if file.runtime == runtime]
        for count in threads:
            log(f"{len(indices)} files in {runtime}, threads: {count}")
            job = {
                "paths": [str(files[index].path) for index in indices],
                "runtime": runtime,
                "threads": count,
                "runs": options.runs,
                "seed": options.seed,
            }
            child = ["-c", "from benchmarks.int8 import serve; serve()"]
            for index, samples_ms in zip(indices, _child(child, runtime, json.dumps(job)), strict=True):
                times[count][index] = samples_ms
    return times


def _peak_bytes(file: ModelFile, runtime: str) -> int:
    return int(measure(file.path, runtime, warmup=1, runs=_MEMORY_RUNS)["peak_bytes"])


def _child(words: Sequence[str], what: str, job: str = "") -> Any:
    """The JSON that a fresh Python process prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])}
    command = [sys.executable, *words]
    result = subprocess.run(command, input=job, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        last = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise DataError(f"measuring {what} failed: {last[0]}")
    return json.loads(result.stdout)


def serve() -> None:
    """The child process: reads a job as JSON, prints the milliseconds of every round for every file."""
    json.dump(_time_in_turn(**json.load(sys.stdin)), sys.stdout)


def _time_in_turn(paths: Sequence[str], runtime: str, threads: int, runs: int, seed: int) -> list[list[float]]:
    import numpy as np

    open_file = {"litert": _open_tflite, "onnxruntime": _open_onnx}[runtime]
    infer = [open_file(path, threads, np.random.default_rng(seed)) for path in paths]
    samples_ms: list[list[float]] = [[] for _ in infer]
    order = np.random.default_rng(seed)
    for round_ in range(_WARMUP + runs):
        for index in order.permutation(len(infer)).tolist():
            start = time.perf_counter()
            infer[index]()
            if round_ >= _WARMUP:
                samples_ms[index].append(round((time.perf_counter() - start) * 1e3, 4))
    return samples_ms


def _open_tflite(path: str, threads: int, rng: np.random.Generator) -> Callable[[], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        scale, zero_point = detail["quantization"]
        interpreter.set_tensor(
            detail["index"], random_input(detail["name"], detail["shape"], detail["dtype"], rng, scale, zero_point)
        )
    return interpreter.invoke  # type: ignore[no-any-return]


def _open_onnx(path: str, threads: int, rng: np.random.Generator) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait busily for more work would take the cores from the next file.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
    feed = {node.name: random_input(node.name, node.shape, types[node.type], rng) for node in session.get_inputs()}
    return lambda: session.run(None, feed)


def random_input(
    name: str, shape: Sequence[int], dtype: Any, rng: np.random.Generator, scale: float = 0.0, zero_point: int = 0
) -> Array:
    """An input of the model: for `skeleton` zeros with values in [0, 1] here and there, otherwise normal.

    An integer tensor is quantized; without a `scale`, every value of its type is as likely.
    """
    import numpy as np

    integer = np.issubdtype(dtype, np.integer)
    if integer and not scale:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if "skeleton" in name:
        values = rng.random(shape, np.float32) * (rng.random(shape, np.float32) < _NONZERO)
    else:
        values = rng.standard_normal(shape, np.float32)
    if integer:
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
    return values.astype(dtype)


def summary(samples_ms: Sequence[float], base_ms: Sequence[float] | None = None) -> dict[str, Any]:
    """Median and 90th percentile, and the ratio of the medians to those of `base_ms`, whose rounds are the same.

    The 95 % interval of the ratio comes from resampling the rounds.
    """
    import numpy as np

    samples = np.asarray(samples_ms)
    median, p90 = np.quantile(samples, (0.5, 0.9)).tolist()
    result: dict[str, Any] = {"median_ms": median, "p90_ms": p90, "ratio": None, "ratio_interval95": None}
    if base_ms is not None:
        base = np.asarray(base_ms)
        rounds = np.random.default_rng(0).integers(len(samples), size=(_RESAMPLES, len(samples)))
        ratios = np.median(samples[rounds], axis=1) / np.median(base[rounds], axis=1)
        result["ratio"] = median / float(np.median(base))
        result["ratio_interval95"] = np.quantile(ratios, (0.025, 0.975)).tolist()
    return {**result, "samples_ms": samples.tolist()}


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, bool] | None:
    """Which of CPU_FLAGS the processor has; None where the system does not say."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return {flag: flag in value.split() for flag in CPU_FLAGS}
    return None


def _warn_if_unsteady(entries: Sequence[dict[str, Any]]) -> None:
    unsteady = [
        f"{entry['name']} ({entry['runtime']}, threads: {threads})"
        for entry in entries
        for threads, timing in entry["latency"].items()
        if timing["p90_ms"] > (1 + WIDE_SPREAD) * timing["median_ms"]
    ]
    if unsteady:
        warn(f"times spread by more than {WIDE_SPREAD:.0%}: {', '.join(unsteady)}; leave the machine alone, run again")


def latency_table(document: dict[str, Any]) -> str:
    """Every file: size, median latency, how many times as fast as plain float32 in its runtime, peak memory."""
    header = ["file", "size", *(f"latency, threads: {n}" for n in document["threads"]), "peak memory", "mapped"]
    rows = [
        [
            f"{entry['runtime']}, {entry['name']}",
            f"{entry['size_bytes'] / 1e6:.1f} MB",
            *(_timing(entry["latency"][str(n)]) for n in document["threads"]),
            f"{entry['peak_bytes'] / 1e6:.0f} MB",
            f"{entry['peak_bytes_mapped'] / 1e6:.0f} MB" if entry["peak_bytes_mapped"] else "",
        ]
        for entry in document["files"]
    ]
    return format_table(header, rows)


def _timing(timing: dict[str, Any]) -> str:
    text = f"{timing['median_ms']:.1f} ms"
    if timing["ratio"] is None:
        return text
    low, high = timing["ratio_interval95"]
    return f"{text}, {1 / timing['ratio']:.2f}× [{1 / high:.2f}, {1 / low:.2f}]"


def gemm_table(document: dict[str, Any]) -> str:
    """Speed of one product of matrices in every runtime and type, and the processor's 8-bit instructions."""
    gemm, flags = document["gemm"], document["cpu_flags"]
    size = f"{gemm['rows']} × {gemm['depth']} by {gemm['depth']} × {gemm['columns']}"
    header = [f"product {size}", *(f"GMAC/s, threads: {n}" for n in document["threads"])]
    rows = [
        [f"{entry['runtime']}, {entry['name']}", *(f"{entry['gmac_per_s'][str(n)]:.1f}" for n in document["threads"])]
        for entry in gemm["results"]
    ]
    found = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in (flags or {}).items())
    return f"{format_table(header, rows)}\n\nprocessor: {found or 'flags unknown'}"


if __name__ == "__main__":
    run_as_main(build_parser())

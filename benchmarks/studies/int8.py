"""Time, size and memory of INT8 and float32 model files beside a plain export: `python -m benchmarks.int8`.

All files of a runtime run in turn, and get random tensors: a plain file does not say what
belongs into it. A ratio compares files within the rounds. The clock runs during the inference alone. What INT8 gains
depends on the processor's 8-bit instructions, so the document says which there are and how fast one large convolution
is with and without.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.program import add_common_options, log, make_parser, named_path, run_as_main, show, show_json, warn
from console.table import format_table
from preprocess.errors import DataError, PocketHarError, UsageError
from runtime.manifest import file_sha256, read_artifact

from ..measure.provenance import INSTRUCTIONS, instructions, provenance
from ..measure.result_files import write_result
from .plain import GEMM_COLUMNS, GEMM_DEPTH, GEMM_ROWS, write_gemm

if TYPE_CHECKING:
    from ..measure.runner import Contender

SCHEMA_VERSION = 1
RESULT = Path(__file__).parents[1] / "results" / "int8.json"
RUNTIMES = {".tflite": "litert", ".onnx": "onnxruntime"}
PLAIN_FLOAT = "plain float32"
PLAIN_FILES = {"plain-float32": PLAIN_FLOAT, "plain-int8": "plain INT8"}
PACKAGES = ("numpy", "tensorflow", "tf-keras", "ai-edge-litert", "onnx", "tf2onnx", "onnxruntime")

# Random weights: the recordings only have to make the export run. Time does not depend on the values.
# Strides as keras.applications has them, so that ours and the plain files are the same network.
_EXPORT = ["--preset", "paper", "--init", "random", "--stride-on", "1x1", "--calibration", "4", "--recordings", "2"]


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.studies.int8", "Compare INT8 and float32 model files with a plain export.")
    parser.add_argument(
        "--plain", type=Path, metavar="DIR", help="files of `benchmarks.studies.plain` (default: made anew)"
    )
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
    from ..measure.runner import WARMUP

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
            _call("benchmarks.studies.plain", str(folder / "plain"))
            plain = _plain_files(folder / "plain")
        files = [*plain, *(ours or _export_ours(folder))]
        _refuse_twins(files)
        entries = _measure(files, threads, options)
        gemm = [_model_file(path.stem, path) for path in write_gemm(folder)]
        gemm_entries = _measure_gemm(gemm, threads, options)
    command = f"python -m benchmarks.int8 --runs {options.runs} --threads {' '.join(map(str, threads))}"
    command += " --plain DIR" if options.plain else ""
    command += " --ours NAME=FILE" if ours else ""
    found = instructions()
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "int8",
        "provenance": provenance(f"{command} --seed {options.seed}", packages=PACKAGES),
        "seed": options.seed,
        "threads": threads,
        "warmup_runs": WARMUP,
        "cpu_flags": None if found is None else {name: name in found for name in INSTRUCTIONS},
        "files": entries,
        "gemm": {"rows": GEMM_ROWS, "depth": GEMM_DEPTH, "columns": GEMM_COLUMNS, "results": gemm_entries},
    }
    write_result(document, options.out)
    _warn_if_unsteady(entries)
    if options.json:
        show_json(document)
    else:
        show(f"{latency_table(document)}\n\n{gemm_table(document)}")


def _model_file(name: str, path: Path) -> Contender:
    from ..measure.runner import Contender

    return Contender(name, path, RUNTIMES[path.suffix])


def _named_file(text: str) -> Contender:
    name, path = named_path(text)
    if not name:
        raise UsageError(f"--ours has {text!r}; write NAME=FILE")
    if path.suffix not in RUNTIMES:
        raise UsageError(f"{path} is no model file; use one that ends in {' or '.join(RUNTIMES)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    return _model_file(name, path)


def _plain_files(folder: Path) -> list[Contender]:
    """Those of the plain files that are in the folder."""
    paths = [folder / f"{stem}{suffix}" for suffix in RUNTIMES for stem in PLAIN_FILES]
    files = [_model_file(PLAIN_FILES[path.stem], path) for path in paths if path.is_file()]
    if not files:
        raise DataError(f"{folder} holds no {paths[0].name}; make it with `python -m benchmarks.plain {folder}`")
    return files


def _refuse_twins(files: Sequence[Contender]) -> None:
    names = [(file.runtime, file.name) for file in files]
    for runtime, name in names:
        if names.count((runtime, name)) > 1:
            raise UsageError(f"two {runtime} files are called {name!r}; give them different names")


def _export_ours(folder: Path) -> list[Contender]:
    """Ours with both normalizations in float32 and INT8, for both runtimes, with random weights."""
    files = []
    for file_format, words in (("tflite", []), ("onnx", ["--target", "x86"])):
        for norm in ("batch", "layer"):
            for label, precision in (("float32", []), ("INT8", ["--int8"])):
                out = folder / f"{file_format}-{norm}-{label}"
                _call("export", file_format, *_EXPORT, "--audio-norm", norm, *words, *precision, "--out", str(out))
                files.append(_model_file(f"{norm} norm {label}", read_artifact(out)[1]))
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


def _measure(files: Sequence[Contender], threads: Sequence[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One entry for every file, in the order given."""
    from ..measure.runner import memory_of

    samples = _time_all(files, threads, options)
    entries = []
    for index, file in enumerate(files):
        log(f"memory of {file.name} in {file.runtime}")
        base = next((i for i, f in enumerate(files) if (f.name, f.runtime) == (PLAIN_FLOAT, file.runtime)), None)
        latency = {str(n): summary(s[index], None if base is None else s[base]) for n, s in samples.items()}
        memory = memory_of(file)
        entries.append(
            {
                "name": file.name,
                "runtime": file.runtime,
                "size_bytes": file.model.stat().st_size,
                "sha256": file_sha256(file.model),
                "peak_bytes": memory.peak_bytes,
                "peak_bytes_mapped": memory.mapped_peak_bytes,
                "latency": latency,
            }
        )
    return entries


def _measure_gemm(
    files: Sequence[Contender], threads: Sequence[int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    samples = _time_all(files, threads, options)
    macs = GEMM_ROWS * GEMM_DEPTH * GEMM_COLUMNS
    entries = []
    for index, file in enumerate(files):
        latency = {str(n): summary(s[index]) for n, s in samples.items()}
        speed = {n: macs / (1e6 * entry["median_ms"]) for n, entry in latency.items()}
        entries.append({"name": file.name, "runtime": file.runtime, "gmac_per_s": speed, "latency": latency})
    return entries


def _time_all(
    files: Sequence[Contender], threads: Sequence[int], options: argparse.Namespace
) -> dict[int, list[list[float]]]:
    """Milliseconds of every round of every file, by threads; the files of a runtime take turns."""
    from ..measure.runner import time_in_turn

    times: dict[int, list[list[float]]] = {count: [[] for _ in files] for count in threads}
    for runtime in dict.fromkeys(file.runtime for file in files):
        indices = [index for index, file in enumerate(files) if file.runtime == runtime]
        for count in threads:
            log(f"{len(indices)} files in {runtime}, threads: {count}")
            own = [replace(files[index], threads=count) for index in indices]
            for index, found in zip(indices, time_in_turn(own, rounds=options.runs, seed=options.seed), strict=True):
                times[count][index] = found.inference_ms
    return times


def summary(samples_ms: Sequence[float], base_ms: Sequence[float] | None = None) -> dict[str, Any]:
    """What a result file says of one timing: `base_ms` is of the same rounds, and `ratio` of the medians to it."""
    from ..measure.statistics import ratio_of_medians, summarize

    own = summarize(samples_ms)
    ratio = None if base_ms is None else ratio_of_medians(samples_ms, base_ms, paired=True)
    return {
        "median_ms": own.median_ms,
        "p90_ms": own.p90_ms,
        "ratio": ratio and ratio.value,
        "ratio_interval95": ratio and [ratio.low, ratio.high],
        "samples_ms": list(samples_ms),
    }


def _warn_if_unsteady(entries: Sequence[dict[str, Any]]) -> None:
    from ..measure.statistics import WIDE_SPREAD

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

"""`python -m benchmarks latency`: artefacts side by side in the runtimes that people deploy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from console.options import command_line
from console.program import named_path, show, show_json, warn
from console.table import format_table
from preprocess.errors import UsageError
from runtime.manifest import read_artifact
from runtime.runners import RUNTIMES_OF_FORMAT, require_installed

from .provenance import environment
from .records import Measurement, Record, write_record
from .runner import artifact_contenders, measure_all
from .statistics import ratio_of_medians, reasons_for_doubt, summarize, verdict

PACKAGES = ("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime")
SAME_RUN_NOISE = 0.02  # what one file in two processes of a run may differ by, as where its memory came to lie


def latency_command(options: argparse.Namespace) -> None:
    """Measures, writes the record, shows it.

    Raises:
        UsageError: an option has a value that cannot be.
        MissingComponentError: a runtime is not installed.
        DataError: a folder is no artefact, or a process failed.
    """
    folders = [named_path(word) for word in options.artifacts]
    threads = sorted(set(options.threads))
    contenders = artifact_contenders(
        folders,
        [_runtimes_for(folder, options.runtime) for _, folder in folders],
        threads,
        data=options.data,
        recordings=options.recordings,
        seed=options.seed,
    )
    measurements = measure_all(contenders, rounds=options.rounds, seed=options.seed)
    origin = environment(command_line(options), packages=PACKAGES)
    unsteady = doubts(measurements)
    crowded = tuple(
        f"{count} threads ran on {origin.machine.cores} cores" for count in threads if count > origin.machine.cores
    )
    record = Record(origin, options.seed, options.rounds, measurements, (*crowded, *unsteady))
    if options.out:
        write_record(record, options.out)
    for warning in crowded:
        warn(warning)
    if unsteady:
        more = f" (and {len(unsteady) - 1} more, all in the record)" if len(unsteady) > 1 else ""
        warn(f"times are unsteady, leave the machine alone and measure again: {unsteady[0]}{more}")
    if options.json:
        show_json(record.to_dict())
    else:
        show(latency_table(record))


def _runtimes_for(folder: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    file_format = read_artifact(folder)[0].format
    able = RUNTIMES_OF_FORMAT[file_format]
    chosen = tuple(name for name in able if name in wanted) if wanted else able[:1]
    if not chosen:
        named = " ".join(wanted or ())
        raise UsageError(f"--runtime is {named}, but {folder} is {file_format}; add {' or '.join(able)}")
    for name in chosen:
        require_installed(name)
    return chosen


def doubts(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """The timings during which the machine was too noisy to tell much, and why."""
    found = []
    for own in measurements:
        parts = {"inference": own.inference, "preprocessing": own.preprocessing}
        for part, timing in parts.items():
            reasons = reasons_for_doubt(timing.samples_ms) if timing else ()
            if reasons:
                found.append(f"{part} of {own.subject.label}: {' and '.join(reasons)}")
    return tuple(found)


def latency_table(record: Record) -> str:
    """A row for every subject; the ratio is to the first of the same number of threads."""
    header = ["artefact", "runtime", "threads", "preprocessing", "inference", "p90", "p99", "spread", "FPS", "peak RAM"]
    rows = []
    for own in record.measurements:
        inference = summarize(own.inference.samples_ms)
        before = summarize(own.preprocessing.samples_ms) if own.preprocessing else None
        rows.append(
            [
                own.subject.name,
                own.subject.runtime,
                str(own.subject.threads),
                f"{before.median_ms:.2f} ms" if before else "",
                f"{inference.median_ms:.2f} ms",
                f"{inference.p90_ms:.2f} ms",
                f"{inference.p99_ms:.2f} ms",
                f"{inference.spread:.0%}",
                f"{inference.fps:.1f}",
                f"{own.memory.peak_bytes / 1e6:.1f} MB" if own.memory else "",
                _against(own, _base_of(own, record)),
            ]
        )
    machine = record.environment.machine
    title = f"Median of {record.rounds} rounds on {machine.cpu}, {machine.cores} cores; FPS of inference alone"
    return format_table([*header, "time against the first"], rows, title=title)


def _base_of(own: Measurement, record: Record) -> Measurement:
    return next(other for other in record.measurements if other.subject.threads == own.subject.threads)


def _against(own: Measurement, base: Measurement) -> str:
    if own is base:
        return "first"
    ratio = ratio_of_medians(own.inference.samples_ms, base.inference.samples_ms, paired=True)
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}] {verdict(ratio, noise=SAME_RUN_NOISE)}"

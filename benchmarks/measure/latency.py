"""`python -m benchmarks latency`: artifacts side by side in the runtimes that people deploy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from console.options import command_line
from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import UsageError
from runtime.artifact import Artifact, named_path
from runtime.runners import RUNTIMES_OF_FORMAT, require_installed

from .provenance import environment
from .records import Measurement, Record, write_record
from .runner import artifact_contenders, measure_all
from .statistics import judge_ratio, ratio_of_medians, reasons_for_doubt, summarize

PACKAGES = ("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime")
SAME_RUN_NOISE = 0.02  # difference between two processes of one file in a run, for example by the memory's placement


def latency_command(options: argparse.Namespace) -> None:
    """Measures, writes the record, shows it.

    Raises:
        UsageError: a runtime cannot read an artifact, or two artifacts have the same name.
        MissingComponentError: a runtime is not installed.
        DataError: a folder is not an artifact, or a process failed.
    """
    threads = sorted(set(options.threads))
    opened = [Artifact.open(folder, name=name) for name, folder in map(named_path, options.artifacts)]
    contenders = artifact_contenders(
        [in_runtime for artifact in opened for in_runtime in _in_runtimes(artifact, options.runtime)],
        threads,
        data=options.data,
        limit=options.recordings,
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


def _in_runtimes(artifact: Artifact, wanted: Sequence[str] | None) -> list[Artifact]:
    """The artifact in each wanted runtime that reads its format; by default in the first."""
    file_format = artifact.manifest.format
    able = RUNTIMES_OF_FORMAT[file_format]
    chosen = [name for name in able if name in wanted] if wanted else able[:1]
    if not chosen:
        named = " ".join(wanted or ())
        raise UsageError(f"--runtime is {named}, but {artifact.folder} is {file_format}; add {' or '.join(able)}")
    for name in chosen:
        require_installed(name)
    return [replace(artifact, runtime=name) for name in chosen]


def doubts(measurements: Sequence[Measurement]) -> tuple[str, ...]:
    """The timings during which the machine was too noisy for a conclusion, and why."""
    warnings = []
    for measurement in measurements:
        for part, timing in (("inference", measurement.inference), ("preprocessing", measurement.preprocessing)):
            reasons = reasons_for_doubt(timing.samples_ms) if timing else ()
            if reasons:
                warnings.append(f"{part} of {measurement.subject.label}: {' and '.join(reasons)}")
    return tuple(warnings)


def latency_table(record: Record) -> str:
    """A row for every subject; the ratio is to the first with the same number of threads."""
    header = ["artifact", "runtime", "threads", "preprocessing", "inference", "p90", "p99", "spread", "FPS", "peak RAM"]
    rows = []
    bases: dict[int, Measurement] = {}
    for measurement in record.measurements:
        subject, samples_ms = measurement.subject, measurement.inference.samples_ms
        base = bases.setdefault(subject.threads, measurement)
        inference = summarize(samples_ms)
        preprocessing = summarize(measurement.preprocessing.samples_ms) if measurement.preprocessing else None
        comparison = "first"
        if measurement is not base:
            ratio = ratio_of_medians(samples_ms, base.inference.samples_ms, paired=True)
            comparison = f"{ratio} {judge_ratio(ratio, noise=SAME_RUN_NOISE)}"
        rows.append(
            [
                subject.name,
                subject.runtime,
                str(subject.threads),
                f"{preprocessing.median_ms:.2f} ms" if preprocessing else "",
                f"{inference.median_ms:.2f} ms",
                f"{inference.p90_ms:.2f} ms",
                f"{inference.p99_ms:.2f} ms",
                f"{inference.spread:.0%}",
                f"{inference.fps:.1f}",
                f"{measurement.memory.peak_bytes / 1e6:.1f} MB" if measurement.memory else "",
                comparison,
            ]
        )
    machine = record.environment.machine
    title = f"Median of {record.rounds} rounds on {machine.cpu}, {machine.cores} cores; FPS of inference alone"
    return format_table([*header, "time against the first"], rows, title=title)

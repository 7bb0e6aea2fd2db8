"""`python -m benchmarks compare`: changes between two records of one machine, separated from chance."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import AnswerIsNo, DataError

from .records import Measurement, Record, Timing, read_record
from .statistics import Ratio, Summary, Verdict, judge_ratio, ratio_of_medians, reasons_for_doubt, summarize

SCHEMA_VERSION = 1
FEWEST_SAMPLES = 5  # an interval from fewer is meaningless; some tools report one time for each process


@dataclass(frozen=True)
class PartChange:
    """Change of preprocessing or inference: both medians, their ratio with its interval, and the verdict.

    Rounds of two runs have nothing in common, so each run is resampled separately. The interval does not include
    changes of the machine between the runs; `doubts` lists signs of them within a run, too few samples, and reasons
    why a device's measurement does not count.
    """

    part: str
    before: Summary
    after: Summary
    ratio: Ratio
    verdict: Verdict
    doubts: tuple[str, ...]


# The measurements of one subject, before and after, and its parts.
Change: TypeAlias = tuple[Measurement, Measurement, tuple[PartChange, ...]]


def compare_command(options: argparse.Namespace) -> None:
    """Compares and shows.

    Raises:
        DataError: a file is not a record, the machines differ, no subject is in both, or the machine was too noisy to
            decide whether a subject exceeds --max-slowdown.
        AnswerIsNo: a subject exceeds --max-slowdown.
    """
    limit = options.max_slowdown
    before, after = read_record(options.before), read_record(options.after)
    _require_same_machine(before, after, options.before, options.after)
    changes = compare(before, after, noise=options.noise)
    only_before, only_after = _labels_only_in(before, after), _labels_only_in(after, before)
    for path, record, labels in ((options.before, before, only_before), (options.after, after, only_after)):
        if record.warnings:
            more = f" (and {len(record.warnings) - 1} more)" if len(record.warnings) > 1 else ""
            warn(f"{path} carries a warning: {record.warnings[0]}{more}")
        if labels:
            warn(f"only in {path}, not compared: {', '.join(labels)}")
    slower, unclear = _beyond(changes, limit) if limit is not None else ([], [])
    if options.json:
        show_json(
            {
                "schema_version": SCHEMA_VERSION,
                "before": asdict(before.environment),
                "after": asdict(after.environment),
                "noise": options.noise,
                "max_slowdown": limit,
                "too_slow": slower,
                "too_noisy_to_tell": unclear,
                "changes": [_entry(change) for change in changes],
                "only_before": only_before,
                "only_after": only_after,
            }
        )
    else:
        show(comparison_table(changes))
    if slower:
        raise AnswerIsNo(f"more than {limit:g} times as slow, with 95 % confidence: {'; '.join(slower)}")
    if unclear:
        raise DataError(
            f"the machine was too noisy to decide whether these are more than {limit:g} times as slow, leave it alone "
            f"and measure both again: {'; '.join(unclear)}"
        )


def _require_same_machine(before: Record, after: Record, before_path: Path, after_path: Path) -> None:
    old, new = (
        {**asdict(record.environment.machine), "device": record.device.model if record.device else None}
        for record in (before, after)
    )
    for name, value in old.items():
        if value != new[name]:
            raise DataError(
                f"the machines differ: {name} is {value!r} in {before_path} and {new[name]!r} in {after_path}; "
                "measure both on one machine"
            )


def compare(before: Record, after: Record, *, noise: float) -> tuple[Change, ...]:
    """The changes of the subjects in both records of one machine, in the order of the second.

    Subjects match by name, stream, recipe, runtime, threads and accelerator; `noise` is that of `judge_ratio`.

    Raises:
        DataError: no subject is in both, or a record has a subject twice.
    """
    old, new = _by_key(before), _by_key(after)
    common = [key for key in new if key in old]
    if not common:
        raise DataError("the records have no subject in common (name, stream, recipe, runtime and threads all count)")
    return tuple((old[key], new[key], _parts(old[key], new[key], noise)) for key in common)


def _labels_only_in(record: Record, other: Record) -> list[str]:
    keys = {measurement.subject.key for measurement in other.measurements}
    subjects = [measurement.subject for measurement in record.measurements]
    return [subject.label for subject in subjects if subject.key not in keys]


def _by_key(record: Record) -> dict[tuple[str | int | None, ...], Measurement]:
    measurements: dict[tuple[str | int | None, ...], Measurement] = {}
    for measurement in record.measurements:
        subject = measurement.subject
        if subject.key in measurements:
            raise DataError(f"a record has {subject.label} twice; measure again with different names")
        measurements[subject.key] = measurement
    return measurements


def _parts(before: Measurement, after: Measurement, noise: float) -> tuple[PartChange, ...]:
    parts = []
    for part in ("preprocessing", "inference"):
        old, new = getattr(before, part), getattr(after, part)
        if old and new:
            ratio = ratio_of_medians(new.samples_ms, old.samples_ms, paired=False)
            summaries = summarize(old.samples_ms), summarize(new.samples_ms)
            doubts = (*_doubts("before", before, old), *_doubts("after", after, new))
            parts.append(PartChange(part, *summaries, ratio, judge_ratio(ratio, noise=noise), doubts))
    return tuple(parts)


def _doubts(name: str, measurement: Measurement, timing: Timing) -> list[str]:
    """Reasons why a timing decides nothing: of the device, the number of samples and the machine."""
    samples_ms = timing.samples_ms
    reasons = list(measurement.device_run.reasons_against if measurement.device_run else ())
    if len(samples_ms) < FEWEST_SAMPLES:
        reasons.append(f"{len(samples_ms)} samples only")
    return [f"{name}, {reason}" for reason in (*reasons, *reasons_for_doubt(samples_ms))]


def _beyond(changes: Sequence[Change], limit: float) -> tuple[list[str], list[str]]:
    """Parts whose interval is above the limit: without a doubt, and on a noisy machine."""
    sure: list[str] = []
    unclear: list[str] = []
    for _, after, parts in changes:
        for part in parts:
            text = f"{part.part} of {after.subject.label}, {part.ratio}"
            if part.ratio.low > limit and part.doubts:
                unclear.append(f"{text} ({'; '.join(part.doubts)})")
            elif part.ratio.low > limit:
                sure.append(text)
    return sure, unclear


def _entry(change: Change) -> dict[str, Any]:
    *both, parts = change
    return {
        "subject": asdict(change[1].subject),
        "size_bytes": [measurement.subject.size_bytes for measurement in both],
        "peak_bytes": [measurement.memory.peak_bytes if measurement.memory else None for measurement in both],
        "parts": {part.part: {key: value for key, value in asdict(part).items() if key != "part"} for part in parts},
    }


def comparison_table(changes: Sequence[Change]) -> str:
    """Two rows at most for every subject: preprocessing and inference."""
    header = ["artifact", "runtime", "threads", "size", "peak RAM", "part", "before", "after", "after / before"]
    rows = []
    for old, new, parts in changes:
        memory = _arrow(old.memory.peak_bytes, new.memory.peak_bytes, 1) if old.memory and new.memory else ""
        size = _arrow(old.subject.size_bytes, new.subject.size_bytes, 2)
        start = [new.subject.name, new.subject.runtime, str(new.subject.threads), size, memory]
        for part in parts:
            times = [f"{summary.median_ms:.2f} ms" for summary in (part.before, part.after)]
            noisy = ", but noisy" if part.doubts and part.verdict != "no difference seen" else ""
            rows.append([*start, part.part, *times, f"{part.ratio} {part.verdict}{noisy}"])
            start = [""] * len(start)
    return format_table(header, rows)


def _arrow(before: int, after: int, digits: int) -> str:
    return f"{before / 1e6:.{digits}f} → {after / 1e6:.{digits}f} MB"

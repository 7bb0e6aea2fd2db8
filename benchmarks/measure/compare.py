"""`python -m benchmarks compare`: what changed between two records of one machine, and whether it is beyond chance."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import AnswerIsNo, DataError

from .records import Measurement, Record, Timing, read_record
from .statistics import Ratio, Summary, Verdict, ratio_of_medians, reasons_for_doubt, summarize, verdict

SCHEMA_VERSION = 1
FEWEST_SAMPLES = 5  # below, an interval from the samples says nothing; a tool may tell one time for a whole process


@dataclass(frozen=True)
class PartChange:
    """Of preprocessing or inference: both medians, the second over the first with its interval, and what to make of it.

    The rounds of two runs have nothing in common, so each run is resampled on its own. The interval knows nothing of
    what changed on the machine between the runs; `doubts` says where a run itself shows that something did, that it has
    too few samples, or that a device's measurement does not count.
    """

    part: str
    before: Summary
    after: Summary
    ratio: Ratio
    verdict: Verdict
    doubts: tuple[str, ...]

    @property
    def text(self) -> str:
        """For the table."""
        noisy = self.doubts and self.verdict != "no difference seen"
        return f"{_ratio(self.ratio)} {self.verdict}{', but noisy' if noisy else ''}"


@dataclass(frozen=True)
class Change:
    """Of one subject."""

    before: Measurement
    after: Measurement
    parts: tuple[PartChange, ...]


@dataclass(frozen=True)
class Comparison:
    """Of two records.

    Attributes:
        changes: of the subjects that both have, in the order of the second.
        only_before, only_after: labels of the others.
    """

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def compare_command(options: argparse.Namespace) -> None:
    """Compares and shows.

    Raises:
        DataError: a file is no record, the machines differ, no subject is in both, or the machine was too noisy to tell
            whether a subject is slower than --max-slowdown allows.
        AnswerIsNo: a subject became slower than --max-slowdown allows.
    """
    before, after = read_record(options.before), read_record(options.after)
    _require_same_machine(before, after, options.before, options.after)
    found = compare(before, after, noise=options.noise)
    for path, record in ((options.before, before), (options.after, after)):
        if record.warnings:
            more = f" (and {len(record.warnings) - 1} more)" if len(record.warnings) > 1 else ""
            warn(f"{path} carries a warning: {record.warnings[0]}{more}")
    for path, labels in ((options.before, found.only_before), (options.after, found.only_after)):
        if labels:
            warn(f"only in {path}, not compared: {', '.join(labels)}")
    slower, unclear = _beyond(found, options.max_slowdown)
    if options.json:
        show_json(_document(found, before, after, options, slower, unclear))
    else:
        show(comparison_table(found))
    if slower:
        raise AnswerIsNo(f"more than {options.max_slowdown:g} times as slow, with 95 % confidence: {'; '.join(slower)}")
    if unclear:
        raise DataError(
            f"the machine was too noisy to tell whether these are more than {options.max_slowdown:g} times as slow, "
            f"leave it alone and measure both again: {'; '.join(unclear)}"
        )


def _require_same_machine(before: Record, after: Record, before_path: Path, after_path: Path) -> None:
    ours, theirs = _identity(before), _identity(after)
    for name, value in ours.items():
        if value != theirs[name]:
            raise DataError(
                f"the machines differ: {name} is {value!r} in {before_path} and {theirs[name]!r} in {after_path}; "
                "measure both on one machine"
            )


def _identity(record: Record) -> dict[str, Any]:
    return {**asdict(record.environment.machine), "device": record.device.model if record.device else None}


def compare(before: Record, after: Record, *, noise: float) -> Comparison:
    """Matches subjects by name, stream, recipe, runtime, threads and accelerator, and compares their times.

    Args:
        before, after: of one machine.
        noise: see `benchmarks.measure.statistics.verdict`.

    Raises:
        DataError: no subject is in both, or one is twice in a record.
    """
    old, new = _by_key(before), _by_key(after)
    common = [key for key in new if key in old]
    if not common:
        raise DataError("the records have no subject in common (name, stream, recipe, runtime and threads all count)")
    return Comparison(
        tuple(Change(old[key], new[key], _parts(old[key], new[key], noise)) for key in common),
        tuple(own.subject.label for key, own in old.items() if key not in new),
        tuple(own.subject.label for key, own in new.items() if key not in old),
    )


def _by_key(record: Record) -> dict[tuple[str | int | None, ...], Measurement]:
    found = {own.subject.key: own for own in record.measurements}
    if len(found) != len(record.measurements):
        labels = [own.subject.label for own in record.measurements]
        twice = next((label for label in labels if labels.count(label) > 1), labels[0])
        raise DataError(f"a record has {twice} twice; measure again with different names")
    return found


def _parts(before: Measurement, after: Measurement, noise: float) -> tuple[PartChange, ...]:
    pairs = {
        "preprocessing": (before.preprocessing, after.preprocessing),
        "inference": (before.inference, after.inference),
    }
    doubts = tuple(f"{name}, {why}" for name, own in (("before", before), ("after", after)) for why in _against(own))
    return tuple(_change(part, old, new, noise, doubts) for part, (old, new) in pairs.items() if old and new)


def _against(own: Measurement) -> tuple[str, ...]:
    return own.device_run.reasons_against if own.device_run else ()


def _change(part: str, before: Timing, after: Timing, noise: float, against: tuple[str, ...]) -> PartChange:
    ratio = ratio_of_medians(after.samples_ms, before.samples_ms, paired=False)
    summaries = summarize(before.samples_ms), summarize(after.samples_ms)
    runs = {"before": before, "after": after}
    doubts = tuple(f"{name}, {why}" for name, own in runs.items() for why in _doubts(own.samples_ms))
    return PartChange(part, *summaries, ratio, verdict(ratio, noise=noise), (*against, *doubts))


def _doubts(samples_ms: Sequence[float]) -> tuple[str, ...]:
    few = (f"{len(samples_ms)} samples only",) if len(samples_ms) < FEWEST_SAMPLES else ()
    return (*few, *reasons_for_doubt(samples_ms))


def _beyond(found: Comparison, limit: float | None) -> tuple[list[str], list[str]]:
    """What is slower than the limit even at the lower end of its interval: beyond doubt, and on a noisy machine."""
    sure: list[str] = []
    unclear: list[str] = []
    for change in found.changes:
        for part in change.parts:
            if limit is not None and part.ratio.low > limit:
                text = f"{part.part} of {change.after.subject.label}, {_ratio(part.ratio)}"
                if part.doubts:
                    unclear.append(f"{text} ({'; '.join(part.doubts)})")
                else:
                    sure.append(text)
    return sure, unclear


def _document(
    found: Comparison,
    before: Record,
    after: Record,
    options: argparse.Namespace,
    slower: Sequence[str],
    unclear: Sequence[str],
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "before": asdict(before.environment),
        "after": asdict(after.environment),
        "noise": options.noise,
        "max_slowdown": options.max_slowdown,
        "too_slow": list(slower),
        "too_noisy_to_tell": list(unclear),
        "changes": [
            {
                "subject": asdict(change.after.subject),
                "size_bytes": [change.before.subject.size_bytes, change.after.subject.size_bytes],
                "peak_bytes": [own.memory.peak_bytes if own.memory else None for own in (change.before, change.after)],
                "parts": {
                    part.part: {key: value for key, value in asdict(part).items() if key != "part"}
                    for part in change.parts
                },
            }
            for change in found.changes
        ],
        "only_before": list(found.only_before),
        "only_after": list(found.only_after),
    }


def comparison_table(found: Comparison) -> str:
    """Two rows at most for every subject: preprocessing and inference."""
    header = ["artefact", "runtime", "threads", "size", "peak RAM", "part", "before", "after", "after / before"]
    rows = []
    for change in found.changes:
        old, new = change.before, change.after
        memory = _arrow(old.memory.peak_bytes, new.memory.peak_bytes, 1) if old.memory and new.memory else ""
        size = _arrow(old.subject.size_bytes, new.subject.size_bytes, 2)
        start = [new.subject.name, new.subject.runtime, str(new.subject.threads), size, memory]
        for part in change.parts:
            times = [f"{own.median_ms:.2f} ms" for own in (part.before, part.after)]
            rows.append([*start, part.part, *times, part.text])
            start = [""] * len(start)
    return format_table(header, rows)


def _arrow(before: int, after: int, digits: int) -> str:
    return f"{before / 1e6:.{digits}f} → {after / 1e6:.{digits}f} MB"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"

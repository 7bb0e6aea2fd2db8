"""`python -m android_bench run`: an artefact on one device or several, as records and beside the paper's Table 1.

Devices are measured one after another: an interrupt then ends one run, and this machine stays quiet.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.records import Measurement, Record, write_record
from console.program import log, show, show_json, warn
from preprocess.errors import AnswerIsNo, PocketHarError, UsageError
from runtime.manifest import read_artifact

from .device.target import parse_target
from .device_table import curve_table, device_table
from .measuring import Job, measure_on
from .protocol import OFFICIAL, QUICK, Protocol, sustained
from .tools.npu_libraries import require_npu
from .tools.tool import find_tool

_MOST_THREADS = 64


def run_command(options: argparse.Namespace) -> None:
    """Measures on every target, writes the records and shows them.

    A device that fails does not keep the others from being measured; its error ends the command after them.

    Raises:
        UsageError: options that cannot be.
        MissingComponentError: a device, adb, ssh or the tool is not there.
        DataError: the artefact is damaged, or a measurement failed.
        AnswerIsNo: an official measurement does not count.
    """
    job = _job(options)
    targets = list(options.target)
    if len(set(targets)) != len(targets):
        twice = next(own for own in targets if targets.count(own) > 1)
        raise UsageError(f"--target names {twice} twice; name every device once")
    records: list[Record] = []
    failures: list[tuple[str, PocketHarError]] = []
    for number, address in enumerate(targets):
        try:
            record = _measure(address, job)
        except PocketHarError as error:
            failures.append((address, error))
            if len(targets) > 1:
                warn(f"{address}: {error}")
            continue
        records.append(record)
        _tell(record)
        if options.out:
            path = numbered(options.out, number, len(targets))
            write_record(record, path)
            log(f"{address}: wrote {path}")
    if records:
        _show(records, job, options)
    if failures:
        first = failures[0][1]
        count = f"{len(failures)} of {len(targets)} devices were not measured, the first: " if len(targets) > 1 else ""
        raise type(first)(f"{count}{first}")
    reasons = [why for own in records for found in own.measurements for why in _against(found)]
    if options.official and reasons:
        raise AnswerIsNo(f"no official figure: {reasons[0]}")


def _measure(address: str, job: Job) -> Record:
    target = parse_target(address)
    try:
        return measure_on(target, job)
    finally:
        target.close()


def _job(options: argparse.Namespace) -> Job:
    if not 1 <= options.threads <= _MOST_THREADS:
        raise UsageError(f"--threads is {options.threads}; use 1 to {_MOST_THREADS}")
    manifest, _ = read_artifact(options.artifact)
    require_npu(manifest, options.accelerator)
    tool = find_tool(options.tool, manifest.format, options.accelerator)
    if options.profile and tool.name != "benchmark_model":
        raise UsageError(f"--profile is not for {tool.name}; use --tool benchmark_model")
    protocol, words = _protocol(options)
    command = (
        f"python -m android_bench run --target {options.target[0].split('://')[0]}://DEVICE --artifact {manifest.name} "
        f"--tool {tool.name} --accelerator {options.accelerator} --threads {options.threads} {words}"
    )
    return Job(
        artifact=options.artifact,
        manifest=manifest,
        tool=tool,
        tool_path=options.tool_path,
        accelerator=options.accelerator,
        threads=options.threads,
        protocol=protocol,
        profile=options.profile,
        keep=options.keep,
        command=command,
    )


def _protocol(options: argparse.Namespace) -> tuple[Protocol, str]:
    if options.sustained is not None:
        return sustained(options.sustained), f"--sustained {options.sustained}"
    return (OFFICIAL, "--official") if options.official else (QUICK, "--quick")


def numbered(path: Path, number: int, count: int) -> Path:
    """FILE for one device; for several FILE-1, FILE-2 … in the order they were named, before the suffix."""
    return path if count == 1 else path.with_name(f"{path.stem}-{number + 1}{path.suffix}")


def _against(own: Measurement) -> tuple[str, ...]:
    return own.device_run.reasons_against if own.device_run else ()


def _tell(record: Record) -> None:
    for own in record.measurements:
        for reason in _against(own):
            warn(f"the measurement of {own.subject.label} does not count: {reason}")
    for warning in record.warnings:
        warn(warning)


def _show(records: Sequence[Record], job: Job, options: argparse.Namespace) -> None:
    if options.json:
        documents = [own.to_dict() for own in records]
        show_json(documents[0] if len(options.target) == 1 else {"records": documents})
        return
    show(device_table(records, job.manifest))
    if job.protocol.duration_s:
        for own in records:
            show(f"\n{curve_table(own)}")

"""`python -m android_bench run`: an artifact on devices, as records and beside the paper's Table 1.

Devices are measured one after another: an interrupt then ends one run, and this machine stays quiet.
"""

from __future__ import annotations

import argparse
import contextlib

from benchmarks.measure.records import Record, write_record
from console.options import command_line
from console.program import log, show, show_json, warn
from preprocess.errors import AnswerIsNo, PocketHarError, UsageError
from runtime.manifest import read_artifact

from .device.adb import AdbConnection
from .device.connection import Connection, LocalConnection, SshConnection
from .device_table import curve_table, device_run_of, device_table
from .protocol import OFFICIAL, QUICK, sustained
from .record import measure_on
from .tools.benchmark_model import BenchmarkModel
from .tools.binaries import require_npu
from .tools.har_run import HarRun
from .tools.ort_perf import OnnxruntimePerfTest
from .tools.tool import Request, Tool


def run_on_devices(options: argparse.Namespace) -> None:
    """Measures on every device, writes the records and shows them.

    If a device fails, the others are still measured; its error ends the command after them.

    Raises:
        UsageError: options contradict each other.
        MissingComponentError: a device, adb, ssh or the tool is missing.
        DataError: the artifact is damaged, or a measurement failed.
        AnswerIsNo: an official measurement does not count.
    """
    manifest, _ = read_artifact(options.artifact)
    require_npu(manifest, options.accelerator)
    tool = find_tool(options.tool, manifest.format, options.accelerator)
    if options.profile and tool.name != "benchmark_model":
        raise UsageError(f"--profile is not for {tool.name}; use --tool benchmark_model")
    addresses = list(options.target)
    if twice := [address for address in addresses if addresses.count(address) > 1]:
        raise UsageError(f"--target names {twice[0]} twice; name every device once")
    schedule = sustained(options.sustained) if options.sustained else OFFICIAL if options.official else QUICK
    request = Request(
        options.artifact, manifest, options.threads, options.accelerator, schedule, profile=options.profile
    )
    records: list[Record] = []
    failures: list[PocketHarError] = []
    several = len(addresses) > 1
    for number, address in enumerate(addresses, 1):
        try:
            with contextlib.closing(connect(address)) as device:
                record = measure_on(
                    device, tool, request, tool_path=options.tool_path, keep=options.keep, command=command_line(options)
                )
        except PocketHarError as error:
            failures.append(error)
            if several:
                warn(f"{address}: {error}")
            continue
        records.append(record)
        label, reasons = record.measurements[0].subject.label, device_run_of(record).reasons_against
        for warning in (*(f"the measurement of {label} does not count: {why}" for why in reasons), *record.warnings):
            warn(warning)
        if path := options.out:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}") if several else path
            write_record(record, path)
            log(f"{address}: wrote {path}")
    if options.json and records:
        documents = [record.to_dict() for record in records]
        show_json({"records": documents} if several else documents[0])
    elif records:
        show(device_table(records, manifest))
        for record in records if schedule.duration_s else ():
            show(f"\n{curve_table(record)}")
    if failures:
        count = f"{len(failures)} of {len(addresses)} devices were not measured, the first: " if several else ""
        raise type(failures[0])(f"{count}{failures[0]}")
    for record in records if options.official else ():
        if reasons := device_run_of(record).reasons_against:
            raise AnswerIsNo(f"no official figure: {reasons[0]}")


def connect(address: str) -> Connection:
    """The connection to an address.

    Args:
        address: `adb://SERIAL` (`adb://` if one device is connected), `ssh://USER@HOST[:PORT]` or `local://`.

    Raises:
        UsageError: another address.
        MissingComponentError: the program or the device is missing.
    """
    scheme, separator, rest = address.partition("://")
    if separator and scheme == "adb":
        return AdbConnection.find(rest)
    if separator and scheme == "ssh" and rest and not rest.startswith("-"):
        return SshConnection(rest)
    if address == "local://":
        return LocalConnection()
    raise UsageError(f"--target is {address!r}; write adb://SERIAL, ssh://USER@HOST or local://")


def find_tool(name: str | None, file_format: str, accelerator: str) -> Tool:
    """The tool of this name; without a name, the default for the format.

    Raises:
        UsageError: the tool does not read the format or does not support the accelerator.
    """
    tools: tuple[Tool, ...] = (HarRun(), BenchmarkModel(), OnnxruntimePerfTest())
    able = [tool for tool in tools if file_format in tool.formats]
    chosen = next((tool for tool in able if name in (None, tool.name)), None)
    if chosen is None:
        names = " or ".join(tool.name for tool in able)
        raise UsageError(f"--tool is {name}, which reads no {file_format} file; use {names}")
    if accelerator not in chosen.accelerators:
        supported = " and ".join(chosen.accelerators)
        raise UsageError(f"--accelerator is {accelerator}, but {chosen.name} supports {supported} only")
    return chosen

"""Tables of devices: the command `devices`, records beside the paper's Table 1, and the curve of a sustained run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.measure.records import DeviceRun, Record
from benchmarks.measure.statistics import summarize
from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import MissingComponentError, PocketHarError
from runtime.manifest import Manifest
from runtime.paper import PAPER_TABLE_1

from .device.adb import AdbConnection, list_devices, remedy
from .device.facts import Facts, read_facts
from .device.watch import State, read_state

_LISTED = (
    *("serial", "model", "SoC", "Hexagon", "Android", "cores (mask: highest)", "governor", "memory", "battery"),
    "temperature",
)
_MEASURED = (
    *("model", "on", "parameters", "MACs", "file", "peak RAM", "preprocessing", "latency", "p90", "FPS"),
    *("delegated", "counts"),
)
_NOTES = (
    "Parameters and MACs are computed, the paper's row is quoted (the authors' machine), the rest is measured.\n"
    "Latency: median of inference alone, or of one typical time for each process if the tool reports aggregates only."
)


def devices_command(options: argparse.Namespace) -> None:
    """Lists devices; a device that cannot be used is named with a remedy.

    Raises:
        MissingComponentError: adb is not installed, or no device can be used.
    """
    rows, documents, problems = [], [], []
    for serial, condition in list_devices().items():
        advice = remedy(condition)
        document: dict[str, Any] = {"serial": serial, "state": condition, "remedy": advice}
        if advice:
            problems.append(f"{serial} is {condition}: {advice}")
        else:
            try:
                device = AdbConnection(serial)
                facts = read_facts(device)
                state = read_state(device, facts.thermal_source)
                rows.append(_listed_row(serial, facts, state))
                temperature = {"sensor": state.sensor, "celsius": state.celsius, "source": facts.thermal_source}
                document |= asdict(facts.device) | {"machine": asdict(facts.machine), "temperature": temperature}
            except PocketHarError as error:
                problems.append(str(error))
                document["remedy"] = str(error)
        documents.append(document)
    if not documents:
        raise MissingComponentError(
            "no device is connected; turn USB debugging on and plug the phone in, docs/phone.md has every step"
        )
    if not rows:
        raise MissingComponentError("; ".join(problems))
    for problem in problems:
        warn(problem)
    if options.json:
        show_json({"devices": documents})
    else:
        show(format_table(_LISTED, rows))


def _listed_row(serial: str, facts: Facts, state: State) -> list[str]:
    """A row of the table; empty cells for facts that the device does not report."""
    device, machine = facts.device, facts.machine
    battery = f"{device.battery_percent} %{', charging' if device.charging else ''}" if device.battery_percent else ""
    throttling = f", throttling ({state.thermal_status})" if state.thermal_status else ""
    return [
        serial,
        device.model,
        device.soc or machine.cpu,
        device.hexagon or "",
        device.android or "",
        ", ".join(device.clusters) or str(machine.cores),
        ", ".join(device.governors),
        f"{machine.memory_bytes / 1e9:.1f} GB" if machine.memory_bytes else "",
        battery,
        f"{state.sensor} {state.celsius:.1f} °C{throttling}" if state.celsius is not None else "",
    ]


def device_table(records: Sequence[Record], manifest: Manifest) -> str:
    """The paper's row for the stream, if it has one, then a row for every device."""
    rows = []
    if paper := PAPER_TABLE_1.get(manifest.stream):
        parameters, macs = f"{paper.parameters / 1e6:.1f} M", f"{paper.macs / 1e9:.1f} G"
        size, peak = f"{paper.size_bytes / 1e6:.1f} MB", f"{paper.peak_bytes / 1e6:.0f} MB"
        latency, fps = f"{paper.latency_ms:.0f} ms", f"{1e3 / paper.latency_ms:.0f}"
        rows.append([f"{manifest.stream}, paper", "", parameters, macs, size, peak, "", latency, "", fps, "", ""])
    rows += [_measured_row(record, manifest) for record in records]
    run, threads = device_run_of(records[0]), records[0].measurements[0].subject.threads
    title = f"{run.tool}, {run.protocol} run, threads: {threads}"
    return "\n".join([format_table(_MEASURED, rows, title=title), _NOTES])


def device_run_of(record: Record) -> DeviceRun:
    """The run of a record that `python -m android_bench` made, which has one measurement."""
    (measurement,) = record.measurements
    assert measurement.device_run is not None
    return measurement.device_run


def _measured_row(record: Record, manifest: Manifest) -> list[str]:
    (measurement,) = record.measurements
    subject, run = measurement.subject, device_run_of(record)
    cost = manifest.cost.get(manifest.stream, {})
    inference = summarize(measurement.inference.samples_ms)
    preprocessing = summarize(measurement.preprocessing.samples_ms) if measurement.preprocessing else None
    delegated = f"{run.delegated_ops} of {run.total_ops}" if run.delegated_ops is not None else ""
    device = record.device.model if record.device else record.environment.machine.cpu
    return [
        f"{subject.stream}, {subject.recipe}",
        f"{device}, {subject.accelerator}",
        f"{cost['parameters'] / 1e6:.2f} M" if "parameters" in cost else "",
        f"{cost['macs'] / 1e9:.3f} G" if "macs" in cost else "",
        f"{subject.size_bytes / 1e6:.2f} MB",
        f"{measurement.memory.peak_bytes / 1e6:.0f} MB" if measurement.memory else "",
        f"{preprocessing.median_ms:.2f} ms" if preprocessing else "",
        f"{inference.median_ms:.2f} ms",
        f"{inference.p90_ms:.2f} ms" if run.sample == "inference" else "",
        f"{inference.fps:.0f}",
        delegated,
        "yes" if run.valid else "no",
    ]


def curve_table(record: Record) -> str:
    """A row for every process of a sustained run, about a minute each, against the first."""
    device_run = device_run_of(record)
    rows: list[list[str]] = []
    first = None
    for run in device_run.runs:
        typical = run.inference.median_ms or run.inference.mean_ms or 0.0
        first = first or typical
        during = [r.frequencies_khz for r in device_run.readings if run.start_s <= r.time_s <= run.end_s]
        fastest = [max(khz) for khz in during if khz]
        rows.append(
            [
                f"{run.end_s / 60:.1f} min",
                f"{typical:.2f} ms",
                f"{typical / first:.2f}×",
                f"{run.temperature_after_c:.1f} °C" if run.temperature_after_c is not None else "",
                f"{sum(fastest) / len(fastest) / 1e6:.2f} GHz" if any(fastest) else "",
            ]
        )
    header = ["until", "inference", "against the first", device_run.sensor or "temperature", "fastest core"]
    return format_table(header, rows, title=f"{record.device.model if record.device else ''}, sustained")

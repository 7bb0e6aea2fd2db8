"""`python -m android_bench devices`: the devices that adb lists, and what each of them is."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import MissingComponentError, PocketHarError

from .device.adb import AdbConnection, list_devices, remedy
from .device.facts import Facts, read_facts
from .device.watch import State, read_state

HEADER = (
    *("serial", "model", "SoC", "Hexagon", "Android", "cores (mask: highest)", "governor", "memory", "battery"),
    "temperature",
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
                rows.append(device_row(serial, facts, state))
                document |= device_document(facts, state)
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
        show(format_table(HEADER, rows))


def device_document(facts: Facts, state: State) -> dict[str, Any]:
    """Plain JSON types."""
    return {
        **asdict(facts.device),
        "machine": asdict(facts.machine),
        "temperature": {"sensor": state.sensor, "celsius": state.celsius, "source": facts.thermal_source},
    }


def device_row(serial: str, facts: Facts, state: State) -> list[str]:
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

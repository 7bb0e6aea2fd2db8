"""`python -m android_bench devices`: what adb sees, and what each device is."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import MissingComponentError, PocketHarError

from .device.adb import AdbTarget, Listed, list_devices
from .device.probe import Facts, State, read_facts, read_state

HEADER = (
    *("serial", "model", "SoC", "Hexagon", "Android", "cores (mask: highest)", "governor", "memory", "battery"),
    "temperature",
)


def devices_command(options: argparse.Namespace) -> None:
    """Lists devices; those that cannot be used are named with what to do.

    Raises:
        MissingComponentError: adb is not installed, or no device can be used.
    """
    rows, documents, problems = [], [], []
    for own in list_devices():
        document: dict[str, Any] = {"serial": own.serial, "state": own.state, "remedy": own.remedy}
        if own.remedy:
            problems.append(f"{own.serial} is {own.state}: {own.remedy}")
        else:
            try:
                facts, state = _look_at(own)
                rows.append(device_row(own.serial, facts, state))
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


def _look_at(listed: Listed) -> tuple[Facts, State]:
    target = AdbTarget(listed.serial)
    facts = read_facts(target)
    return facts, read_state(target, facts.thermal_source)


def device_document(facts: Facts, state: State) -> dict[str, Any]:
    """Plain JSON types."""
    return {
        **asdict(facts.device),
        "machine": asdict(facts.machine),
        "temperature": {"sensor": state.sensor, "celsius": state.celsius, "source": facts.thermal_source},
    }


def device_row(serial: str, facts: Facts, state: State) -> list[str]:
    """For the table; empty where the device does not say."""
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

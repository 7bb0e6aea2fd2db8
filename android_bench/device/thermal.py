"""Temperatures out of `dumpsys thermalservice` and of thermal zones. Pure functions of text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {0: "cpu", 1: "gpu", 2: "battery", 3: "skin", 9: "npu"}
# What a phone throttles by, slowest to change first; the processor's own sensors follow the load within a second.
_WATCHED = ("skin", "battery", "cpu")
_LOWEST_C, _HIGHEST_C = -30.0, 150.0  # beyond this a sensor is not there

_ENTRY = re.compile(r"Temperature\{mValue=([-+0-9.eE]+|NaN), mType=(-?\d+), mName=([^,}]*), mStatus=(\d+)")
_HAL = "Current temperatures from HAL:"


@dataclass(frozen=True)
class Temperature:
    """Of a sensor: its name, its kind (a value of KINDS or `other`), and °C."""

    name: str
    kind: str
    celsius: float


@dataclass(frozen=True)
class ThermalReport:
    """Android's thermal status, 0 (none) to 6 (shutdown) or None, and the sensors."""

    status: int | None
    temperatures: tuple[Temperature, ...]


def parse_thermalservice(text: str) -> ThermalReport:
    """Of `dumpsys thermalservice`: the block that was read from the hardware just now.

    The cached block above it can be 20 °C old and is never used; without a block of the hardware there are no sensors.
    """
    status = re.search(r"^\s*Thermal Status:\s*(\d+)\s*$", text, re.MULTILINE)
    temperatures = []
    for line in text.partition(_HAL)[2].splitlines()[1:]:
        found = _ENTRY.match(line.strip())
        if not found:
            break
        celsius = float(found[1])
        if _plausible(celsius):
            temperatures.append(Temperature(found[3], KINDS.get(int(found[2]), "other"), celsius))
    return ThermalReport(int(status[1]) if status else None, tuple(temperatures))


def parse_thermal_zones(text: str) -> tuple[Temperature, ...]:
    """Of lines `TYPE VALUE`, as /sys/class/thermal/thermal_zone*/{type,temp} have them; others are left out.

    Vendors write degrees, tenths or thousandths; the size of the number tells.
    """
    temperatures = []
    for line in text.splitlines():
        name, _, value = line.strip().rpartition(" ")
        if name and re.fullmatch(r"-?\d+", value):
            celsius = zone_celsius(int(value))
            if celsius is not None:
                temperatures.append(Temperature(name.strip(), _kind_by_name(name.lower()), celsius))
    return tuple(temperatures)


def zone_celsius(value: int) -> float | None:
    """°C of a thermal zone's number; None for a sensor that is off (0) or says what cannot be."""
    size = abs(value)
    celsius = value / (1 if size <= _HIGHEST_C else 10 if size <= 10 * _HIGHEST_C else 1000)
    return celsius if value and _plausible(celsius) else None


def watched(temperatures: Sequence[Temperature]) -> tuple[str, float] | None:
    """The kind of sensor that tells whether a device is cool, and its highest °C; None where there is none."""
    for kind in _WATCHED:
        found = [own.celsius for own in temperatures if own.kind == kind]
        if found:
            return kind, max(found)
    return None


def _plausible(celsius: float) -> bool:
    return _LOWEST_C < celsius < _HIGHEST_C


def _kind_by_name(name: str) -> str:
    """Of a thermal zone. Names are the vendor's."""
    if any(word in name for word in ("skin", "quiet", "xo-therm", "xo_therm")):
        return "skin"
    for kind, words in {
        "battery": ("battery",),
        "gpu": ("gpu", "kgsl"),
        "npu": ("npu", "nsp", "cdsp"),
        "cpu": ("cpu", "x86_pkg", "soc-thermal", "soc_thermal"),
    }.items():
        if any(word in name for word in words):
            return kind
    return "other"

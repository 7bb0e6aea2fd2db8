"""What a device says about itself, out of the text of its commands. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Battery:
    """Of `dumpsys battery`: per cent, °C (None where it does not say), and whether it is being charged."""

    percent: int
    celsius: float | None
    charging: bool


@dataclass(frozen=True)
class Core:
    """A processor core: its number, highest frequency in kHz (0 where the system does not say) and governor."""

    number: int
    highest_khz: int
    governor: str | None


@dataclass(frozen=True)
class Cluster:
    """Cores of one highest frequency: hexadecimal mask for `taskset`, and kHz."""

    mask: str
    cores: tuple[int, ...]
    highest_khz: int


def parse_getprop(text: str) -> dict[str, str]:
    """Of lines `[name]: [value]`. A value may go over several lines; what is no property is left out."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]\r?$", text, re.MULTILINE | re.DOTALL))


def parse_cpuinfo(text: str) -> dict[str, str]:
    """Of /proc/cpuinfo: the first value of every key, keys as they stand there."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def memory_bytes(meminfo: str) -> int | None:
    """Of /proc/meminfo: MemTotal; None where it is not there."""
    found = re.search(r"^MemTotal:\s+(\d+) kB\s*$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def parse_battery(text: str) -> Battery | None:
    """Of `dumpsys battery`; None where there is no battery or nothing is said of it."""
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    level, scale = _whole(values.get("level")), _whole(values.get("scale")) or 100
    if level is None or values.get("present") == "false":
        return None
    tenths = _whole(values.get("temperature"))
    powered = any(values.get(f"{source} powered") == "true" for source in ("AC", "USB", "Wireless", "Dock"))
    # Android's BatteryManager: 2 is charging, 5 full.
    charging = powered or values.get("status") in ("2", "5")
    return Battery(round(100 * level / scale), tenths / 10 if tenths is not None else None, charging)


def parse_cores(text: str) -> tuple[Core, ...]:
    """Of lines `cpuN KHZ GOVERNOR`, `-` for what could not be read; in order of the cores."""
    cores = [
        Core(int(number), int(khz) if khz != "-" else 0, None if governor == "-" else governor)
        for number, khz, governor in re.findall(r"^cpu(\d+) (\d+|-) (\S+)\r?$", text, re.MULTILINE)
    ]
    return tuple(sorted(cores, key=lambda own: own.number))


def clusters(cores: Sequence[Core]) -> tuple[Cluster, ...]:
    """Cores by highest frequency, slowest first."""
    found = []
    for khz in sorted({core.highest_khz for core in cores}):
        numbers = tuple(core.number for core in cores if core.highest_khz == khz)
        found.append(Cluster(core_mask(numbers), numbers, khz))
    return tuple(found)


def fastest_cores(cores: Sequence[Core], threads: int) -> str | None:
    """Mask of as many of the fastest cores as there are threads; None where all are alike or nothing is known."""
    if len({core.highest_khz for core in cores}) < 2:
        return None
    ranked = sorted(cores, key=lambda own: (-own.highest_khz, -own.number))
    return core_mask([own.number for own in ranked[:threads]])


def core_mask(numbers: Sequence[int]) -> str:
    """As `taskset` takes it: hexadecimal without prefix."""
    return f"{sum(1 << number for number in numbers):02x}"


def model_name(properties: Mapping[str, str]) -> str | None:
    """Maker and model, or None."""
    words = [properties.get(f"ro.product.{key}", "") for key in ("manufacturer", "model")]
    return " ".join(word for word in words if word) or None


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None

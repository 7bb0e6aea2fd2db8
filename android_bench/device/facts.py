"""What a device is: the commands that ask it, and the parsers of their output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure.provenance import INSTRUCTIONS
from benchmarks.measure.records import Device, Machine
from preprocess.errors import DataError
from runtime.npu_chips import SNAPDRAGONS, soc_name

from .connection import Connection, quote
from .watch import CPUS, THERMAL, TIMEOUT_S, ZONES, parse_thermal_zones, parse_thermalservice, split_sections, watched

_CORES = (
    f"for c in {CPUS}; do k=-; g=-; read k < $c/cpufreq/cpuinfo_max_freq; read g < $c/cpufreq/scaling_governor; "
    'echo "${c##*/} ${k:--} ${g:--}"; done 2>/dev/null'
)
_SECTIONS = {
    "getprop": "getprop 2>/dev/null",
    "cpuinfo": "cat /proc/cpuinfo",
    "meminfo": "cat /proc/meminfo",
    "battery": "dumpsys battery 2>/dev/null",
    "thermal": THERMAL,
    "zones": ZONES,
    "cores": _CORES,
    "kernel": "uname -r; uname -m",
    "taskset": "command -v taskset",
}


@dataclass(frozen=True)
class Core:
    """A processor core: its number, highest frequency in kHz (0 if not reported) and governor."""

    number: int
    highest_khz: int
    governor: str | None


@dataclass(frozen=True)
class Facts:
    """A device before a run.

    Attributes:
        device, machine: for the record.
        cores: of the processor.
        can_pin: whether it has `taskset`.
        thermal_source: command that reports temperatures, `thermalservice` or `zones`; None without sensors.
    """

    device: Device
    machine: Machine
    cores: tuple[Core, ...]
    can_pin: bool
    thermal_source: str | None


def read_facts(device: Connection) -> Facts:
    """Asks the device once.

    Raises:
        DeviceLost, CommandTimeout: as `Connection.run`.
        DataError: the device does not report its kernel.
    """
    script = "; ".join(f"echo @@{name}; {command}" for name, command in _SECTIONS.items())
    outcome = device.run(f"{script}; true", timeout_s=TIMEOUT_S)
    return facts_of(split_sections(outcome.stdout))


def facts_of(sections: Mapping[str, str]) -> Facts:
    """Facts from the sections that `read_facts` reads.

    Raises:
        DataError: the kernel does not report its version and architecture.
    """
    properties = parse_getprop(sections.get("getprop", ""))
    cpu = parse_cpuinfo(sections.get("cpuinfo", ""))
    cores = parse_cores(sections.get("cores", ""))
    kernel = sections.get("kernel", "").split()
    if len(kernel) != 2:
        raise DataError(f"`uname -r; uname -m` on the device says {quote(sections.get('kernel', ''))}; is it a Linux?")
    android = properties.get("ro.build.version.release")
    percent, celsius, charging = parse_battery(sections.get("battery", ""))
    soc = soc_name(properties)
    chip = SNAPDRAGONS.get(soc or "")
    thermal_status, temperatures = parse_thermalservice(sections.get("thermal", ""))
    zones = parse_thermal_zones(sections.get("zones", ""))
    source = "thermalservice" if watched(temperatures) else "zones" if watched(zones) else None
    maker_and_model = (properties.get(f"ro.product.{key}") for key in ("manufacturer", "model"))
    name = soc or cpu.get("model name") or cpu.get("Hardware") or cpu.get("Model") or "unknown"
    device = Device(
        model=" ".join(filter(None, maker_and_model)) or cpu.get("Model") or name,
        soc=soc,
        hexagon=chip.hexagon if chip else None,
        soc_model=chip.soc_model if chip else None,
        android=android,
        clusters=tuple(f"{mask}: {khz // 1000} MHz" for mask, khz in clusters(cores) if khz),
        governors=tuple(sorted({core.governor for core in cores if core.governor})),
        battery_percent=percent,
        battery_c=celsius,
        charging=charging,
        thermal_status=thermal_status,
    )
    features = (cpu.get("Features") or cpu.get("flags") or "").split()
    machine = Machine(
        cpu=f"Snapdragon {chip.name} ({soc})" if chip else name,
        cores=len(cores) or 1,
        architecture=kernel[1],
        system=f"Android {android}, Linux {kernel[0]}" if android else f"Linux {kernel[0]}",
        memory_bytes=memory_bytes(sections.get("meminfo", "")),
        instructions=tuple(name for name in INSTRUCTIONS if name in features) if features else None,
    )
    return Facts(device, machine, cores, bool(sections.get("taskset", "").strip()), source)


def parse_getprop(text: str) -> dict[str, str]:
    """Values of lines `[name]: [value]`. A value may span several lines; other lines are skipped."""
    return dict(re.findall(r"^\[([^\]\n]+)\]: \[(.*?)\]\r?$", text, re.MULTILINE | re.DOTALL))


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The first value of every key of /proc/cpuinfo."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), value.strip())
    return values


def memory_bytes(meminfo: str) -> int | None:
    """MemTotal of /proc/meminfo; None if it is missing."""
    line = re.search(r"^MemTotal:\s+(\d+) kB\s*$", meminfo, re.MULTILINE)
    return int(line[1]) * 1024 if line else None


def parse_battery(text: str) -> tuple[int | None, float | None, bool | None]:
    """Per cent, °C, and whether the battery is being charged, from `dumpsys battery`; None without one."""
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    numbers = {name: int(value) for name, value in values.items() if re.fullmatch(r"-?\d+", value)}
    if "level" not in numbers or values.get("present") == "false":
        return None, None, None
    powered = any(values.get(f"{source} powered") == "true" for source in ("AC", "USB", "Wireless", "Dock"))
    # Android's BatteryManager: 2 is charging, 5 full.
    charging = powered or numbers.get("status") in (2, 5)
    celsius = numbers["temperature"] / 10 if "temperature" in numbers else None
    return round(100 * numbers["level"] / (numbers.get("scale") or 100)), celsius, charging


def parse_cores(text: str) -> tuple[Core, ...]:
    """Cores in their order, from lines `cpuN KHZ GOVERNOR` with `-` for an unreadable value."""
    cores = [
        Core(int(number), int(khz) if khz != "-" else 0, None if governor == "-" else governor)
        for number, khz, governor in re.findall(r"^cpu(\d+) (\d+|-) (\S+)\r?$", text, re.MULTILINE)
    ]
    return tuple(sorted(cores, key=lambda core: core.number))


def clusters(cores: Sequence[Core]) -> list[tuple[str, int]]:
    """Cores by highest frequency, slowest first: mask for `taskset`, and kHz."""
    frequencies = sorted({core.highest_khz for core in cores})
    return [(core_mask([core.number for core in cores if core.highest_khz == khz]), khz) for khz in frequencies]


def fastest_cores(cores: Sequence[Core], threads: int) -> str | None:
    """Mask of the fastest cores, one for each thread; None if all are alike or nothing is known."""
    if len({core.highest_khz for core in cores}) < 2:
        return None
    ranked = sorted(cores, key=lambda core: (-core.highest_khz, -core.number))
    return core_mask([core.number for core in ranked[:threads]])


def core_mask(numbers: Sequence[int]) -> str:
    """Mask for `taskset`: hexadecimal without prefix."""
    return f"{sum(1 << number for number in numbers):02x}"

"""What a device is and how warm it is: commands that read it, and what they say as records."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measure.device_records import Device
from benchmarks.measure.provenance import INSTRUCTIONS
from benchmarks.measure.records import Machine
from preprocess.errors import DataError
from runtime.npu.chips import snapdragon, soc_name

from .errors import quote
from .facts import Core, clusters, memory_bytes, model_name, parse_battery, parse_cores, parse_cpuinfo, parse_getprop
from .target import Target
from .thermal import parse_thermal_zones, parse_thermalservice, watched

TIMEOUT_S = 30.0
_THERMAL = "dumpsys thermalservice 2>/dev/null"
_ZONES = (
    "for z in /sys/class/thermal/thermal_zone*; do if read t < $z/type && read v < $z/temp; then "
    'echo "$t $v"; fi; done 2>/dev/null'
)
_CPU = "/sys/devices/system/cpu/cpu[0-9]*"
_CORES = (
    f"for c in {_CPU}; do k=-; g=-; read k < $c/cpufreq/cpuinfo_max_freq; read g < $c/cpufreq/scaling_governor; "
    'echo "${c##*/} ${k:--} ${g:--}"; done 2>/dev/null'
)
_FREQUENCIES = (
    f'for c in {_CPU}; do f=0; read f < $c/cpufreq/scaling_cur_freq; echo "${{c##*/}} ${{f:-0}}"; done 2>/dev/null'
)
_SECTIONS = {
    "getprop": "getprop 2>/dev/null",
    "cpuinfo": "cat /proc/cpuinfo",
    "meminfo": "cat /proc/meminfo",
    "battery": "dumpsys battery 2>/dev/null",
    "thermal": _THERMAL,
    "zones": _ZONES,
    "cores": _CORES,
    "kernel": "uname -r; uname -m",
    "taskset": "command -v taskset",
}


@dataclass(frozen=True)
class Facts:
    """Of a device before a run.

    Attributes:
        device, machine: for the record.
        cores: of the processor.
        android: whether it is Android.
        can_pin: whether it has `taskset`.
        thermal_source: command that gives temperatures, `thermalservice` or `zones`; None where there are none.
    """

    device: Device
    machine: Machine
    cores: tuple[Core, ...]
    android: bool
    can_pin: bool
    thermal_source: str | None


def read_facts(target: Target) -> Facts:
    """Asks the device once.

    Raises:
        DeviceLost, CommandTimeout: as `Target.run`.
        DataError: it does not say which processor it has.
    """
    script = "; ".join(f"echo @@{name}; {command}" for name, command in _SECTIONS.items())
    outcome = target.run(f"{script}; true", timeout_s=TIMEOUT_S)
    return facts_of(split_sections(outcome.stdout))


def split_sections(text: str) -> dict[str, str]:
    """Text by the lines `@@NAME` that it stands below."""
    parts = re.split(r"^@@(\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def facts_of(sections: Mapping[str, str]) -> Facts:
    """Of the sections that `read_facts` reads.

    Raises:
        DataError: the kernel does not say its version and architecture.
    """
    properties = parse_getprop(sections.get("getprop", ""))
    cpu = parse_cpuinfo(sections.get("cpuinfo", ""))
    cores = parse_cores(sections.get("cores", ""))
    kernel = sections.get("kernel", "").split()
    if len(kernel) != 2:
        raise DataError(f"`uname -r; uname -m` on the device says {quote(sections.get('kernel', ''))}; is it a Linux?")
    android = properties.get("ro.build.version.release")
    soc, battery = soc_name(properties), parse_battery(sections.get("battery", ""))
    known = snapdragon(soc)
    report = parse_thermalservice(sections.get("thermal", ""))
    zones = parse_thermal_zones(sections.get("zones", ""))
    source = "thermalservice" if watched(report.temperatures) else "zones" if watched(zones) else None
    name = soc or cpu.get("model name") or cpu.get("Hardware") or cpu.get("Model") or "unknown"
    device = Device(
        model=model_name(properties) or cpu.get("Model") or name,
        soc=soc,
        hexagon=known.hexagon if known else None,
        soc_model=known.soc_model if known else None,
        android=android,
        clusters=tuple(f"{own.mask}: {own.highest_khz // 1000} MHz" for own in clusters(cores) if own.highest_khz),
        governors=tuple(sorted({core.governor for core in cores if core.governor})),
        battery_percent=battery.percent if battery else None,
        battery_c=battery.celsius if battery else None,
        charging=battery.charging if battery else None,
        thermal_status=report.status,
    )
    features = (cpu.get("Features") or cpu.get("flags") or "").split()
    machine = Machine(
        cpu=f"Snapdragon {known.name} ({soc})" if known else name,
        cores=len(cores) or 1,
        architecture=kernel[1],
        system=f"Android {android}, Linux {kernel[0]}" if android else f"Linux {kernel[0]}",
        memory_bytes=memory_bytes(sections.get("meminfo", "")),
        instructions=tuple(own for own in INSTRUCTIONS if own in features) if features else None,
    )
    return Facts(device, machine, cores, bool(android), bool(sections.get("taskset", "").strip()), source)


@dataclass(frozen=True)
class State:
    """Of a device at one moment.

    Attributes:
        sensor: kind of the one that is watched, or None; `celsius` is its highest temperature.
        thermal_status: Android's, or None.
        frequencies_khz: of every core, in their order; 0 for one that is off or does not say.
        clock_s: of the device, since 1970.
        host_s: the monotonic clock of this machine, at about the same time.
    """

    sensor: str | None
    celsius: float | None
    thermal_status: int | None
    frequencies_khz: tuple[int, ...]
    clock_s: float
    host_s: float


def read_state(target: Target, source: str | None) -> State:
    """Temperature, frequencies and clock. Raises as `Target.run`, and DataError where the device has no clock."""
    zones = _ZONES if source == "zones" else "true"
    before = time.monotonic()
    text = target.run(
        f"echo @@clock; date +%s; echo @@frequencies; {_FREQUENCIES}; echo @@thermal; {_THERMAL}; "
        f"echo @@zones; {zones}; true",
        timeout_s=TIMEOUT_S,
    ).stdout
    return state_of(split_sections(text), source, before)


def state_of(sections: Mapping[str, str], source: str | None, host_s: float) -> State:
    """Of the sections that `read_state` reads; raises DataError where the clock is no number."""
    clock = sections.get("clock", "").strip()
    if not clock.isdigit():
        raise DataError(f"`date +%s` on the device says {quote(clock)}; its shell lacks what is needed")
    report = parse_thermalservice(sections.get("thermal", ""))
    zones = parse_thermal_zones(sections.get("zones", ""))
    found = watched(zones if source == "zones" else report.temperatures)
    by_core = sorted(
        (int(n), int(khz)) for n, khz in re.findall(r"^cpu(\d+) (\d+)$", sections.get("frequencies", ""), re.MULTILINE)
    )
    return State(
        found[0] if found else None,
        found[1] if found else None,
        report.status,
        tuple(khz for _, khz in by_core),
        float(clock),
        host_s,
    )

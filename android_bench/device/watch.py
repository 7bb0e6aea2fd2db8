"""The state of a device while a tool runs: temperature, core frequencies and clock, read again and again."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure.records import Reading
from preprocess.errors import DataError, PocketHarError

from .connection import Connection, quote

TIMEOUT_S = 30.0
COOL_WITHIN_C = 2.0  # of the temperature before the first process
COOL_TIMEOUT_S = 180.0
_COOL_INTERVAL_S = 2.0

CPUS = "/sys/devices/system/cpu/cpu[0-9]*"
THERMAL = "dumpsys thermalservice 2>/dev/null"
ZONES = (
    "for z in /sys/class/thermal/thermal_zone*; do if read t < $z/type && read v < $z/temp; then "
    'echo "$t $v"; fi; done 2>/dev/null'
)
_FREQUENCIES = (
    f'for c in {CPUS}; do f=0; read f < $c/cpufreq/scaling_cur_freq; echo "${{c##*/}} ${{f:-0}}"; done 2>/dev/null'
)

# Android's types of sensors.
_KINDS = {0: "cpu", 1: "gpu", 2: "battery", 3: "skin", 9: "npu"}
# Sensors that a phone throttles by, slowest first; those of the processor follow the load within a second.
_WATCHED = ("skin", "battery", "cpu")
_LOWEST_C, _HIGHEST_C = -30.0, 150.0  # a sensor outside this range does not exist
_ENTRY = re.compile(r"Temperature\{mValue=([-+0-9.eE]+|NaN), mType=(-?\d+), mName=[^,}]*, mStatus=\d+")
_HAL = "Current temperatures from HAL:"
# Thermal zones have vendors' names.
_ZONE_NAMES = {
    "skin": ("skin", "quiet", "xo-therm", "xo_therm"),
    "battery": ("battery",),
    "gpu": ("gpu", "kgsl"),
    "npu": ("npu", "nsp", "cdsp"),
    "cpu": ("cpu", "x86_pkg", "soc-thermal", "soc_thermal"),
}


@dataclass(frozen=True)
class State:
    """A device at one moment.

    Attributes:
        sensor: kind of the watched sensor, or None; `celsius` is its highest temperature.
        thermal_status: Android's, from 0 (none) to 6 (shutdown), or None.
        frequencies_khz: of every core, in their order; 0 for a core that is off or reports none.
        clock_s: of the device, since 1970.
        host_s: the monotonic clock of this machine, at about the same time.
    """

    sensor: str | None
    celsius: float | None
    thermal_status: int | None
    frequencies_khz: tuple[int, ...]
    clock_s: float
    host_s: float

    def is_cool(self, limit_c: float) -> bool:
        """Whether a run may start. A device without sensors always may."""
        return (self.celsius is None or self.celsius <= limit_c) and not self.thermal_status


def read_state(device: Connection, source: str | None) -> State:
    """Temperature by `thermalservice` or `zones` (None without sensors), frequencies and clock.

    Raises:
        DeviceLost, CommandTimeout: as `Connection.run`.
        DataError: the device has no clock.
    """
    zones = ZONES if source == "zones" else "true"
    before = time.monotonic()
    outcome = device.run(
        f"echo @@clock; date +%s; echo @@frequencies; {_FREQUENCIES}; echo @@thermal; {THERMAL}; "
        f"echo @@zones; {zones}; true",
        timeout_s=TIMEOUT_S,
    )
    return state_of(split_sections(outcome.stdout), source, before)


def state_of(sections: Mapping[str, str], source: str | None, host_s: float) -> State:
    """The state from the sections that `read_state` reads; raises DataError unless the clock is a number."""
    clock = sections.get("clock", "").strip()
    if not clock.isdigit():
        raise DataError(f"`date +%s` on the device says {quote(clock)}; its shell lacks this command")
    status, temperatures = parse_thermalservice(sections.get("thermal", ""))
    if source == "zones":
        temperatures = parse_thermal_zones(sections.get("zones", ""))
    sensor, celsius = watched(temperatures) or (None, None)
    frequencies = re.findall(r"^cpu(\d+) (\d+)$", sections.get("frequencies", ""), re.MULTILINE)
    by_core = sorted((int(number), int(khz)) for number, khz in frequencies)
    return State(sensor, celsius, status, tuple(khz for _, khz in by_core), float(clock), host_s)


def split_sections(text: str) -> dict[str, str]:
    """Text by the line `@@NAME` above it."""
    parts = re.split(r"^@@(\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parse_thermalservice(text: str) -> tuple[int | None, list[tuple[str, float]]]:
    """Android's thermal status, and kind and °C of the sensors, from `dumpsys thermalservice`.

    Reads the block that comes from the hardware. The cached block above it can be 20 °C old and is never used.
    """
    status = re.search(r"^\s*Thermal Status:\s*(\d+)\s*$", text, re.MULTILINE)
    temperatures = []
    for line in text.partition(_HAL)[2].splitlines()[1:]:
        entry = _ENTRY.match(line.strip())
        if not entry:
            break
        if _plausible(celsius := float(entry[1])):
            temperatures.append((_KINDS.get(int(entry[2]), "other"), celsius))
    return int(status[1]) if status else None, temperatures


def parse_thermal_zones(text: str) -> list[tuple[str, float]]:
    """Kind and °C of the sensors, from lines `TYPE VALUE` of /sys/class/thermal/thermal_zone*/{type,temp}."""
    temperatures = []
    for line in text.splitlines():
        name, _, value = line.strip().lower().rpartition(" ")
        if name and re.fullmatch(r"-?\d+", value) and (celsius := zone_celsius(int(value))) is not None:
            kinds = (kind for kind, parts in _ZONE_NAMES.items() if any(part in name for part in parts))
            temperatures.append((next(kinds, "other"), celsius))
    return temperatures


def zone_celsius(value: int) -> float | None:
    """°C of a thermal zone's number, in degrees, tenths or thousandths by its size; None for an absent sensor."""
    size = abs(value)
    celsius = value / (1 if size <= _HIGHEST_C else 10 if size <= 10 * _HIGHEST_C else 1000)
    return celsius if value and _plausible(celsius) else None


def _plausible(celsius: float) -> bool:
    return _LOWEST_C < celsius < _HIGHEST_C


def watched(temperatures: Sequence[tuple[str, float]]) -> tuple[str, float] | None:
    """The kind of sensor that decides whether a device is cool, and its highest °C; None without such a sensor."""
    highest = dict(sorted(temperatures))
    return next(((kind, highest[kind]) for kind in _WATCHED if kind in highest), None)


@contextlib.contextmanager
def watching(
    device: Connection, source: str | None, *, start_s: float, interval_s: float
) -> Iterator[tuple[list[Reading], list[str]]]:
    """Takes readings in a thread while the block runs, with times since `start_s` of the monotonic clock.

    Yields the readings and, if they stopped early, the reason; both are complete after the block.
    """
    readings: list[Reading] = []
    failures: list[str] = []
    stop = threading.Event()

    def take() -> None:
        # The first one after half an interval, so that it shows more than the loading of the model.
        while not stop.wait(interval_s if readings else interval_s / 2):
            try:
                state = read_state(device, source)
            except PocketHarError as error:
                # If the device is lost, the call of the tool raises.
                failures.append(str(error))
                return
            readings.append(Reading(round(state.host_s - start_s, 3), state.celsius, state.frequencies_khz))

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        yield readings, failures
    finally:
        stop.set()
        thread.join()


def cool_down(device: Connection, source: str | None, limit_c: float) -> State:
    """Waits until the watched sensor is at `limit_c` or below and Android does not throttle, at most COOL_TIMEOUT_S.

    Returns the last state. Raises as `read_state`.
    """
    end = time.monotonic() + COOL_TIMEOUT_S
    while True:
        state = read_state(device, source)
        if state.is_cool(limit_c) or time.monotonic() >= end:
            return state
        time.sleep(_COOL_INTERVAL_S)

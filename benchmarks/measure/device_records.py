"""The part of a record that only devices fill: what the device is, how it was measured, and whether that counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aggregate:
    """What a tool says of one process, in ms; None where it does not say. `count` inferences, 1 or more."""

    count: int
    mean_ms: float | None
    median_ms: float | None
    p90_ms: float | None
    lowest_ms: float | None
    highest_ms: float | None


@dataclass(frozen=True)
class Reading:
    """The device while a tool ran.

    Attributes:
        time_s: since the first process started, by the clock of the host.
        temperature_c: of the sensor that the run watches; None where it could not be read.
        frequencies_khz: of every core, in their order; 0 for a core that is off.
    """

    time_s: float
    temperature_c: float | None
    frequencies_khz: tuple[int, ...]


@dataclass(frozen=True)
class ToolRun:
    """One process of a tool on a device, with all that it printed.

    Attributes:
        start_s, end_s: since the first process started, by the clock of the host.
        inference: of this process.
        temperature_before_c, temperature_after_c: of the sensor that the run watches; None where it cannot be read.
        stdout, stderr, exit_code: as the tool left them.
    """

    start_s: float
    end_s: float
    inference: Aggregate
    temperature_before_c: float | None
    temperature_after_c: float | None
    stdout: str
    stderr: str
    exit_code: int


@dataclass(frozen=True)
class DeviceRun:
    """How a measurement on a device was made, and whether it counts.

    Attributes:
        tool: program that measured.
        tool_command: as it ran in its folder on the device.
        protocol: `quick`, `official` or `sustained`.
        sample: what a sample of the timing is: one `inference`, or what is typical of one `process` where the tool does
            not tell the times of single inferences.
        requested_accelerator: `cpu`, `gpu` or `npu`; what really ran it is the subject's.
        delegated_ops, total_ops: operations that went to the accelerator (or to a CPU delegate), and all; None where
            the tool does not say.
        core_mask: of the cores it was kept on, hexadecimal; None where it was free.
        sensor: that temperatures are of; None where the device has none that can be read.
        runs: processes in their order.
        readings: taken while they ran.
        reasons_against: why the measurement does not count; empty where it is valid.
    """

    tool: str
    tool_command: str
    protocol: str
    sample: str
    requested_accelerator: str
    delegated_ops: int | None
    total_ops: int | None
    core_mask: str | None
    sensor: str | None
    runs: tuple[ToolRun, ...]
    readings: tuple[Reading, ...]
    reasons_against: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.reasons_against


@dataclass(frozen=True)
class Device:
    """A phone or board as it was before the run; nothing that tells one of a model from another.

    Attributes:
        model: maker and model.
        soc: of the processor; None where the device does not say.
        hexagon: version of Qualcomm's accelerator by the processor's name alone, such as `v75`; None for others.
        soc_model: Qualcomm's number of the processor, or None.
        android: release, or None where it is no Android.
        clusters: of the cores, slowest first: hexadecimal mask and highest frequency, such as `0f: 1804 MHz`.
        governors: of the cores, each named once.
        battery_percent: None where there is no battery.
        battery_c: its temperature in °C, or None.
        charging: None where there is no battery.
        thermal_status: Android's, from 0 (none) to 6 (shutdown); None where it does not say.
    """

    model: str
    soc: str | None
    hexagon: str | None
    soc_model: int | None
    android: str | None
    clusters: tuple[str, ...]
    governors: tuple[str, ...]
    battery_percent: int | None
    battery_c: float | None
    charging: bool | None
    thermal_status: int | None

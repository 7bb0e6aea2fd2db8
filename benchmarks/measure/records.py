"""Records of measurements, filled alike by a run on this machine and a run on a phone.

Frozen dataclasses of plain JSON types, read strictly: a document with a missing, unknown or wrong field is an error.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.strict_json import decode, parse_json, refuse_non_finite
from preprocess.errors import DataError
from runtime.manifest import Manifest

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Machine:
    """Where it ran.

    Attributes:
        cpu: name of the processor.
        cores: that the process may use.
        architecture: as `uname -m` prints it.
        system: operating system and its release.
        memory_bytes: of the machine; None if unknown.
        instructions: the processor's instructions for 8-bit products, of a fixed list; None if unknown.
    """

    cpu: str
    cores: int
    architecture: str
    system: str
    memory_bytes: int | None
    instructions: tuple[str, ...] | None


@dataclass(frozen=True)
class Environment:
    """Origin of a number; names no person, host or path.

    Attributes:
        machine: where it ran.
        versions: of libraries; None for one that is not installed.
        date: ISO 8601, UTC.
        commit: of the source tree, with the suffix `-dirty` if files differ; None outside a repository.
        command: that repeats the result.
    """

    machine: Machine
    versions: dict[str, str | None]
    date: str
    commit: str | None
    command: str


@dataclass(frozen=True)
class Subject:
    """A model file in a runtime.

    Attributes:
        name: of the artifact.
        sha256, size_bytes: of the model file.
        format: `tflite` or `onnx`.
        recipe, preset: of the artifact; None for a model file without a manifest.
        stream: `fused`, `visual` or `audio`; None for a model file without a manifest.
        runtime, runtime_version: the version is None if the runtime does not report it.
        threads: of the runtime.
        accelerator: `cpu`, or the accelerator of a phone.
    """

    name: str
    sha256: str
    format: str
    recipe: str | None
    preset: str | None
    stream: str | None
    size_bytes: int
    runtime: str
    runtime_version: str | None
    threads: int
    accelerator: str = "cpu"

    @classmethod
    def of(cls, manifest: Manifest, runtime: str, version: str | None, threads: int, **more: str) -> Subject:
        """The subject of an artifact; `more` may be an `accelerator` and another `name` than in its manifest."""
        same = ("name", "sha256", "format", "recipe", "preset", "stream", "size_bytes")
        fields = {**{name: getattr(manifest, name) for name in same}, **more}
        return cls(**fields, runtime=runtime, runtime_version=version, threads=threads)

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """The identity of a subject from one commit to the next."""
        return self.name, self.stream, self.recipe, self.runtime, self.threads, self.accelerator

    @property
    def label(self) -> str:
        """For messages."""
        where = self.runtime if self.accelerator == "cpu" else f"{self.runtime} on {self.accelerator}"
        return f"{self.name} ({where}, threads: {self.threads})"


@dataclass(frozen=True)
class Timing:
    """Milliseconds of every round, in the order of the rounds: at least one, all positive."""

    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise DataError("a timing has no samples; measure at least one round")
        # This refuses NaN too: it fails every comparison.
        if not all(0 < sample < inf for sample in self.samples_ms):
            raise DataError("a timing has a sample that is not positive and finite; measure again")


@dataclass(frozen=True)
class Memory:
    """Memory of a separate process, beyond the interpreter with the runtime imported and no model.

    Attributes:
        peak_bytes: largest resident set.
        arena_bytes: reserved for the runtime's plan for tensors, which no runtime reports yet; None.
        mapped_peak_bytes: as `peak_bytes`, with weights held once in a mapped file; None for other runtimes.
    """

    peak_bytes: int
    arena_bytes: int | None = None
    mapped_peak_bytes: int | None = None


@dataclass(frozen=True)
class Aggregate:
    """Statistics of one process in ms; None for those that its tool does not report. `count` inferences, 1 or more."""

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
        temperature_c: of the watched sensor; None if it could not be read.
        frequencies_khz: of every core, in their order; 0 for a core that is off.
    """

    time_s: float
    temperature_c: float | None
    frequencies_khz: tuple[int, ...]


@dataclass(frozen=True)
class ToolRun:
    """One process of a tool on a device, with its output.

    Attributes:
        start_s, end_s: since the first process started, by the clock of the host.
        inference: of this process.
        temperature_before_c, temperature_after_c: of the watched sensor; None if it cannot be read.
        stdout, stderr, exit_code: of the process.
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
        sample: meaning of a sample of the timing: one `inference`, or the typical time of one `process` if the tool
            reports aggregates only.
        requested_accelerator: `cpu`, `gpu` or `npu`; the effective one is the subject's.
        delegated_ops, total_ops: operations delegated to the accelerator (or to a CPU delegate), and all; None if the
            tool does not report them.
        core_mask: of the cores it was pinned to, hexadecimal; None if not pinned.
        sensor: of the temperatures; None if the device has none that can be read.
        runs: processes in their order.
        readings: during the processes.
        reasons_against: why the measurement does not count; empty if it is valid.
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
    """A phone or board before the run; the fields do not identify one device among those of a model.

    Attributes:
        model: maker and model.
        soc: name of the processor; None if not reported.
        hexagon: version of Qualcomm's NPU, derived from the processor's name, such as `v75`; None for others.
        soc_model: Qualcomm's number of the processor, or None.
        android: release, or None without Android.
        clusters: of the cores, slowest first: hexadecimal mask and highest frequency, such as `0f: 1804 MHz`.
        governors: of the cores, each named once.
        battery_percent: None without a battery.
        battery_c: its temperature in °C, or None.
        charging: None without a battery.
        thermal_status: Android's, from 0 (none) to 6 (shutdown); None if not reported.
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


@dataclass(frozen=True)
class Measurement:
    """Times and memory of one subject.

    Attributes:
        subject: the measured file.
        preprocessing: from raw joints and waveform to tensors in the model's inputs; None for random inputs.
        inference: of the runtime's call alone.
        memory: None if not measured.
        conditions: further facts that a reader must know, as text by name.
        device_run: how it was made on a device; None for a measurement of `benchmarks.measure.runner`.
    """

    subject: Subject
    preprocessing: Timing | None
    inference: Timing
    memory: Memory | None
    conditions: dict[str, str] = field(default_factory=dict)
    device_run: DeviceRun | None = None


@dataclass(frozen=True)
class Record:
    """A run of the benchmark.

    Attributes:
        environment: origin of the numbers.
        seed: of the order within rounds.
        rounds: timed inferences of every subject.
        measurements: of every subject, in the order of the command line.
        warnings: reasons to doubt the numbers.
        device: the phone or board it ran on; None for the machine that ran the benchmark.
    """

    environment: Environment
    seed: int
    rounds: int
    measurements: tuple[Measurement, ...]
    warnings: tuple[str, ...] = ()
    device: Device | None = None
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, `schema_version` first.

        Raises:
            DataError: a number is not finite.
        """
        document = {"schema_version": self.schema_version, **asdict(self)}
        refuse_non_finite(document, "record")
        # Tuples become lists, as in a document that was read.
        plain: dict[str, Any] = json.loads(json.dumps(document))
        return plain

    @classmethod
    def from_dict(cls, data: Any, where: str = "record") -> Record:
        """Inverse of `to_dict`.

        Raises:
            DataError: another version; a field is missing, unknown, of another type or not finite.
        """
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise DataError(f"schema_version of the {where} is {version!r}; this release reads {SCHEMA_VERSION}")
        record: Record = decode(cls, data, where, complete=True)
        return record

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_record(record: Record, path: Path) -> None:
    """Writes the JSON file, complete or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(record.to_json(), encoding="utf-8")


def read_record(path: Path) -> Record:
    """Reads a file of `write_record`.

    Raises:
        DataError: the file does not exist or is not a record; the message names it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; make it with `python -m benchmarks latency … --out {path}`") from None
    return Record.from_dict(parse_json(content, f"record {path}"), f"record {path}")

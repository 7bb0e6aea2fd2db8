"""What a measurement says: records that a run on this machine and a run on a phone fill alike.

Frozen dataclasses of plain JSON types. Reading is strict: a field that is missing, unknown, of another type or not
finite is an error, so that nobody compares what was half understood.
"""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from console.files import atomic_file
from preprocess.errors import DataError

from .device_records import Device, DeviceRun

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Machine:
    """Where it ran.

    Attributes:
        cpu: name of the processor.
        cores: that the process may use.
        architecture: as `uname -m` says.
        system: operating system and its release.
        memory_bytes: of the whole machine; None where the system does not say.
        instructions: those for 8-bit products that the processor has, of the ones we look for; None where unknown.
    """

    cpu: str
    cores: int
    architecture: str
    system: str
    memory_bytes: int | None
    instructions: tuple[str, ...] | None


@dataclass(frozen=True)
class Environment:
    """Where a number comes from; names no person, host or path.

    Attributes:
        machine: where it ran.
        versions: of libraries; None stands for one that is not installed.
        date: ISO 8601, UTC.
        commit: of the source tree, with `-dirty` behind it where files differ; None outside a repository.
        command: that makes the result again.
    """

    machine: Machine
    versions: dict[str, str | None]
    date: str
    commit: str | None
    command: str


@dataclass(frozen=True)
class Subject:
    """What was measured.

    Attributes:
        name: of the artefact.
        sha256, size_bytes: of the model file.
        format: `tflite` or `onnx`.
        recipe, preset: of the artefact; None for a model file without a manifest.
        stream: `fused`, `visual` or `audio`; None for a model file without a manifest.
        runtime, runtime_version: what ran it; the version is None where the runtime does not say.
        threads: of the runtime.
        accelerator: `cpu`, or what a phone used.
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

    @property
    def key(self) -> tuple[str | int | None, ...]:
        """What identifies a subject from one commit to the next."""
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
        # A NaN passes no comparison, so this refuses it too.
        if not all(0 < sample < math.inf for sample in self.samples_ms):
            raise DataError("a timing has a sample that is not positive and finite; measure again")


@dataclass(frozen=True)
class Memory:
    """Memory of a process that does nothing else, beyond the interpreter with the runtime imported and no model.

    Attributes:
        peak_bytes: largest resident set.
        arena_bytes: of the runtime's own plan for tensors; None where it does not tell.
        mapped_peak_bytes: as `peak_bytes`, with weights held once in a mapped file; None where that does not exist.
    """

    peak_bytes: int
    arena_bytes: int | None = None
    mapped_peak_bytes: int | None = None


@dataclass(frozen=True)
class Measurement:
    """One subject.

    Attributes:
        subject: what was measured.
        preprocessing: raw joints and waveform to tensors that lie in the model's inputs; None where inputs were random.
        inference: of the runtime's own call alone.
        memory: None where it was not measured.
        conditions: whatever else a reader must know, as text by name.
        device_run: how it was made on a device; None where the runner of this package measured.
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
        environment: where the numbers come from.
        seed: of the order within rounds.
        rounds: how often every subject ran while the clock did.
        measurements: of every subject, in the order they were named.
        warnings: why the numbers may be doubted.
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
        _refuse_non_finite(document, "record")
        # Tuples become lists, as a reader of the file would get them.
        plain: dict[str, Any] = json.loads(json.dumps(document))
        return plain

    @classmethod
    def from_dict(cls, data: Any) -> Record:
        """Inverse of `to_dict`; reads records of version 1, which knew no devices, too.

        Raises:
            DataError: another version; a field is missing, unknown, of another type or not finite.
        """
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
            raise DataError(f"schema_version of the record is {version!r}; this release reads 1 and {SCHEMA_VERSION}")
        if version == 1:
            data = _from_version_1(data)
        record: Record = _decode(cls, data, "record")
        return record

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Inverse of `to_json`; raises DataError as `from_dict`, and where the text is no JSON."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"the record is no JSON: {error}; measure again") from error
        return cls.from_dict(data)


def write_record(record: Record, path: Path) -> None:
    """Writes the JSON file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(record.to_json(), encoding="utf-8")


def read_record(path: Path) -> Record:
    """Reads what `write_record` wrote.

    Raises:
        DataError: the file does not exist or is no record; the message names it.
    """
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; make it with `python -m benchmarks latency … --out {path}`") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text; name a file that `python -m benchmarks latency` wrote") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """With the fields that version 2 added; whatever is wrong otherwise is left for the reader to refuse."""
    measurements = data.get("measurements")
    if isinstance(measurements, list):
        measurements = [_with(own, "device_run") if isinstance(own, dict) else own for own in measurements]
        data = {**data, "measurements": measurements}
    return {**_with(data, "device"), "schema_version": SCHEMA_VERSION}


def _with(data: dict[str, Any], added: str) -> dict[str, Any]:
    if added in data:
        raise DataError(f"a record of version 1 has the unknown field {added!r}; measure again with this release")
    return {**data, added: None}


def _refuse_non_finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where} is {value}; a record holds finite numbers, measure again")
    for name, item in _items(value):
        _refuse_non_finite(item, f"{where}.{name}")


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON gives it, as an object of the annotated type `kind`; `where` it stands, for messages."""
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        # Here always `X | None`.
        return None if value is None else _decode(typing.get_args(kind)[0], value, where)
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if origin is tuple:
        _require(isinstance(value, list), value, where, "a list")
        return tuple(_decode(typing.get_args(kind)[0], item, f"{where}.{i}") for i, item in enumerate(value))
    if origin is dict:
        _require(isinstance(value, dict), value, where, "an object")
        return {name: _decode(typing.get_args(kind)[1], item, f"{where}.{name}") for name, item in value.items()}
    if kind is float:
        # JSON may write 3.0 as 3. True is an integer for Python.
        _require(isinstance(value, int | float) and not isinstance(value, bool), value, where, "a number")
        _require(math.isfinite(value), value, where, "a finite number")
        return float(value)
    _require(type(value) is kind, value, where, {str: "text", int: "a whole number", bool: "true or false"}[kind])
    return value


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), value, where, "an object")
    names = {own.name for own in fields(kind)}
    for problem, odd in (("missing", names - value.keys()), ("unknown", value.keys() - names)):
        if odd:
            raise DataError(f"{where} has the {problem} field {min(odd)!r}; measure again with this release")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _decode(hints[name], value[name], f"{where}.{name}") for name in sorted(names)})


def _require(condition: bool, value: Any, where: str, expected: str) -> None:
    if not condition:
        raise DataError(f"{where} is {value!r:.60}; it must be {expected}")

"""An artefact on a device, as a record."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.measure.device_records import DeviceRun
from benchmarks.measure.provenance import environment
from benchmarks.measure.records import Measurement, Memory, Record, Subject, Timing
from preprocess.errors import DataError
from runtime.manifest import Manifest

from .device.facts import fastest_cores
from .device.probe import Facts, read_facts
from .device.target import LocalTarget, Target
from .device.workspace import DeviceFile, workspace
from .protocol import Protocol
from .series import Series, SeriesRunner, samples_of
from .tools.binaries import find_binary
from .tools.har_run import agreeing
from .tools.npu_libraries import require_chip
from .tools.tool import Request, Tool

_LOW_BATTERY_PERCENT = 20  # below about this, phones save power


@dataclass(frozen=True)
class Job:
    """What to measure, the same on every device.

    Attributes:
        artifact: folder.
        manifest: of the artefact.
        tool: that measures.
        tool_path: see `find_binary`.
        accelerator: `cpu`, `gpu` or `npu`.
        threads: of the runtime.
        protocol: how often and how long.
        profile: whether an extra process times every operation.
        keep: whether files stay on the device.
        command: that makes the record again.
    """

    artifact: Path
    manifest: Manifest
    tool: Tool
    tool_path: Path | None
    accelerator: str
    threads: int
    protocol: Protocol
    profile: bool
    keep: bool
    command: str


def measure_on(target: Target, job: Job) -> Record:
    """Measures; the device is left as it was.

    Raises:
        DeviceLost, CommandTimeout, DataError: as the functions of `Target`.
        MissingComponentError: the tool or one of its libraries is not there.
        ToolFailed: the tool failed, or its output is not understood.
        UsageError: the file is compiled for another chip.
    """
    facts = read_facts(target)
    require_chip(job.manifest, facts.device.soc)
    program, libraries = find_binary(
        job.tool,
        job.tool_path,
        architecture=facts.machine.architecture,
        android=facts.android,
        here=isinstance(target, LocalTarget),
    )
    request = Request(
        artifact=job.artifact,
        model=job.manifest.model_file,
        sha256=job.manifest.sha256,
        threads=job.threads,
        accelerator=job.accelerator,
        protocol=job.protocol,
        libraries=tuple(own.name for own in libraries),
        compiled=job.manifest.npu,
    )
    job.tool.command(request, runs=1)  # what is missing is told before anything is copied
    files = [
        DeviceFile(program, job.tool.name, program=True),
        *(DeviceFile(own, own.name) for own in libraries),
        *job.tool.files(request),
    ]
    mask = fastest_cores(facts.cores, job.threads) if facts.can_pin else None
    with workspace(target, files, keep=job.keep) as place:
        series = SeriesRunner(place, job.tool, request, facts, mask).run(profile=job.profile)
    return record_of(series, facts, job, mask)


def record_of(series: Series, facts: Facts, job: Job, mask: str | None) -> Record:
    """The record of a series."""
    first, manifest = series.results[0], job.manifest
    golden = _check_answers(series, job)
    sample, samples_ms = samples_of(series.results)
    preprocessing = tuple(own for result in series.results for own in result.preprocessing_ms)
    peaks = [own.memory_bytes for own in series.results if own.memory_bytes is not None]
    subject = Subject(
        name=manifest.name,
        sha256=manifest.sha256,
        format=manifest.format,
        recipe=manifest.recipe,
        preset=manifest.preset,
        stream=manifest.stream,
        size_bytes=manifest.size_bytes,
        runtime=first.runtime,
        runtime_version=first.runtime_version,
        threads=job.threads,
        accelerator=first.accelerator,
    )
    conditions = {
        "inputs": "golden recordings" if preprocessing else "random tensors",
        "warm-up runs": str(job.protocol.warmup_runs),
        "memory": first.memory_of,
        "power": "not measured",
        **golden,
    }
    if series.profile:
        layers = (f"{own.kind} ×{own.count}: {own.mean_ms:g} ms" for own in series.profile.layers)
        conditions["profile"] = "; ".join(layers)
    device_run = DeviceRun(
        tool=job.tool.name,
        tool_command=" ".join(series.command),
        protocol=job.protocol.name,
        sample=sample,
        requested_accelerator=job.accelerator,
        delegated_ops=first.delegated_ops,
        total_ops=first.total_ops,
        core_mask=mask,
        sensor=series.sensor,
        runs=tuple(series.runs),
        readings=tuple(series.readings),
        reasons_against=tuple(series.against),
    )
    measurement = Measurement(
        subject,
        Timing(preprocessing) if preprocessing else None,
        Timing(samples_ms),
        Memory(max(peaks)) if peaks else None,
        conditions,
        device_run,
    )
    origin = replace(environment(job.command, packages=("numpy",)), machine=facts.machine)
    inferences = sum(own.inference.count for own in series.results)
    warnings = [*series.warnings, *_battery_warnings(facts)]
    return Record(origin, 0, inferences, (measurement,), tuple(warnings), facts.device)


def _battery_warnings(facts: Facts) -> list[str]:
    percent = facts.device.battery_percent
    if percent is not None and percent < _LOW_BATTERY_PERCENT:
        return [f"the battery was at {percent} %, where phones save power; charge it and run again"]
    return []


def _check_answers(series: Series, job: Job) -> dict[str, str]:
    """Compares the device's answers with the golden ones; what differs speaks against the measurement."""
    answers = {name: logits for result in series.results for name, logits in result.logits.items()}
    if not answers:
        return {}
    golden = golden_logits(job.artifact, job.manifest)
    if set(answers) != set(golden):
        series.against.append(f"the device answered on {len(answers)} recordings, the artefact has {len(golden)}")
    wrong = [name for name in sorted(answers.keys() & golden.keys()) if not agreeing(answers[name], golden[name])]
    if wrong:
        series.against.append(f"the device gives another class than the artefact on {', '.join(wrong)}")
    apart = [_snr_db(answers[name], golden[name]) for name in answers.keys() & golden.keys()]
    finite = [own for own in apart if own is not None]
    lowest = f", logits' SNR {min(finite):.1f} dB or more" if finite else ""
    return {"answers": f"{len(answers) - len(wrong)} of {len(golden)} classes as on export{lowest}"}


def _snr_db(logits: Sequence[float], golden: Sequence[float]) -> float | None:
    """Of the device's logits against the golden ones; None where they are equal or of another number."""
    if len(logits) != len(golden):
        return None
    signal = sum(own**2 for own in golden)
    noise = sum((a - b) ** 2 for a, b in zip(logits, golden, strict=True))
    return 10 * math.log10(signal / noise) if signal and noise else None


def golden_logits(artifact: Path, manifest: Manifest) -> Mapping[str, tuple[float, ...]]:
    """Logits of the golden recordings by name; those files that have none are left out.

    Raises:
        DataError: a file is damaged.
    """
    found = {}
    for name in manifest.golden:
        try:
            with np.load(artifact / name, allow_pickle=False) as arrays:
                if "logits" in arrays:
                    found[Path(name).stem] = tuple(map(float, arrays["logits"].ravel()))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{artifact / name} is missing or damaged: {error}; export the artefact again") from error
    return found

"""The interface of a measuring tool: a command line, and a parser from its output to one kind of result."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.measure.records import Aggregate
from preprocess.errors import DataError
from runtime.manifest import Manifest

from ..device.connection import Outcome, quote
from ..device.workspace import DeviceFile
from ..protocol import Schedule

# A number as C++ streams print it.
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Request:
    """One measurement.

    Attributes:
        folder: of the artifact, here.
        manifest: of the artifact.
        threads: of the runtime.
        accelerator: `cpu`, `gpu` or `npu`.
        schedule: how often and how long.
        libraries: names of the shared libraries beside the tool on the device.
        profile: whether to time every operation, which slows all of them down.
    """

    folder: Path
    manifest: Manifest
    threads: int
    accelerator: str
    schedule: Schedule
    libraries: tuple[str, ...] = ()
    profile: bool = False


@dataclass(frozen=True)
class ToolResult:
    """Parsed output of one process.

    Attributes:
        inference: of the counted inferences.
        inference_ms: of each; empty if the tool reports aggregates only.
        preprocessing_ms: of each; empty for random inputs.
        accelerator: the effective one: as requested, or `gpu+cpu` and `npu+cpu` if a part stayed on the CPU.
        delegated_ops, total_ops: None if not reported.
        memory_bytes: None if not reported; `memory_of` says of what.
        runtime_version: None if not reported.
        logits: of every recording by its name, if the tool prints them.
        profile: time by kind of operation, for the record.
    """

    inference: Aggregate
    inference_ms: tuple[float, ...]
    preprocessing_ms: tuple[float, ...]
    accelerator: str
    delegated_ops: int | None
    total_ops: int | None
    memory_bytes: int | None
    memory_of: str
    runtime: str
    runtime_version: str | None = None
    logits: dict[str, tuple[float, ...]] = field(default_factory=dict)
    profile: str = ""

    @property
    def typical_ms(self) -> float:
        """The median of the process, or the mean if the tool reports no median."""
        typical = self.inference.median_ms or self.inference.mean_ms
        assert typical is not None
        return typical

    @property
    def measured_s(self) -> float:
        """Total time of the counted inferences."""
        return self.inference.count * (self.inference.mean_ms or self.typical_ms) / 1e3


class Tool(Protocol):
    """A program that measures a model file.

    Attributes:
        name: of the program.
        formats: of model files that it reads.
        accelerators: that it supports.
        remedy: how to get it.
        is_ours: whether it belongs to the project: it is built from its sources and runs with LiteRT's library.
        reports_samples: whether it reports the time of every inference.
        counts_runs_only: whether it accepts a number of runs, but no time.
        result_file: that it writes into its folder, or None.
    """

    name: str
    formats: tuple[str, ...] = ("tflite",)
    accelerators: tuple[str, ...] = ("cpu", "gpu", "npu")
    remedy: str
    is_ours: bool = False
    reports_samples: bool = True
    counts_runs_only: bool = False
    result_file: str | None = None

    def files(self, request: Request) -> list[DeviceFile]:
        """The files to copy to the device, without the program and its libraries."""
        model = request.manifest.model_file
        return [DeviceFile(request.folder / model, model)]

    def command(self, request: Request, *, runs: int) -> list[str]:
        """The program's arguments, in the folder with its files.

        Raises:
            MissingComponentError: a library that the accelerator needs is missing.
        """

    def parse(self, outcome: Outcome, request: Request, *, result_file: str = "") -> ToolResult:
        """Parses the output of a process, and the text of the file that it wrote.

        Raises:
            DataError: the tool failed, ran on another accelerator, or printed something unknown.
        """


def aggregate(samples_ms: Sequence[float]) -> Aggregate:
    """Statistics of the samples. Raises DataError as `require_times`."""
    require_times(samples_ms)
    median, p90 = np.quantile(np.asarray(samples_ms, np.float64), (0.5, 0.9)).tolist()
    return Aggregate(len(samples_ms), float(np.mean(samples_ms)), median, p90, min(samples_ms), max(samples_ms))


def require_times(times_ms: Sequence[float]) -> None:
    """Raises DataError if there are no times, or one is not positive and finite."""
    if not times_ms:
        raise DataError("the tool reported no times; look at its output with --debug and run again")
    for time_ms in times_ms:
        if not 0 < time_ms < math.inf:
            raise DataError(
                f"the tool reported a time of {time_ms:g} ms; the device's clock may have jumped, run again"
            )


def require_success(tool: str, outcome: Outcome, marks: Sequence[str] = ()) -> None:
    """Raises DataError, with the lines about the error, if the exit code is not 0 or a mark of failure was printed."""
    if not outcome.exit_code and not any(mark in outcome.stdout or mark in outcome.stderr for mark in marks):
        return
    lines = (outcome.stdout + "\n" + outcome.stderr).splitlines()
    errors = [line for line in lines if re.search(r"\b(error|failed|fatal|abort|cannot|not found)\b", line, re.I)]
    code = outcome.exit_code
    how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    raise DataError(f"{tool} {how}: {quote(chr(10).join(errors or lines), 400)}")

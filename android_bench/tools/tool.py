"""What every tool is for us: a command line, and a parser from what it printed to one kind of result."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np

from benchmarks.measure.device_records import Aggregate
from preprocess.errors import UsageError

from ..device.errors import ToolFailed, quote
from ..device.target import Outcome
from ..device.workspace import DeviceFile
from ..protocol import Protocol

# Of a number as C++ streams print it.
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        artifact: folder here.
        model: name of the model file in it.
        sha256: of the model file.
        threads: of the runtime.
        accelerator: `cpu`, `gpu` or `npu`.
        protocol: how long.
        libraries: names of the shared libraries that lie beside the tool on the device.
        compiled: what the manifest says of a file compiled for an NPU; None for any other.
        profile: whether to time every operation, which slows all of them down.
    """

    artifact: Path
    model: str
    sha256: str
    threads: int
    accelerator: str
    protocol: Protocol
    libraries: tuple[str, ...] = ()
    compiled: Mapping[str, Any] | None = None
    profile: bool = False


@dataclass(frozen=True)
class LayerTime:
    """Of a profile: operations of one kind, how many, and ms of all of them in an inference."""

    kind: str
    count: int
    mean_ms: float


@dataclass(frozen=True)
class ToolResult:
    """What one process of a tool said.

    Attributes:
        inference: of the inferences that count.
        inference_ms: of each; empty where the tool does not tell.
        preprocessing_ms: of each; empty where inputs were random.
        accelerator: what ran it: as requested, or `gpu+cpu` and `npu+cpu` where a part stayed on the CPU.
        delegated_ops, total_ops: None where the tool does not say.
        memory_bytes: None where the tool does not say; `memory_of` says of what.
        runtime_version: None where the tool does not say.
        logits: of every recording by its name, where the tool answers.
        layers: of a profile.
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
    layers: tuple[LayerTime, ...] = ()


class Tool(Interface):
    """A program that measures a model file.

    Attributes:
        name: of the program.
        formats: of model files that it reads.
        accelerators: that it can be asked for.
        remedy: how to get it.
        is_ours: whether it is the project's own, which can be built from its sources and runs with LiteRT's library.
        tells_samples: whether it tells the time of every inference.
        counts_runs_only: whether it cannot be told a time to run.
        result_file: that it writes into its folder, or None.
    """

    name: str
    formats: tuple[str, ...]
    accelerators: tuple[str, ...]
    remedy: str
    is_ours: bool
    tells_samples: bool
    counts_runs_only: bool
    result_file: str | None

    def files(self, request: Request) -> list[DeviceFile]:
        """What it needs on the device, without itself and its libraries."""

    def command(self, request: Request, *, runs: int) -> list[str]:
        """Its options, in a folder with its files.

        Raises:
            MissingComponentError: a library that the accelerator needs is not there.
        """

    def parse(self, outcome: Outcome, request: Request, *, result_file: str = "") -> ToolResult:
        """What it said.

        Args:
            outcome: of the process.
            request: what was asked.
            result_file: text of the file that it wrote.

        Raises:
            ToolFailed: it failed, ran elsewhere than asked, or said something that is not understood.
        """


def find_tool(name: str | None, file_format: str, accelerator: str) -> Tool:
    """The tool by its name; without one, the one that suits the format.

    Raises:
        UsageError: it does not read the format or does not know the accelerator.
    """
    from .benchmark_model import BenchmarkModel
    from .har_run import HarRun
    from .ort_perf import OnnxruntimePerfTest

    tools: tuple[Tool, ...] = (HarRun(), BenchmarkModel(), OnnxruntimePerfTest())
    able = [own for own in tools if file_format in own.formats]
    chosen = next((own for own in able if name in (None, own.name)), None)
    if chosen is None:
        names = " or ".join(own.name for own in able)
        raise UsageError(f"--tool is {name}, which reads no {file_format} file; use {names}")
    if accelerator not in chosen.accelerators:
        raise UsageError(
            f"--accelerator is {accelerator}, but {chosen.name} has {' and '.join(chosen.accelerators)} only"
        )
    return chosen


def aggregate(samples_ms: Sequence[float]) -> Aggregate:
    """Of at least one sample. Raises ToolFailed where one is not positive and finite."""
    require_times(samples_ms)
    median, p90 = np.quantile(np.asarray(samples_ms, np.float64), (0.5, 0.9)).tolist()
    return Aggregate(len(samples_ms), float(np.mean(samples_ms)), median, p90, min(samples_ms), max(samples_ms))


def require_times(times_ms: Sequence[float]) -> None:
    """Raises ToolFailed where there is none, or one is not positive and finite."""
    if not times_ms:
        raise ToolFailed("the tool told no times; look at its output with --debug and run again")
    for own in times_ms:
        if not 0 < own < math.inf:
            raise ToolFailed(f"the tool told a time of {own:g} ms; the device's clock may have jumped, run again")


def require_success(tool: str, outcome: Outcome, marks: Sequence[str] = ()) -> None:
    """Raises ToolFailed with the lines that tell why, where the exit code is not 0 or a mark of failure is there."""
    said = [mark for mark in marks if mark in outcome.stdout or mark in outcome.stderr]
    if not outcome.exit_code and not said:
        return
    lines = (outcome.stdout + "\n" + outcome.stderr).splitlines()
    telling = [line for line in lines if re.search(r"\b(error|failed|fatal|abort|cannot|not found)\b", line, re.I)]
    code = outcome.exit_code
    how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    raise ToolFailed(f"{tool} {how}: {quote(chr(10).join(telling or lines), 400)}")

"""Google's `benchmark_model` for TFLite files: its command line, and what it prints.

The program writes on both streams and its wording changed over the years: an `INFO:` prefix, `p5= median= p95=`, the
lines about memory. It tells no time of a single inference, and goes on with the CPU when a delegate takes nothing.
"""

from __future__ import annotations

import re

from benchmarks.measure.device_records import Aggregate
from preprocess.errors import MissingComponentError

from ..device.errors import ToolFailed, quote
from ..device.target import Outcome
from ..device.workspace import DeviceFile
from .npu_libraries import DISPATCH, require_libraries
from .tool import NUMBER, LayerTime, Request, ToolResult, require_success, require_times

QNN = "libQnnTFLiteDelegate.so"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({NUMBER}), First inference: ({NUMBER}), Warmup \(avg\): ({NUMBER}), "
    rf"Inference \(avg\): ({NUMBER})\s*$",
    re.MULTILINE,
)
# At the start of a line; behind "Timings (microseconds):" stand the profiler's.
_COUNT = re.compile(rf"^(?:INFO: )?count=\d+(?: [a-z0-9]+={NUMBER})+\s*$", re.MULTILINE)
_MEMORY = (
    re.compile(rf"Memory footprint delta from the start of the tool \(MB\): init={NUMBER} overall=({NUMBER})"),
    re.compile(rf"Peak memory footprint \(MB\): init={NUMBER} overall=({NUMBER})"),
)
_WHOLE_MEMORY = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({NUMBER})")
_REPLACING = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)")
_APPLIED = re.compile(r"Explicitly applied (\w+) delegate, and the model graph will be (completely|partially) executed")
_NOT_APPLIED = re.compile(r"Though (\w+) delegate is explicitly applied, the model graph will not be\s+executed")
_TYPES = "Summary by node type"
_ROW = re.compile(rf"^\s*([A-Za-z_][\w./ -]*?)\s+(\d+)\s+({NUMBER})\s+{NUMBER}%\s+{NUMBER}%\s+{NUMBER}\s+\d+\s*$")


class BenchmarkModel:
    """See `tools.Tool`."""

    name = "benchmark_model"
    formats: tuple[str, ...] = ("tflite",)
    accelerators: tuple[str, ...] = ("cpu", "gpu", "npu")
    is_ours = False
    tells_samples = False
    counts_runs_only = False
    result_file: str | None = None
    remedy = "download it for your device from https://ai.google.dev/edge/litert/models/measurement"

    def files(self, request: Request) -> list[DeviceFile]:
        return [DeviceFile(request.artifact / request.model, request.model)]

    def command(self, request: Request, *, runs: int) -> list[str]:
        protocol = request.protocol
        words = [
            f"--graph={request.model}",
            f"--num_threads={request.threads}",
            f"--warmup_runs={protocol.warmup_runs}",
            f"--num_runs={runs}",
            f"--min_secs={protocol.fewest_s:g}",
            f"--max_secs={protocol.most_s:g}",
            "--use_xnnpack=true",
            "--report_peak_memory_footprint=true",
        ]
        if request.accelerator == "gpu":
            words += ["--use_gpu=true", "--gpu_backend=cl"]
        if request.accelerator == "npu":
            words += compiled_words(request) if request.compiled else npu_words(request.libraries)
        return words + (["--enable_op_profiling=true"] if request.profile else [])

    def parse(self, outcome: Outcome, request: Request, *, result_file: str = "") -> ToolResult:
        require_success(self.name, outcome, ("Benchmarking failed.",))
        text = f"{outcome.stdout}\n{outcome.stderr}"
        found = _aggregate(text)
        if request.compiled:
            # No CPU has a kernel for what was compiled: the inferences themselves show that the NPU ran it.
            placed = request.compiled["placement"]
            effective, delegated, total = "npu", placed["npu_ops"], placed["total_ops"]
            effective += "" if placed["full"] else "+cpu"
        else:
            effective, delegated, total = _delegation(text, request.accelerator)
        memory_bytes, memory_of = _memory(text)
        return ToolResult(
            inference=found,
            inference_ms=(),
            preprocessing_ms=(),
            accelerator=effective,
            delegated_ops=delegated,
            total_ops=total,
            memory_bytes=memory_bytes,
            memory_of=memory_of,
            runtime=self.name,
            layers=parse_profile(text) if request.profile else (),
        )


def npu_words(libraries: tuple[str, ...]) -> list[str]:
    """Qualcomm's delegate; raises MissingComponentError where it does not lie beside the tool."""
    if QNN not in libraries:
        raise MissingComponentError(
            f"--accelerator npu needs {QNN} and the libQnn* files it loads beside the tool; take them from Qualcomm's "
            "AI Engine Direct SDK and name their folder with --tool-path"
        )
    return [f"--external_delegate_path=./{QNN}", "--external_delegate_options=backend_type:htp"]


def compiled_words(request: Request) -> list[str]:
    """For a file compiled ahead of time: options of LiteRT's benchmark_model, which TensorFlow's does not know."""
    assert request.compiled is not None
    require_libraries(request.compiled["soc"], request.libraries, more=(DISPATCH,))
    return ["--use_npu=true", "--dispatch_library_path=."]


def _aggregate(text: str) -> Aggregate:
    """Of the inferences that count. Raises ToolFailed where the lines are missing or contradict each other."""
    timings, counts = _TIMINGS.findall(text), _COUNT.findall(text)
    if not timings or not counts:
        raise ToolFailed(f"benchmark_model gave no result, its output is cut off or of another kind: {quote(text)}")
    values = {
        key: float(value) for key, _, value in (word.partition("=") for word in counts[-1].split() if "=" in word)
    }
    mean = float(timings[-1][3]) / 1e3
    single = values["count"] == 1
    wanted = {"count", "curr"} if single else {"count", "avg", "min", "max"}
    if wanted - values.keys():
        raise ToolFailed(f"benchmark_model gave a line without {min(wanted - values.keys())!r}: {quote(counts[-1])}")
    lowest, highest = (values["curr" if single else key] / 1e3 for key in ("min", "max"))
    require_times([mean, lowest, highest])
    of_line = values["curr" if single else "avg"] / 1e3
    # Six digits are printed.
    if abs(of_line - mean) > 1e-4 * mean + 1e-3 or not lowest * 0.9999 <= of_line <= highest * 1.0001:
        raise ToolFailed(
            f"benchmark_model contradicts itself, the clock of the device may have jumped: {quote(counts[-1])} and an "
            f"average of {mean:g} ms"
        )
    median = values["median"] / 1e3 if "median" in values else of_line if single else None
    return Aggregate(int(values["count"]), mean, median, None, lowest, highest)


def _kind(delegate: str) -> str:
    """The accelerator of a delegate by its name."""
    name = delegate.lower()
    return "cpu" if "xnnpack" in name else "gpu" if "gpu" in name else "npu"


def _delegation(text: str, requested: str) -> tuple[str, int | None, int | None]:
    """What ran it, operations that the delegate took, and all.

    Raises ToolFailed where another than the CPU was asked for and took nothing.
    """
    taken = [(int(own[1]), int(own[2])) for own in _REPLACING.finditer(text) if _kind(own[3]) == requested]
    delegated = sum(own[0] for own in taken) if taken else None
    total = max(own[1] for own in taken) if taken else None
    if requested == "cpu":
        return "cpu", delegated, total
    refused = [own for own in _NOT_APPLIED.finditer(text) if _kind(own[1]) == requested]
    applied = [own for own in _APPLIED.finditer(text) if _kind(own[1]) == requested]
    if refused or not (delegated or applied):
        why = refused[0][0] if refused else "the output names no operation that went there"
        raise ToolFailed(f"{requested} was asked for, but the model ran on the CPU: {why}")
    whole = delegated == total if taken else applied[-1][2] == "completely"
    return requested if whole else f"{requested}+cpu", delegated, total


def _memory(text: str) -> tuple[int | None, str]:
    for pattern, what in (*((own, "beyond the tool's start") for own in _MEMORY), (_WHOLE_MEMORY, "whole process")):
        found = pattern.findall(text)
        # Builds for systems that do not tell print 0.
        if found and float(found[-1]) > 0:
            return round(float(found[-1]) * 2**20), what
    return None, "not told"


def parse_profile(text: str) -> tuple[LayerTime, ...]:
    """Operations by type, of the last profile in the output: that of the runs, where loading has one of its own.

    Raises:
        ToolFailed: there is none, or it has no rows.
    """
    head, found, section = text.rpartition(_TYPES)
    rows = []
    for line in section.splitlines()[1:]:
        match = _ROW.match(line)
        if match:
            rows.append(LayerTime(match[1], int(match[2]), float(match[3])))
        elif rows:
            break
    if not rows:
        raise ToolFailed(f"benchmark_model gave no profile of operations: {quote(section if found else head or text)}")
    return tuple(rows)

"""Google's `benchmark_model` for TFLite files: its command line and its output.

The program writes on both streams and its wording changed over the years: an `INFO:` prefix, `p5= median= p95=`, the
lines about memory. It reports aggregates only, and continues on the CPU when a delegate accepts no operation.
"""

from __future__ import annotations

import re

from benchmarks.measure.records import Aggregate
from preprocess.errors import DataError, MissingComponentError

from ..device.connection import Outcome, quote
from .binaries import DISPATCH, require_libraries
from .tool import NUMBER, Request, Tool, ToolResult, require_success, require_times

_QNN = "libQnnTFLiteDelegate.so"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({NUMBER}), First inference: ({NUMBER}), Warmup \(avg\): ({NUMBER}), "
    rf"Inference \(avg\): ({NUMBER})\s*$",
    re.MULTILINE,
)
# At the start of a line: the profiler's follow "Timings (microseconds):" on its line.
_COUNT = re.compile(rf"^(?:INFO: )?count=\d+(?: [a-z0-9]+={NUMBER})+\s*$", re.MULTILINE)
_BEYOND = "beyond the tool's start"
_MEMORY = {
    re.compile(rf"Memory footprint delta from the start of the tool \(MB\): init={NUMBER} overall=({NUMBER})"): _BEYOND,
    re.compile(rf"Peak memory footprint \(MB\): init={NUMBER} overall=({NUMBER})"): _BEYOND,
    re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({NUMBER})"): "whole process",
}
_REPLACING = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)")
_APPLIED = re.compile(r"Explicitly applied (\w+) delegate, and the model graph will be (completely|partially) executed")
_NOT_APPLIED = re.compile(r"Though (\w+) delegate is explicitly applied, the model graph will not be\s+executed")
_TYPES = "Summary by node type"
_ROW = re.compile(rf"^\s*([A-Za-z_][\w./ -]*?)\s+(\d+)\s+({NUMBER})\s+{NUMBER}%\s+{NUMBER}%\s+{NUMBER}\s+\d+\s*$")


class BenchmarkModel(Tool):
    """See `Tool`."""

    name = "benchmark_model"
    reports_samples = False
    remedy = "download it for your device from https://ai.google.dev/edge/litert/models/measurement"

    def command(self, request: Request, *, runs: int) -> list[str]:
        schedule = request.schedule
        words = [
            f"--graph={request.manifest.model_file}",
            f"--num_threads={request.threads}",
            f"--warmup_runs={schedule.warmup_runs}",
            f"--num_runs={runs}",
            f"--min_secs={schedule.fewest_s:g}",
            f"--max_secs={schedule.most_s:g}",
            "--use_xnnpack=true",
            "--report_peak_memory_footprint=true",
        ]
        if request.accelerator == "gpu":
            words += ["--use_gpu=true", "--gpu_backend=cl"]
        if request.accelerator == "npu":
            words += _npu_words(request)
        return words + (["--enable_op_profiling=true"] if request.profile else [])

    def parse(self, outcome: Outcome, request: Request, *, result_file: str = "") -> ToolResult:
        require_success(self.name, outcome, ("Benchmarking failed.",))
        text = f"{outcome.stdout}\n{outcome.stderr}"
        if request.manifest.npu:
            # No CPU has a kernel for a compiled graph: the inferences themselves show that the NPU ran it.
            placement = request.manifest.npu["placement"]
            effective = "npu" if placement["full"] else "npu+cpu"
            delegated, total = placement["npu_ops"], placement["total_ops"]
        else:
            effective, delegated, total = _delegation(text, request.accelerator)
        memory_bytes, memory_of = _memory(text)
        return ToolResult(
            inference=_aggregate(text),
            inference_ms=(),
            preprocessing_ms=(),
            accelerator=effective,
            delegated_ops=delegated,
            total_ops=total,
            memory_bytes=memory_bytes,
            memory_of=memory_of,
            runtime=self.name,
            profile=parse_profile(text) if request.profile else "",
        )


def _npu_words(request: Request) -> list[str]:
    """Options for Qualcomm's NPU; raises MissingComponentError if a library is not beside the tool."""
    if request.manifest.npu:
        # Compiled ahead of time. LiteRT's benchmark_model has these options, TensorFlow's does not.
        require_libraries(request.manifest.npu["soc"], request.libraries, more=(DISPATCH,))
        return ["--use_npu=true", "--dispatch_library_path=."]
    if _QNN not in request.libraries:
        raise MissingComponentError(
            f"--accelerator npu needs {_QNN} and the libQnn* files it loads beside the tool; take them from Qualcomm's "
            "AI Engine Direct SDK and name their folder with --tool-path"
        )
    return [f"--external_delegate_path=./{_QNN}", "--external_delegate_options=backend_type:htp"]


def _aggregate(text: str) -> Aggregate:
    """Statistics of the counted inferences. Raises DataError if lines are missing or contradict each other."""
    timings, counts = _TIMINGS.findall(text), _COUNT.findall(text)
    if not timings or not counts:
        raise DataError(f"benchmark_model gave no result, its output is cut off or of another kind: {quote(text)}")
    values = {key: float(value) for key, value in re.findall(r"(\w+)=(\S+)", counts[-1])}
    mean = float(timings[-1][3]) / 1e3
    single = values["count"] == 1
    wanted = {"count", "curr"} if single else {"count", "avg", "min", "max"}
    if wanted - values.keys():
        raise DataError(f"benchmark_model gave a line without {min(wanted - values.keys())!r}: {quote(counts[-1])}")
    lowest, highest = (values["curr" if single else key] / 1e3 for key in ("min", "max"))
    require_times([mean, lowest, highest])
    of_line = values["curr" if single else "avg"] / 1e3
    # Six digits are printed.
    if abs(of_line - mean) > 1e-4 * mean + 1e-3 or not lowest * 0.9999 <= of_line <= highest * 1.0001:
        raise DataError(
            f"benchmark_model contradicts itself, the clock of the device may have jumped: {quote(counts[-1])} and an "
            f"average of {mean:g} ms"
        )
    median = values["median"] / 1e3 if "median" in values else of_line if single else None
    return Aggregate(int(values["count"]), mean, median, None, lowest, highest)


def _kind(delegate: str) -> str:
    """The accelerator of a delegate."""
    name = delegate.lower()
    return "cpu" if "xnnpack" in name else "gpu" if "gpu" in name else "npu"


def _delegation(text: str, requested: str) -> tuple[str, int | None, int | None]:
    """The effective accelerator, the number of delegated operations, and of all.

    Raises DataError if a delegate other than the CPU's was requested and accepted no operation.
    """
    lines = [line for line in _REPLACING.finditer(text) if _kind(line[3]) == requested]
    delegated = sum(int(line[1]) for line in lines) if lines else None
    total = max(int(line[2]) for line in lines) if lines else None
    if requested == "cpu":
        return "cpu", delegated, total
    refused = [line for line in _NOT_APPLIED.finditer(text) if _kind(line[1]) == requested]
    applied = [line for line in _APPLIED.finditer(text) if _kind(line[1]) == requested]
    if refused or not (delegated or applied):
        why = refused[0][0] if refused else "the output names no delegated operation"
        raise DataError(f"{requested} was requested, but the model ran on the CPU: {why}")
    complete = delegated == total if lines else applied[-1][2] == "completely"
    return requested if complete else f"{requested}+cpu", delegated, total


def _memory(text: str) -> tuple[int | None, str]:
    for pattern, what in _MEMORY.items():
        megabytes = pattern.findall(text)
        # Builds for systems without this figure print 0.
        if megabytes and float(megabytes[-1]) > 0:
            return round(float(megabytes[-1]) * 2**20), what
    return None, "not reported"


def parse_profile(text: str) -> str:
    """Number and time by kind of operation. The last profile in the output is that of the runs, not of loading.

    Raises:
        DataError: there is no profile, or it has no rows.
    """
    rest, header, section = text.rpartition(_TYPES)
    rows: list[str] = []
    for line in section.splitlines()[1:]:
        match = _ROW.match(line)
        if match:
            rows.append(f"{match[1]} ×{int(match[2])}: {float(match[3]):g} ms")
        elif rows:
            break
    if not rows:
        raise DataError(f"benchmark_model gave no profile of operations: {quote(section if header else rest or text)}")
    return "; ".join(rows)

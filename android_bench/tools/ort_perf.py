"""`onnxruntime_perf_test` for ONNX files: its command line, its output, and the file of times that it writes."""

from __future__ import annotations

import re

from preprocess.errors import DataError

from ..device.connection import Outcome, quote
from .binaries import require_libraries
from .tool import NUMBER, Request, Tool, ToolResult, aggregate, require_success

_TIMES = "times.csv"
_QNN, _PLUGIN = "QNNExecutionProvider", "libonnxruntime_providers_qnn.so"
_HTP = "backend_path|libQnnHtp.so htp_performance_mode|burst"
_AVERAGE = re.compile(rf"^Average inference time cost(?: total)?: ({NUMBER}) ms\s*$", re.MULTILINE)
_REQUESTS = re.compile(r"^Total inference requests: (\d+)\s*$", re.MULTILINE)
_PEAK = re.compile(r"^Peak working set size: ?(\d+)(?: bytes)?\s*$", re.MULTILINE)


class OnnxruntimePerfTest(Tool):
    """See `Tool`."""

    name = "onnxruntime_perf_test"
    formats = ("onnx",)
    accelerators = ("cpu", "npu")
    counts_runs_only = True
    result_file = _TIMES
    remedy = "build it: `./build.sh --android --config Release` in https://github.com/microsoft/onnxruntime"

    def command(self, request: Request, *, runs: int) -> list[str]:
        words = ["-m", "times", "-r", str(runs), "-x", str(request.threads), "-I", "-s"]
        ends = [request.manifest.model_file, _TIMES]
        if request.accelerator != "npu":
            return ["-e", request.accelerator, *words, *ends]
        if request.manifest.npu:
            require_libraries(request.manifest.npu["soc"], request.libraries)
        # With this the session fails instead of leaving an operation on the CPU.
        words += ["-C", "session.disable_cpu_ep_fallback|1"]
        if _PLUGIN in request.libraries:
            # The NPU's execution provider as a separate library; otherwise it is built into the tool.
            plugin = ["--plugin_ep_libs", f"{_QNN}|./{_PLUGIN}", "--plugin_eps", _QNN, "--plugin_ep_options", _HTP]
            return [*words, *plugin, *ends]
        return ["-e", "qnn", *words, "-i", _HTP, *ends]

    def parse(self, outcome: Outcome, request: Request, *, result_file: str = "") -> ToolResult:
        require_success(self.name, outcome)
        text = outcome.stdout
        average, requests = _AVERAGE.findall(text), _REQUESTS.findall(text)
        if not average or not requests:
            raise DataError(f"{self.name} gave no result, its output is cut off or of another kind: {quote(text)}")
        samples = parse_times(result_file)
        inference = aggregate(samples)
        assert inference.mean_ms is not None
        if len(samples) != int(requests[-1]):
            raise DataError(f"{self.name} ran {requests[-1]} inferences, its file has {len(samples)} times; run again")
        # The average in the text includes the time between two inferences.
        if not abs(inference.mean_ms - float(average[-1])) <= 0.05 * inference.mean_ms + 0.1:
            raise DataError(
                f"{self.name} contradicts itself, the clock of the device may have jumped: an average of {average[-1]} "
                f"ms, but {inference.mean_ms:g} ms in its file"
            )
        peak = _PEAK.findall(text)
        placement = request.manifest.npu["placement"] if request.manifest.npu else {}
        return ToolResult(
            inference=inference,
            inference_ms=samples,
            preprocessing_ms=(),
            accelerator=request.accelerator,
            delegated_ops=placement.get("npu_ops"),
            total_ops=placement.get("total_ops"),
            memory_bytes=int(peak[-1]) if peak and int(peak[-1]) > 0 else None,
            memory_of="whole process" if peak else "not reported",
            runtime=self.name,
        )


def parse_times(text: str) -> tuple[float, ...]:
    """Times in ms from the lines `MODEL,SECONDS,PEAK,CPU,RUN` at the start of the file; statistics follow them.

    Raises:
        DataError: a line is of another kind, or runs are missing.
    """
    samples: list[float] = []
    for line in text.partition("\n\n")[0].splitlines():
        match = re.fullmatch(rf".*,({NUMBER}),\d+,-?\d+,(\d+)", line.strip())
        if not match or int(match[2]) != len(samples):
            raise DataError(f"onnxruntime_perf_test wrote a file that is cut off or of another kind: {quote(line)}")
        samples.append(1e3 * float(match[1]))
    return tuple(samples)

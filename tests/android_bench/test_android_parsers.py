"""Parsers of the tools' outputs, on real logs: what they read, and that they never read what is not there."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.fakes import make_manifest

from android_bench.device.connection import Outcome
from android_bench.protocol import OFFICIAL, QUICK, duration, sustained
from android_bench.run import find_tool
from android_bench.tools.benchmark_model import BenchmarkModel, parse_profile
from android_bench.tools.har_run import HarRun
from android_bench.tools.ort_perf import OnnxruntimePerfTest
from android_bench.tools.tool import Request
from benchmarks.measure.records import Aggregate
from preprocess.errors import DataError, MissingComponentError, UsageError

DATA = Path(__file__).parents[1] / "data"
CPU_LOG, FAILED_LOG, PROFILE_LOG, ORT_LOG = (path.read_text() for path in sorted(DATA.glob("*.log")))
# An older build: no prefix, scientific notation, another line about memory.
OLD_LOG = """STARTING!
Initialized session in 12.3ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3129087
count=50 first=2952347 curr=2948212 min=2945100 max=2961034 avg=2.95034e+06 std=3456

Inference timings in us: Init: 12300, First inference: 3129087, Warmup (avg): 3.12909e+06, Inference (avg): 2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE
Peak memory footprint (MB): init=3.22 overall=21.5
"""
GPU_LINES = """INFO: Created TensorFlow Lite delegate for GPU.
VERBOSE: Replacing {ops} out of 49 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions.
INFO: Explicitly applied GPU delegate, and the model graph will be {how} executed by the delegate.
"""


def request(accelerator: str = "cpu", *, compiled: dict | None = None, **more) -> Request:
    return Request(Path("a"), make_manifest(sha256="0f", npu=compiled), 4, accelerator, QUICK, **more)


def parse(text: str, accelerator: str = "cpu", *, stderr: str = "", code: int = 0, **more):
    return BenchmarkModel().parse(Outcome(text, stderr, code), request(accelerator, **more))


COUNT = next(line for line in CPU_LOG.splitlines() if "count=50" in line)
SINGLE = CPU_LOG.replace(COUNT, "INFO: count=1 curr=5000").replace("Inference (avg): 699438", "Inference (avg): 5000")


@pytest.mark.parametrize(
    ("log", "inference", "megabytes", "ops"),
    [
        (CPU_LOG, Aggregate(50, 699.438, 576.856, None, 502.355, 2270.688), 99.2031, 49),
        (SINGLE, Aggregate(1, 5.0, 5.0, None, 5.0, 5.0), 99.2031, 49),
        (OLD_LOG, Aggregate(50, 2950.34, None, None, 2945.1, 2961.034), 21.5, None),
    ],
    ids=["recent build", "one inference", "older build in scientific notation"],
)
def test_output_of_benchmark_model(log, inference, megabytes, ops):
    result = parse(log)
    assert result.inference == inference
    assert (result.accelerator, result.delegated_ops, result.total_ops) == ("cpu", ops, ops)
    assert (result.memory_bytes, result.memory_of) == (round(megabytes * 2**20), "beyond the tool's start")
    assert result.inference_ms == ()
    head, timings = log.split("Inference timings")
    assert parse(head, stderr=f"Inference timings{timings}") == result  # either stream counts


DELTA = "Memory footprint delta from the start of the tool (MB): init=1 overall=2.5"
OVERALL = "Overall peak memory footprint (MB) via periodic monitoring: 93.2383"


@pytest.mark.parametrize(
    ("lines", "memory"),
    [
        (OVERALL, (97767444, "whole process")),
        (f"{DELTA}\nINFO: {OVERALL}", (2621440, "beyond the tool's start")),
        ("Peak memory footprint (MB): init=0 overall=0", (None, "not reported")),
        ("", (None, "not reported")),
    ],
)
def test_memory_in_its_wordings(lines, memory):
    result = parse(OLD_LOG.replace("Peak memory footprint (MB): init=3.22 overall=21.5", lines))
    assert (result.memory_bytes, result.memory_of) == memory


@pytest.mark.parametrize("code", [1, 0])
def test_a_failing_run_says_why_also_if_a_build_exits_with_0(code):
    reason = rf"benchmark_model ended with exit code {code}: .*ANEURALNETWORKS_BAD_DATA.*Benchmarking failed\."
    with pytest.raises(DataError, match=reason):
        parse(FAILED_LOG, "npu", code=code)


@pytest.mark.parametrize(
    ("lines", "accelerator", "effective", "ops"),
    [
        (GPU_LINES.format(ops=49, how="completely"), "gpu", "gpu", 49),
        (GPU_LINES.format(ops=40, how="partially"), "gpu", "gpu+cpu", 40),
        ("Explicitly applied GPU delegate, and the model graph will be completely executed by it.", "gpu", "gpu", None),
        ("Replacing 49 out of 49 node(s) with delegate (TfLiteNnapiDelegate) node", "npu", "npu", 49),
        ("Replacing 3 out of 49 node(s) with delegate (TfLiteQnnDelegate) node", "npu", "npu+cpu", 3),
    ],
)
def test_delegation_in_the_log(lines, accelerator, effective, ops):
    result = parse(f"{lines}\n{CPU_LOG}", accelerator)
    assert (result.accelerator, result.delegated_ops) == (effective, ops)


@pytest.mark.parametrize(
    "lines",
    [
        "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.",
        "INFO: Created TensorFlow Lite delegate for GPU.",
        "Replacing 0 out of 49 node(s) with delegate (TfLiteGpuDelegateV2) node",
        "Explicitly applied NNAPI delegate, and the model graph will be completely executed by the delegate.",
    ],
)
def test_a_silent_fallback_is_a_failure(lines):
    # XNNPACK's 49 of 49 operations in the log are no proof of the GPU.
    with pytest.raises(DataError, match="gpu was requested, but the model ran on the CPU"):
        parse(f"{lines}\n{CPU_LOG}", "gpu")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Inference (avg): 699438", "Inference (avg): 599438", "contradicts itself, the clock of the device may have"),
        ("min=502355", "min=702355", "contradicts itself"),
        ("min=502355", "min=-5", "reported a time of -0.005 ms; the device's clock may have jumped"),
        (" max=2270688", "", "a line without 'max': 'INFO: count=50"),
        ("INFO: Inference timings", "INFO: Timings", "gave no result, its output is cut off or of another kind: '… "),
    ],
)
def test_numbers_that_cannot_be_are_refused(old, new, message):
    assert old in CPU_LOG
    with pytest.raises(DataError, match=message):
        parse(CPU_LOG.replace(old, new))


def test_the_profile_of_the_runs_not_that_of_loading():
    profile = "TfLiteNnapiDelegate ×3: 149.483 ms; STRIDED_SLICE ×6: 8.347 ms; RESIZE_NEAREST_NEIGHBOR ×2: 0.879 ms"
    assert parse_profile(PROFILE_LOG) == profile
    result = parse(f"{CPU_LOG}\n{PROFILE_LOG}", profile=True)
    assert (result.profile, result.inference.count) == (profile, 50)
    with pytest.raises(DataError, match="gave no profile of operations"):
        parse(CPU_LOG, profile=True)


@given(
    st.integers(0, CPU_LOG.count("\n")),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "count=" not in text),
)
def test_a_line_of_something_else_changes_nothing(position, line):
    lines = CPU_LOG.splitlines()
    lines.insert(position, line)
    assert parse("\n".join(lines)) == parse(CPU_LOG)


@given(st.text(max_size=200), st.integers(0, 255))
def test_text_of_any_kind_is_an_error(text, code):
    for tool in (BenchmarkModel(), OnnxruntimePerfTest(), HarRun()):
        with pytest.raises(DataError):
            tool.parse(Outcome(text, text, code), request(), result_file=text)


CSV = "".join(f"m,{seconds},271122432,11,{i}\n" for i, seconds in enumerate((0.0958, 0.0995, 0.1, 0.098, 0.1015)))


def parse_ort(text: str = ORT_LOG, csv: str = CSV, code: int = 0):
    return OnnxruntimePerfTest().parse(Outcome(text, "", code), request(), result_file=csv)


def test_onnxruntime_perf_test():
    result = parse_ort(csv=f"{CSV}\nMin Latency: 0.0958 s\nP50 Latency: 0.0995 s\n")
    assert result.inference_ms == pytest.approx((95.8, 99.5, 100, 98, 101.5))
    assert (result.inference.count, result.inference.median_ms) == (5, 99.5)
    assert (result.memory_bytes, result.memory_of) == (271122432, "whole process")


@pytest.mark.parametrize(
    ("text", "csv", "message"),
    [
        (ORT_LOG, CSV[: len(CSV) // 2], "wrote a file that is cut off or of another kind"),
        (ORT_LOG, CSV[: CSV.index("\n") + 1], "ran 5 inferences, its file has 1 times"),
        (ORT_LOG, "", "reported no times"),
        (ORT_LOG, CSV.replace("0.1,", "nan,"), "cut off or of another kind"),
        (ORT_LOG, CSV.replace("0.0958,", "-5,"), "reported a time of -5000 ms"),
        (ORT_LOG, CSV.replace("0.0958,", "5,"), "contradicts itself"),
        (ORT_LOG[:200], CSV, "gave no result"),
    ],
)
def test_incomplete_output_of_onnxruntime_perf_test_is_refused(text, csv, message):
    with pytest.raises(DataError, match=message):
        parse_ort(text, csv)


START = {"event": "start", "schema": 1, "runtime": "litert", "runtime_version": "2.1", "model_sha256": "0f"}
SAMPLES = {"preprocessing": {"samples_ms": [3, 3.5]}, "inference": {"samples_ms": [8.0, 9.0]}}
MEMORY = {"vm_hwm_bytes": 30, "vm_hwm_start_bytes": 10, "a field of a later release": None}
RESULT = {"event": "result", "accelerator": "cpu", "delegated_ops": 3, "total_ops": 4, **SAMPLES, **MEMORY}
ANSWER = {"event": "prediction", "recording": "S1", "logits": [0.5, 2]}


def parse_har(*events, accelerator: str = "cpu", code: int = 0):
    text = "\n".join(event if isinstance(event, str) else json.dumps(event) for event in events)
    return HarRun().parse(Outcome(text, "", code), request(accelerator))


def test_har_run():
    result = parse_har(START, ANSWER, RESULT)
    assert result.inference == Aggregate(2, 8.5, 8.5, 8.9, 8.0, 9.0)
    assert (result.inference_ms, result.preprocessing_ms) == ((8.0, 9.0), (3.0, 3.5))
    assert (result.memory_bytes, result.runtime, result.runtime_version) == (20, "har_run/litert", "2.1")
    assert result.logits == {"S1": (0.5, 2.0)}
    on_npu = {**RESULT, "accelerator": "npu+cpu"}
    assert parse_har(START, on_npu, accelerator="npu").accelerator == "npu+cpu"


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((START, ANSWER), "gave no result, its output is cut off"),
        ((START, '{"event": "result", "acc'), "printed a line that is not an event"),
        ((RESULT,), "printed 'result' without a start"),
        ((START, RESULT, ANSWER), "printed 'prediction' after 'result'"),
        ((START, START), "printed 'start' after 'start'"),
        (({**START, "schema": 2}, RESULT), "speaks schema 2, this release 1"),
        (({**START, "model_sha256": "aa"}, RESULT), "read another model"),
        ((START, {"event": "error", "message": "no model; export one"}), "har_run failed: no model; export one"),
        ((START, {**RESULT, "inference": {"samples_ms": []}}), "reported no times"),
        ((START, {**RESULT, "inference": {"samples_ms": [0.0]}}), "reported a time of 0 ms"),
        ((START, {**RESULT, "inference": [1.0]}), "inference is .* an object"),
        ((START, {**RESULT, "inference": {"samples_ms": [True]}}), r"samples_ms\.0 is True"),
        ((START, {**RESULT, "vm_hwm_bytes": 5}), "vm_hwm_bytes 5 and vm_hwm_start_bytes 10"),
        ((START, {**RESULT, "total_ops": 1.5}), r"total_ops is 1\.5"),
        ((START, {k: v for k, v in RESULT.items() if k != "total_ops"}), "gave no total_ops"),
        ((START, {**RESULT, "accelerator": "gpu"}), "cpu was requested, but the model ran on gpu"),
    ],
)
def test_wrong_output_of_har_run_is_refused(events, message):
    with pytest.raises(DataError, match=message):
        parse_har(*events)


@given(st.data())
def test_output_that_ends_early_is_an_error_or_the_complete_result(data):
    text = "\n".join(map(json.dumps, (START, ANSWER, RESULT)))
    outputs = [(BenchmarkModel(), CPU_LOG, ""), (HarRun(), text, ""), (OnnxruntimePerfTest(), ORT_LOG, CSV)]
    for tool, whole, csv in outputs:
        cut = Outcome(whole[: data.draw(st.integers(0, len(whole)))], "", 0)
        try:
            result = tool.parse(cut, request(), result_file=csv[: data.draw(st.integers(0, len(csv)))])
        except DataError:
            continue
        assert result.inference == tool.parse(Outcome(whole, "", 0), request(), result_file=csv).inference


@pytest.mark.parametrize(("accelerator", "delegated"), [("cpu", 3), ("npu", 0)])
def test_har_run_that_fell_back_is_a_failure(accelerator, delegated):
    result = {**RESULT, "accelerator": accelerator, "delegated_ops": delegated}
    with pytest.raises(DataError, match=f"npu was requested, but the model ran on {accelerator} with {delegated}"):
        parse_har(START, result, accelerator="npu")


def test_command_lines():
    cpu = BenchmarkModel().command(request(), runs=20)
    assert cpu[:4] == ["--graph=model.tflite", "--num_threads=4", "--warmup_runs=5", "--num_runs=20"]
    assert "--use_gpu=true" in BenchmarkModel().command(request("gpu"), runs=20)
    assert "--enable_op_profiling=true" in BenchmarkModel().command(request(profile=True), runs=20)
    with pytest.raises(MissingComponentError, match=r"--accelerator npu needs libQnnTFLiteDelegate\.so"):
        BenchmarkModel().command(request("npu"), runs=20)
    npu = BenchmarkModel().command(request("npu", libraries=("libQnnTFLiteDelegate.so",)), runs=20)
    # A pair without exactly one colon would be dropped without a word.
    assert npu[-1] == "--external_delegate_options=backend_type:htp"
    assert OnnxruntimePerfTest().command(request(), runs=30)[:4] == ["-e", "cpu", "-m", "times"]
    ort = OnnxruntimePerfTest().command(request("npu"), runs=30)
    assert ort[:6] == ["-e", "qnn", "-m", "times", "-r", "30"]
    assert "session.disable_cpu_ep_fallback|1" in ort


PLACED = {"npu_ops": 186, "total_ops": 186, "partitions": 1, "fallback": [], "full": True}
COMPILED = {"soc": "SM8650", "placement": PLACED}
HTP = ("libQnnHtp.so", "libQnnHtpV75Skel.so", "libQnnHtpV75Stub.so", "libQnnSystem.so")
DISPATCH = "libLiteRtDispatch_Qualcomm.so"


def test_command_lines_of_compiled_files():
    ort = OnnxruntimePerfTest().command(request("npu", libraries=HTP, compiled=COMPILED), runs=30)
    assert ort[:2] == ["-e", "qnn"]
    plugin = (*HTP, "libonnxruntime_providers_qnn.so")
    ort = OnnxruntimePerfTest().command(request("npu", libraries=plugin, compiled=COMPILED), runs=30)
    provider = "QNNExecutionProvider"
    options = f"--plugin_ep_libs {provider}|./libonnxruntime_providers_qnn.so --plugin_eps {provider}"
    assert f"session.disable_cpu_ep_fallback|1 {options}" in " ".join(ort)
    assert "-e" not in ort
    lite = BenchmarkModel().command(request("npu", libraries=(*HTP, DISPATCH), compiled=COMPILED), runs=20)
    assert lite[-2:] == ["--use_npu=true", "--dispatch_library_path=."]
    har = HarRun().command(request("npu", libraries=(*HTP, DISPATCH), compiled=COMPILED), runs=20)
    assert har[2:4] == ["--accelerator", "npu"]


@pytest.mark.parametrize("tool", [OnnxruntimePerfTest(), BenchmarkModel(), HarRun()], ids=lambda tool: tool.name)
@pytest.mark.parametrize("missing", HTP)
def test_libraries_of_the_chip_must_lie_beside_the_tool(tool, missing):
    present = tuple(name for name in (*HTP, DISPATCH) if name != missing)
    with pytest.raises(MissingComponentError, match=f"compiled for SM8650 needs {missing} beside the tool; take"):
        tool.command(request("npu", libraries=present, compiled=COMPILED), runs=20)
    if not isinstance(tool, OnnxruntimePerfTest):
        with pytest.raises(MissingComponentError, match=f"needs {DISPATCH} beside the tool"):
            tool.command(request("npu", libraries=HTP, compiled=COMPILED), runs=20)


def test_the_effective_accelerator_of_a_compiled_file_is_its_placement():
    for placed, effective in ((PLACED, "npu"), ({**PLACED, "npu_ops": 185, "full": False}, "npu+cpu")):
        result = parse(CPU_LOG, "npu", compiled={"soc": "SM8650", "placement": placed})
        assert (result.accelerator, result.delegated_ops, result.total_ops) == (effective, placed["npu_ops"], 186)
    ort = OnnxruntimePerfTest().parse(Outcome(ORT_LOG, "", 0), request("npu", compiled=COMPILED), result_file=CSV)
    assert (ort.accelerator, ort.delegated_ops, ort.total_ops) == ("npu", 186, 186)


def test_tools_by_format():
    assert find_tool(None, "tflite", "cpu").name == "har_run"
    assert find_tool(None, "onnx", "cpu").name == "onnxruntime_perf_test"
    with pytest.raises(UsageError, match="--tool is benchmark_model, which reads no onnx file; use onnxruntime_perf"):
        find_tool("benchmark_model", "onnx", "cpu")
    with pytest.raises(UsageError, match="--accelerator is gpu, but onnxruntime_perf_test supports cpu and npu only"):
        find_tool(None, "onnx", "gpu")


def test_protocols():
    assert (OFFICIAL.fewest_runs, OFFICIAL.fewest_s, OFFICIAL.needs_p90) == (1024, 60.0, True)
    assert (sustained("30m").duration_s, sustained("30m").processes, sustained("2h").processes) == (1800.0, 30, 120)
    assert duration("150s") == "150s"
    for text in ("30", "1m", "-5m", "nan", "99h"):
        with pytest.raises(ArgumentTypeError, match=f"'{text}' is not a time from 2m to 24h"):
            duration(text)

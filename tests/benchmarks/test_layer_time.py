"""Times by layer: names and shares on real files in both runtimes, and the parts that need no runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kit.tiny import tiny_config, tiny_spec
from kit.tiny_files import INT8, write_file

from benchmarks.graph.file_cost import graph_cost
from benchmarks.graph.layer_time import LayerTime, layer_times, read_trace, summarise
from benchmarks.graph.litert_profiler import align
from model.config import ConvNeXtConfig, ConvNeXtStage, ResNetConfig, ResNetStage
from preprocess.errors import DataError

FILES = [("xnnpack", "float32"), ("xnnpack", INT8), ("x86", "float32"), ("x86", INT8)]
RUNTIME = {"xnnpack": "litert", "x86": "onnxruntime"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Wide enough that operations take longer than it takes to note their times."""
    folder = tmp_path_factory.mktemp("files")
    config = replace(
        tiny_config(spec=tiny_spec(side=128, bands=64, frames=192)),
        visual=ResNetConfig(stem=32, stages=tuple(ResNetStage(64 + 8 * i, ((32, 40),)) for i in range(4))),
        audio=ConvNeXtConfig(stages=tuple(ConvNeXtStage(32 + 8 * i, (128,)) for i in range(4)), norm="layer"),
    )
    return {key: write_file(config, *key, folder) for key in FILES}


@pytest.mark.slow
@pytest.mark.parametrize(("target", "recipe"), FILES)
def test_times_of_a_real_file(files, target, recipe):
    path = files[target, recipe]
    # The runtime's work between operations belongs to none of them. Other programs may spoil an attempt.
    attempts = (layer_times(path, RUNTIME[target], runs=150) for _ in range(3))
    layers = next((layers for layers in attempts if 0.6 <= sum(layer.share for layer in layers) <= 1), None)
    assert layers is not None
    assert all(layer.median_us >= 0 for layer in layers)
    totals = [layer.median_us / layer.share for layer in layers if layer.share]
    assert max(totals) == pytest.approx(min(totals))
    # Every layer with weights was found in the runtime's graph, once.
    weighted = [layer.name for layer in graph_cost(path).layers if layer.macs]
    names = [layer.name for layer in layers if layer.op not in ("QuantizeLinear", "DequantizeLinear")]
    assert {name: names.count(name) for name in weighted} == dict.fromkeys(weighted, 1)
    # No other layer has a third of its multiplications.
    assert max(layers, key=lambda layer: layer.median_us).name == "visual/stem"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["float32", INT8])
def test_litert_names_depthwise_kernels_after_depthwise_layers(files, recipe):
    path = files["xnnpack", recipe]
    kinds = {layer.name: layer.op for layer in graph_cost(path).layers}
    layers = layer_times(path, "litert", runs=1)
    kernels = {layer.name for layer in layers if "DWConv" in layer.op}
    assert kernels == {name for name, op in kinds.items() if op == "DEPTHWISE_CONV_2D"}
    # GELU has no integer kernel in XNNPACK; float graphs are delegated completely.
    assert {layer.op.split(" ")[0] for layer in layers if layer.name.endswith("/gelu")} == {"GELU"}


def test_unknown_runtimes_and_damaged_files_are_data_errors(tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"this is no model")
    with pytest.raises(DataError, match="times by layer exist for litert and onnxruntime, not for tflite-runtime"):
        layer_times(path, "tflite-runtime")
    with pytest.raises(DataError, match="use a positive number"):
        layer_times(path, "litert", runs=0)
    for runtime in RUNTIME.values():
        with pytest.raises(DataError, match=rf"profiling a\.tflite in {runtime} failed: .*"):
            layer_times(path, runtime)


def test_medians_and_shares_of_the_quickest_quarter():
    times = [[10, 2], [99, 9], [30, 4], [20, 90], *[[99, 9]] * 7]
    layers = summarise([("a", "Conv"), ("b", "Add")], times, [40, 900, 50, 120, *[800] * 7])
    assert layers == [LayerTime("a", "Conv", 20, 20 / 50), LayerTime("b", "Add", 4, 4 / 50)]


def node(name: str, op: str, ts: int, dur: int) -> dict:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}


def session(name: str, ts: int, dur: int) -> dict:
    return {"cat": "Session", "name": name, "ts": ts, "dur": dur, "args": {}}


def test_trace_of_onnx_runtime_by_runs():
    first = [session("model_run", 100, 50), node("n0", "FusedConv", 105, 20), node("out_nchwc", "Conv", 130, 10)]
    second = [node("n0", "FusedConv", 205, 22), node("out_nchwc", "Conv", 230, 12), session("model_run", 200, 60)]
    names = {"n0": "visual/stem", "out": "fusion/key"}
    trace = [session("session_initialization", 1, 50), *first, *second]
    labels, times, totals = read_trace(trace, names)
    assert labels == [("visual/stem", "FusedConv"), ("fusion/key", "Conv")]
    assert (times, totals) == ([[20, 10], [22, 12]], [50, 60])
    assert read_trace([node("recogniser/a_token_7", "QLinearConv", 1, 1), session("model_run", 0, 9)], {})[0] == [
        ("a", "QLinearConv")
    ]
    with pytest.raises(DataError, match="other operations"):
        read_trace([*trace, session("model_run", 300, 5)], names)


CONV, DENSE, ADD, CLAMP = "Convolution (NHWC, F32) IGEMM", "Fully Connected (NC, F32) GEMM", "Add (ND)", "Clamp (NC)"


@pytest.mark.parametrize(
    ("events", "operators", "groups"),
    [
        ([CONV, ADD, CLAMP, DENSE], ["CONV_2D", "ADD", "CONV_2D"], [(0, [0]), (1, [1, 2]), (2, [3])]),
        # Padding went into the convolution.
        ([CONV, ADD], ["PAD", "CONV_2D", "ADD"], [(1, [0]), (2, [1])]),
        (["Constant Pad (ND, X8)", CONV], ["PAD", "CONV_2D"], [(0, [0]), (1, [1])]),
        # The activation is quantized while the model runs.
        ([CONV, "Convert (NC, F32, QD8)", DENSE], ["CONV_2D", "FULLY_CONNECTED"], [(0, [0]), (1, [1, 2])]),
        # One is missing, one is unknown, one is too many at the start.
        ([CONV], ["CONV_2D", "ADD"], None),
        ([CONV, "Tanh (NC)"], ["CONV_2D", "TANH"], None),
        ([CLAMP, CONV], ["CONV_2D"], None),
    ],
)
def test_operators_of_xnnpack_by_those_of_tflite(events, operators, groups):
    assert align(events, operators) == groups

"""Times by layer: names and shares on real files, and the parts that need no runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kit.tiny import tiny_config, tiny_spec
from kit.tiny_files import INT8, write_file

from benchmarks.graph.file_cost import graph_cost
from benchmarks.graph.layer_time import LayerTime, align, layer_times, summarise
from model.config import ConvNeXtConfig, ConvNeXtStage, ResNetConfig, ResNetStage
from preprocess.errors import DataError


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Wide enough that operations take longer than it takes to note their times."""
    folder = tmp_path_factory.mktemp("files")
    config = replace(
        tiny_config(spec=tiny_spec(side=128, bands=64, frames=192)),
        visual=ResNetConfig(stem=32, stages=tuple(ResNetStage(64 + 8 * i, ((32, 40),)) for i in range(4))),
        audio=ConvNeXtConfig(stages=tuple(ConvNeXtStage(32 + 8 * i, (128,)) for i in range(4)), norm="layer"),
    )
    return {recipe: write_file(config, "xnnpack", recipe, folder) for recipe in ("float32", INT8)}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["float32", INT8])
def test_times_of_a_real_file(files, recipe):
    path = files[recipe]
    # The runtime's work between operations belongs to none of them. Other programs may spoil an attempt.
    attempts = (layer_times(path, runs=150) for _ in range(3))
    layers = next((layers for layers in attempts if 0.6 <= sum(layer.share for layer in layers) <= 1), None)
    assert layers is not None
    assert all(layer.median_us >= 0 for layer in layers)
    totals = [layer.median_us / layer.share for layer in layers if layer.share]
    assert max(totals) == pytest.approx(min(totals))
    # Every layer with weights was found in the runtime's graph, once.
    weighted = [layer.name for layer in graph_cost(path).layers if layer.macs]
    names = [layer.name for layer in layers]
    assert {name: names.count(name) for name in weighted} == dict.fromkeys(weighted, 1)
    # No other layer has a third of its multiplications.
    assert max(layers, key=lambda layer: layer.median_us).name == "visual/stem"
    # XNNPACK's kernels have the names of the file's layers.
    kinds = {layer.name: layer.op for layer in graph_cost(path).layers}
    kernels = {layer.name for layer in layers if "DWConv" in layer.op}
    assert kernels == {name for name, op in kinds.items() if op == "DEPTHWISE_CONV_2D"}
    # GELU has no integer kernel in XNNPACK; float graphs are delegated completely.
    assert {layer.op.split(" ")[0] for layer in layers if layer.name.endswith("/gelu")} == {"GELU"}


def test_a_damaged_file_is_a_data_error(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"this is no model")
    with pytest.raises(DataError, match=r"profiling a\.tflite in LiteRT failed: "):
        layer_times(tmp_path / "a.tflite")


def test_medians_and_shares_of_the_quickest_quarter():
    times = [[10, 2], [99, 9], [30, 4], [20, 90], *[[99, 9]] * 7]
    layers = summarise([("a", "Conv"), ("b", "Add")], times, [40, 900, 50, 120, *[800] * 7])
    assert layers == [LayerTime("a", "Conv", 20, 20 / 50), LayerTime("b", "Add", 4, 4 / 50)]


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

"""Parameters and multiply-accumulates counted from model files: published networks, and the cost by configuration.

The two counts share nothing: one walks a file's graph, the other multiplies the configuration's widths.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras as keras
from kit.onnx_cost import onnx_cost
from kit.tiny import tiny_config, tiny_spec
from kit.tiny_files import INT8, randomise, write_file

from benchmarks.graph.file_cost import GraphCost, TfliteFile, TfliteOperator, TfliteTensor, graph_cost, peak_bytes
from export.targets import TARGETS
from export.tflite_file import converter_of
from model.config import convnext, resnet
from model.cost import convnext_cost, model_cost, resnet_cost
from preprocess.errors import DataError

IMAGE = (1, 224, 224, 3)
PARTS = {"visual": "visual/", "audio": "audio/", "fusion": ("fusion/", "logits")}
TINY = {norm: tiny_config(norm=norm, spec=tiny_spec(side=40)) for norm in ("layer", "batch")}


# --- published networks


def cost_of(model: keras.Model, folder: Path) -> GraphCost:
    """The cost of a Keras model with random weights as TFLite, by the library's default converter."""
    model.set_weights(randomise(model.get_weights()))
    with converter_of(model) as converter:
        (folder / "model.tflite").write_bytes(converter.convert())
    return graph_cost(folder / "model.tflite")


@pytest.mark.slow
def test_resnet50_is_the_published_one(tmp_path):
    """25,557,032 parameters as published (He et al. 2015, in torchvision and keras), 3.86 GMAC with early strides.

    Of those, two for each of the 26,560 channels are the batch norms'. Folding leaves one, the convolution's bias.
    """
    model = keras.applications.ResNet50(weights=None, input_tensor=keras.Input(IMAGE[1:], batch_size=1))
    configured = resnet_cost(resnet(50, stride_on="1x1"), IMAGE[1:3], 3, classes=1000)
    cost = cost_of(model, tmp_path)
    assert cost.parameters == 25_557_032 - 26_560
    assert cost.macs == pytest.approx(3.858e9, abs=0.5e6)
    assert (cost.parameters, cost.macs) == (configured.deployed_parameters, configured.macs)


@pytest.mark.slow
def test_convnext_tiny_is_the_published_one(tmp_path):
    """28,589,128 parameters and 4.456 GMAC (Liu et al. 2022, in torchvision).

    TFLite's converter multiplies LayerScale into the dense layer before it: 6,624 factors, one for each channel of the
    18 blocks.
    """
    model = keras.applications.ConvNeXtTiny(
        weights=None, include_preprocessing=False, input_tensor=keras.Input(IMAGE[1:], batch_size=1)
    )
    cost = cost_of(model, tmp_path)
    assert cost.parameters == 28_589_128 - 6_624
    assert cost.macs == pytest.approx(4.456e9, abs=0.5e6)
    assert cost.macs == convnext_cost(convnext(), IMAGE[1:3], 3, classes=1000).macs


# --- files of the recogniser


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """(target, recipe, norm) → a file of TINY, written once."""
    folder = tmp_path_factory.mktemp("models")
    return cache(lambda target, recipe, norm: write_file(TINY[norm], target, recipe, folder))


def check(config: Any, target: str, path: Path) -> None:
    """Total and, of TFLite files, parts are those of the configuration, exactly."""
    configured = model_cost(config, layer_norm=TARGETS[target].layer_norm)
    wanted = configured.deployed_parameters, configured.macs
    if path.suffix == ".onnx":
        assert onnx_cost(path) == wanted
        return
    counted = graph_cost(path)
    for part, starts in PARTS.items():
        layers = [layer for layer in counted.layers if layer.name.startswith(starts)]
        cost = configured.part(part)
        assert sum(layer.parameters for layer in layers) == cost.deployed_parameters
        assert sum(layer.macs for layer in layers) == cost.macs
    assert (counted.parameters, counted.macs) == wanted


# Two files stay in the quick tests; others read them too.
QUICK = [("xnnpack", INT8, "layer"), ("x86", "float32", "layer")]
SLOW = [
    ("xnnpack", "float32", "layer"),
    ("xnnpack", INT8, "batch"),
    ("x86", "float32", "batch"),
    ("x86", INT8, "layer"),
    ("xnnpack", "weight_only_wf16_afp32", "layer"),
    ("xnnpack", "dynamic_wi8_afp32", "batch"),
    ("x86", "weight_only_wi8_afp32", "batch"),
]


@pytest.mark.parametrize(
    ("target", "recipe", "norm"), [*QUICK, *(pytest.param(*file, marks=pytest.mark.slow) for file in SLOW)]
)
def test_file_costs_what_its_configuration_says(model_file, target, recipe, norm):
    check(TINY[norm], target, model_file(target, recipe, norm))


def test_layers_have_the_names_and_costs_of_the_configuration(model_file):
    wanted = {layer.name: (layer.deployed, layer.macs) for layer in model_cost(TINY["layer"]).part("visual").layers}
    path = model_file("xnnpack", INT8, "layer")
    layers = [layer for layer in graph_cost(path).layers if layer.macs and layer.name.startswith("visual/")]
    assert {layer.name: (layer.parameters, layer.macs) for layer in layers} == wanted
    outputs = {layer.name: layer.activation_bytes for layer in layers}
    assert outputs["visual/stem"] == 20 * 20 * 4  # half of 40 pixels, four channels of a byte


def test_a_file_of_another_kind_and_an_operator_of_unknown_cost_are_data_errors(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"this is no model")
    with pytest.raises(DataError, match="is not a TFLite file"):
        graph_cost(tmp_path / "a.tflite")
    layers = [keras.Input((4, 4, 2), 1), keras.layers.Conv2DTranspose(3, 3)]
    with converter_of(keras.Sequential(layers)) as converter:
        (tmp_path / "a.tflite").write_bytes(converter.convert())
    with pytest.raises(DataError, match="multiply-accumulates of TRANSPOSE_CONV"):
        graph_cost(tmp_path / "a.tflite")


def test_an_output_lives_to_the_end_although_nothing_reads_it():
    tensors = tuple(TfliteTensor(str(i), (size,), size, None) for i, size in enumerate((10, 40, 20, 30)))
    steps = ((0, 1), (0, 2), (2, 3))
    operators = tuple(TfliteOperator("ADD", (read, -1), (written,), False) for read, written in steps)
    assert peak_bytes(TfliteFile(tensors, operators, (0,), (1, 3))) == 40 + 20 + 30
    assert peak_bytes(TfliteFile(tensors, operators, (0,), (3,))) == 10 + 40


@pytest.mark.parametrize("recipe", [pytest.param("float32", marks=pytest.mark.slow), INT8])
def test_activations_alive_at_once_in_a_real_file(model_file, recipe):
    """Against a simulation that frees what is not needed any more, on the graph as LiteRT lists it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    path = model_file("xnnpack", recipe, "layer")
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    details = {
        d["index"]: int(np.prod(d["shape"])) * np.dtype(d["dtype"]).itemsize for d in interpreter.get_tensor_details()
    }
    operators = [
        ([int(i) for i in op["inputs"]], [int(i) for i in op["outputs"]]) for op in interpreter._get_ops_details()
    ]
    held = {d["index"] for d in interpreter.get_input_details()}
    outputs = {d["index"] for d in interpreter.get_output_details()}
    peak = 0
    for step, (_, written) in enumerate(operators):
        held |= set(written)
        peak = max(peak, sum(details[i] for i in held))
        needed = {i for read, _ in operators[step + 1 :] for i in read} | outputs
        held &= needed
    assert graph_cost(path).arena_bytes == peak

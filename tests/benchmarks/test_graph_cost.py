"""Parameters and multiply-accumulates counted from model files: published networks, and the cost by configuration.

The two counts share nothing: one walks a file's graph, the other multiplies the configuration's widths.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import HealthCheck, given, settings
from kit.published import convertible_layers, write_onnx_by_tf2onnx
from kit.tiny import model_configs, tiny_config, tiny_spec
from kit.tiny_files import INT8, randomise, write_file
from onnx import TensorProto, helper, numpy_helper

from benchmarks.graph.file_cost import graph_cost
from benchmarks.graph.tflite_graph import TfliteFile, TfliteOperator, TfliteTensor, peak_bytes
from export.targets import TARGETS
from export.tflite_file import converter_of
from model.config import convnext, resnet
from model.cost import convnext_cost, model_cost, resnet_cost
from preprocess.errors import DataError

IMAGE = (1, 224, 224, 3)
NORMS = ("layer", "batch")
PARTS = {"visual": "visual/", "audio": "audio/", "fusion": ("fusion/", "logits")}
TINY = {norm: tiny_config(norm=norm, spec=tiny_spec(side=40)) for norm in NORMS}


# --- published networks


def write_both(model: keras.Model, folder: Path) -> dict[str, Path]:
    """A Keras model with random weights as TFLite and as ONNX, by the libraries' default converters."""
    model.set_weights(randomise(model.get_weights()))
    serve = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec(model.inputs[0].shape)])
    paths = {name: folder / f"model.{name}" for name in ("tflite", "onnx")}
    with converter_of(model) as converter:
        paths["tflite"].write_bytes(converter.convert())
    write_onnx_by_tf2onnx(serve, paths["onnx"])
    return paths


@pytest.mark.slow
def test_resnet50_is_the_published_one(tmp_path):
    """25,557,032 parameters as published (He et al. 2015, in torchvision and keras), 3.86 GMAC with early strides.

    Of those, two for each of the 26,560 channels are the batch norms'. Folding leaves one, the convolution's bias.
    """
    model = keras.applications.ResNet50(weights=None, input_tensor=keras.Input(IMAGE[1:], batch_size=1))
    configured = resnet_cost(resnet(50, stride_on="1x1"), IMAGE[1:3], 3, classes=1000)
    for path in write_both(model, tmp_path).values():
        cost = graph_cost(path)
        assert cost.parameters == 25_557_032 - 26_560
        assert cost.macs == pytest.approx(3.858e9, abs=0.5e6)
        assert (cost.parameters, cost.macs) == (configured.deployed_parameters, configured.macs)


@pytest.mark.slow
def test_convnext_tiny_is_the_published_one(tmp_path):
    """28,589,128 parameters and 4.456 GMAC (Liu et al. 2022, in torchvision).

    TFLite's converter multiplies LayerScale into the dense layer before it: 6,624 factors, one for each channel of the
    18 blocks.
    """
    with convertible_layers():
        model = keras.applications.ConvNeXtTiny(
            weights=None, include_preprocessing=False, input_tensor=keras.Input(IMAGE[1:], batch_size=1)
        )
    for file_format, path in write_both(model, tmp_path).items():
        cost = graph_cost(path)
        assert cost.parameters == 28_589_128 - (6_624 if file_format == "tflite" else 0)
        assert cost.macs == pytest.approx(4.456e9, abs=0.5e6)
        assert cost.macs == convnext_cost(convnext(), IMAGE[1:3], 3, classes=1000).macs


# --- files of the recogniser


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """(target, recipe, norm) → a file of TINY, written once."""
    folder = tmp_path_factory.mktemp("models")
    return cache(lambda target, recipe, norm: write_file(TINY[norm], target, recipe, folder))


def check(config: Any, target: str, path: Path) -> None:
    """Parts and total of the file are those of the configuration, exactly."""
    counted, configured = graph_cost(path), model_cost(config, layer_norm=TARGETS[target].layer_norm)
    for part, starts in PARTS.items():
        layers = [layer for layer in counted.layers if layer.name.startswith(starts)]
        cost = configured.part(part)
        assert sum(layer.parameters for layer in layers) == cost.deployed_parameters
        assert sum(layer.macs for layer in layers) == cost.macs
    assert (counted.parameters, counted.macs) == (configured.deployed_parameters, configured.macs)


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
    ("x86", "dynamic_wi8_afp32", "layer"),
]


@pytest.mark.parametrize(
    ("target", "recipe", "norm"), [*QUICK, *(pytest.param(*file, marks=pytest.mark.slow) for file in SLOW)]
)
def test_file_costs_what_its_configuration_says(model_file, target, recipe, norm):
    check(TINY[norm], target, model_file(target, recipe, norm))


@pytest.mark.slow
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=model_configs())
def test_any_widths_and_sizes_cost_what_the_configuration_says(tmp_path, config):
    for target in ("xnnpack", "x86"):
        check(config, target, write_file(config, target, "float32", tmp_path))


def test_layers_of_both_formats_have_the_names_and_costs_of_the_configuration(model_file):
    """Layer by layer where the deploy form keeps layers as they are; ONNX has each convolution and its ReLU apart."""
    wanted = {layer.name: (layer.deployed, layer.macs) for layer in model_cost(TINY["layer"]).part("visual").layers}
    for file, bytes_each in zip(QUICK, (1, 4), strict=True):
        path = model_file(*file)
        layers = [layer for layer in graph_cost(path).layers if layer.macs and layer.name.startswith("visual/")]
        assert {layer.name: (layer.parameters, layer.macs) for layer in layers} == wanted
        outputs = {layer.name: layer.activation_bytes for layer in layers}
        assert outputs["visual/stem"] == 20 * 20 * 4 * bytes_each  # half of 40 pixels, four channels


# --- single operations


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float32", 4), ("int8", 1), ("uint8", 1)])
def test_one_product_of_matrices_in_every_type(tmp_path, dtype, bytes_each):
    rows, depth, columns = 12, 40, 24
    weights = np.zeros((depth, columns), "float32" if dtype == "float32" else "int8")
    constants = {"b": weights}
    operator, inputs = "MatMul", ["a", "b"]
    if dtype != "float32":
        operator, inputs = "QLinearMatMul", ["a", "one", "a_zero", "b", "one", "b_zero", "one", "a_zero"]
        constants |= {"b_zero": np.int8(0), "a_zero": np.dtype(dtype).type(0), "one": np.float32(1)}
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "product",
        [helper.make_tensor_value_info("a", element, (rows, depth))],
        [helper.make_tensor_value_info("y", element, (rows, columns))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    cost = graph_cost(tmp_path / "m.onnx")
    assert (cost.parameters, cost.macs) == (depth * columns, rows * depth * columns)
    assert next(layer for layer in cost.layers if layer.macs).activation_bytes == rows * columns * bytes_each


def write_onnx(path: Path, nodes: list, inputs: dict, output: tuple, constants: dict) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8), path)
    return path


def test_grouped_and_depthwise_convolutions(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "grouped"], ["a"], group=2, kernel_shape=[3, 3]),
        helper.make_node("Conv", ["a", "depthwise", "bias"], ["b"], group=6, kernel_shape=[5, 5]),
        helper.make_node("Conv", ["b", "factors", "bias"], ["y"], group=6, kernel_shape=[1, 1]),
    ]
    constants = {"grouped": (6, 2, 3, 3), "depthwise": (6, 1, 5, 5), "factors": (6, 1, 1, 1), "bias": (6,)}
    path = write_onnx(tmp_path / "a.onnx", nodes, {"x": (1, 4, 12, 12)}, (1, 6, 6, 6), constants)
    costs = [(layer.parameters, layer.macs) for layer in graph_cost(path).layers]
    # One factor per channel is not counted as a convolution.
    assert costs == [(108, 108 * 10 * 10), (156, 150 * 6 * 6), (12, 0)]


def test_products_and_factors(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["left", "right"], ["a"], transA=1),  # [5, 2] from [3, 5] and [3, 2]
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Add", ["b", "epsilon"], ["c"]),
        helper.make_node("LayerNormalization", ["c", "scale", "offset"], ["y"]),
    ]
    constants = {"scale": (2,), "offset": (2,), "epsilon": (1,)}
    path = write_onnx(tmp_path / "a.onnx", nodes, {"left": (3, 5), "right": (3, 2)}, (5, 2), constants)
    costs = [(layer.parameters, layer.macs) for layer in graph_cost(path).layers]
    assert costs == [(0, 5 * 3 * 2), (2, 0), (0, 0), (4, 0)]


def test_what_cannot_be_counted_is_a_data_error(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"this is no model")
    (tmp_path / "a.onnx").write_bytes(b"this is no model")
    with pytest.raises(DataError, match="is not a TFLite file"):
        graph_cost(tmp_path / "a.tflite")
    with pytest.raises(DataError, match="is not an ONNX file"):
        graph_cost(tmp_path / "a.onnx")
    with pytest.raises(DataError, match=r"ends in '\.h5'"):
        graph_cost(tmp_path / "a.h5")
    free = [helper.make_node("Relu", ["x"], ["y"])]
    path = write_onnx(tmp_path / "free.onnx", free, {"x": ("batch", 4)}, ("batch", 4), {})
    with pytest.raises(DataError, match="shape of 'y' is unknown"):
        graph_cost(path)
    transposed = [helper.make_node("ConvTranspose", ["x", "w"], ["y"])]
    path = write_onnx(tmp_path / "t.onnx", transposed, {"x": (1, 2, 4, 4)}, (1, 3, 6, 6), {"w": (2, 3, 3, 3)})
    with pytest.raises(DataError, match="ConvTranspose"):
        graph_cost(path)


# --- activations alive at once


def chain(sizes: list[int], operators: list[tuple[list[int], list[int]]], outputs: tuple[int, ...]) -> TfliteFile:
    tensors = tuple(TfliteTensor(str(i), (size,), size, None) for i, size in enumerate(sizes))
    ops = tuple(TfliteOperator("ADD", tuple(read), tuple(written), False) for read, written in operators)
    return TfliteFile(tensors, ops, (0,), outputs)


def test_largest_sum_of_activations_alive_at_once():
    # 0 → 1 → 2, and 0 again at the end: the input is kept.
    residual = chain([10, 40, 20, 10], [([0], [1]), ([1], [2]), ([2, 0], [3])], (3,))
    assert peak_bytes(residual) == 10 + 40 + 20
    assert peak_bytes(chain([10, 40, 20, 10], [([0], [1]), ([1], [2]), ([2], [3])], (3,))) == 40 + 20
    # An output lives to the end, although nothing reads it.
    assert peak_bytes(chain([10, 40, 20, 30], [([0], [1]), ([0], [2]), ([2], [3])], (1, 3))) == 40 + 20 + 30
    # What nothing reads takes its place while it is written; -1 is an input that is left out.
    assert peak_bytes(chain([10, 40, 20], [([0, -1], [1, 2])], (2,))) == 10 + 40 + 20


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

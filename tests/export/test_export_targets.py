"""Targets and recipes on real files of the tiny recogniser: contents of the graphs, and their answers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from kit.networks import noise, plain_onnx
from kit.tiny import tiny_config, tiny_spec

from export.pipeline import convert_model
from export.targets import DEFAULT_TARGET, TARGETS, choose_target
from model.recogniser import build_recogniser
from preprocess.errors import UsageError
from quantize.prepare import CalibrationOptions, prepare
from quantize.recipes import parse_recipe
from runtime.metrics import snr_db
from runtime.runners import RUNTIMES_OF_FORMAT, open_model

ONNX_TARGETS = ("x86", "arm", "qnn")
INT8, FLOAT_FUSION, WIDE_NORMS = "static_wi8_ai8", "static_wi8_ai8+fp32(fusion/*)", "static_wi8_ai8+ai16(*/norm)"
WIDE = "static_wi8_ai16"

# Least SNR of the logits for random weights and noise as input. float32: reordered sums, 118 dB measured. 16-bit floats
# have 11 bits, 8-bit weights alone 7: 53 and 29 to 41 dB measured, 16-bit activations or not. Integers: the tolerance
# of the verification.
MIN_SNR_DB = {
    "float32": 100,
    "weight_only_wf16_afp32": 45,
    "weight_only_wi8_afp32": 20,
    "dynamic_wi8_afp32": 20,
    WIDE: 20,
    INT8: 10,
    FLOAT_FUSION: 10,
    WIDE_NORMS: 10,
}
FILES = [
    *(("xnnpack", recipe) for recipe in MIN_SNR_DB if recipe not in ("weight_only_wi8_afp32", WIDE, WIDE_NORMS)),
    *(("x86", recipe) for recipe in MIN_SNR_DB if recipe != "weight_only_wf16_afp32"),
    ("arm", INT8),
    ("arm", WIDE_NORMS),
    ("qnn", INT8),
    ("qnn", WIDE),
    ("qnn", WIDE_NORMS),
]


@cache
def recogniser(norm):
    # Four visual tokens: ONNX Runtime's integer softmax gives 0 for the share of a single one.
    return build_recogniser(tiny_config(norm=norm, spec=tiny_spec(side=40)), seed=3)


@cache
def prepared(norm, form):
    model = recogniser(norm)
    return prepare(model.config, model.weights(), form, noise(model.config, 16, seed=0), CalibrationOptions())


@cache
def compared():
    """Samples that did not calibrate, and the float model's logits."""
    model = recogniser("layer")
    samples = noise(model.config, 16, seed=1)
    return samples, model.fused([samples.skeleton, samples.audio]).numpy()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """(target, recipe, norm) → a file of the target's first format, written once."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def written(target: str, recipe: str, norm: str = "layer") -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.{TARGETS[target].formats[0]}"
        convert_model(prepared(norm, TARGETS[target].form), parse_recipe(recipe), TARGETS[target], path)
        return path

    return written


def tensors_of(path):
    """Name and NumPy type of every tensor of a TFLite file, as LiteRT lists them."""
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return [(d["name"], np.dtype(d["dtype"]).name) for d in interpreter.get_tensor_details()]


def initializers(graph):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def quantized_activations(graph):
    """Type of the zero point of every activation that a QuantizeLinear stores."""
    values = initializers(graph)
    return {n.input[0]: values[n.input[2]].dtype.name for n in graph.node if n.op_type == "QuantizeLinear"}


# Choice of the target


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_target_is_chosen_for_its_formats_alone(file_format):
    assert choose_target(None, file_format) is TARGETS[DEFAULT_TARGET[file_format]]
    possible = [name for name, target in TARGETS.items() if file_format in target.formats]
    for name in TARGETS:
        if name in possible:
            assert choose_target(name, file_format) is TARGETS[name]
            continue
        with pytest.raises(UsageError, match=f"^target {name} does not run {file_format} files; use one of ") as caught:
            choose_target(name, file_format)
        assert str(caught.value).split("use one of ")[1].split(", ") == possible


# Every recipe


@pytest.mark.parametrize(("target", "recipe"), FILES)
def test_every_recipe_answers_as_the_float_model(model_file, target, recipe):
    path = model_file(target, recipe)
    samples, expected = compared()
    # Without VNNI, ONNX Runtime's fused u8 × s8 kernels overflow with the 8-bit weights that an NPU takes.
    run = plain_onnx(path) if target == "qnn" else open_model(path, RUNTIMES_OF_FORMAT[path.suffix[1:]][0])
    logits = np.stack(
        [run({"skeleton": samples.skeleton[i : i + 1], "audio": samples.audio[i : i + 1]}) for i in range(16)]
    )
    assert snr_db(expected, logits) > MIN_SNR_DB[recipe]
    if recipe == "float32":
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    if target != "xnnpack":
        assert {opset.domain: opset.version for opset in onnx.load(path).opset_import}[""] == 21
    if recipe == "weight_only_wi8_afp32":
        assert path.stat().st_size < model_file(target, "float32").stat().st_size


# ONNX


def node_counts(graph):
    return {kind: sum(node.op_type == kind for node in graph.node) for kind in {node.op_type for node in graph.node}}


@pytest.mark.parametrize(
    ("norm", "target", "recipe"),
    [
        *(("layer", target, INT8) for target in ONNX_TARGETS),
        ("layer", "x86", "float32"),
        ("batch", "x86", "float32"),
        ("batch", "arm", INT8),
    ],
)
def test_layer_norm_and_gelu_are_single_nodes(model_file, norm, target, recipe):
    graph = onnx.load(model_file(target, recipe, norm)).graph
    blocks = sum(len(stage.expanded) for stage in recogniser(norm).config.audio.stages)
    # Of the fusion; of the stem, of every block, and before three stages.
    norms = 1 + (1 + blocks + 3 if norm == "layer" else 0)
    counts = node_counts(graph)
    assert (counts["LayerNormalization"], counts["Gelu"]) == (norms, blocks)
    assert {node.domain for node in graph.node} == {""}
    assert not counts.keys() & {"Erf", "Lgamma", "Pow", "Sqrt", "Reciprocal", "Div", "Sub", "Mul"}
    for node in graph.node:
        if node.op_type == "LayerNormalization":
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert (attributes["axis"], attributes["epsilon"]) == (-1, pytest.approx(1e-6))


@pytest.mark.parametrize(("target", "kind"), [("x86", "uint8"), ("arm", "int8"), ("qnn", "uint8")])
def test_activations_have_the_type_of_the_target(model_file, target, kind):
    types = quantized_activations(onnx.load(model_file(target, INT8)).graph)
    assert set(types.values()) == {kind}
    names = prepared("layer", TARGETS[target].form).ranges.keys()
    # Inputs are stored with their axes shifted, the logits before the node that names them.
    assert names - types.keys() == {"skeleton", "audio", "logits"}
    if target != "qnn":
        types = quantized_activations(onnx.load(model_file(target, WIDE_NORMS)).graph)
        for name in names & types.keys():
            assert types[name] == (kind.replace("8", "16") if name.endswith("/norm") else kind), name
        assert sum(name.endswith("/norm") for name in types) == 9


@pytest.mark.parametrize(("target", "largest"), [("x86", 64), ("arm", 127), ("qnn", 127)])
def test_weights_use_the_bits_of_the_target(model_file, target, largest):
    graph = onnx.load(model_file(target, INT8)).graph
    values = initializers(graph)
    sources = [n.input for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values]
    kernels = [values[s[0]] for s in sources if values[s[0]].ndim > 1]
    config = recogniser("layer").config
    convolutions = sum(n.op_type == "Conv" for n in graph.node)
    assert len(kernels) == convolutions + 1
    assert convolutions > sum(len(stage.inner) for stage in config.visual.stages)
    assert {k.dtype.name for k in kernels} == {"int8"}
    assert max(np.abs(k.astype(int)).max() for k in kernels) == largest


@pytest.mark.parametrize(("target", "kind"), [("x86", "int8"), ("arm", "int8"), ("qnn", "uint8")])
@pytest.mark.parametrize("recipe", [INT8, WIDE_NORMS])
def test_scales_of_layer_norm_have_the_type_of_the_target(model_file, target, kind, recipe):
    path = model_file(target, recipe)
    graph = onnx.load(path).graph
    values, sources = initializers(graph), {n.output[0]: n.input for n in graph.node if n.op_type == "DequantizeLinear"}
    trained = prepared("layer", TARGETS[target].form).static_weights
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 9
    for node in norms:
        stored, step, zero = (values[name] for name in sources[node.input[1]])
        assert (stored.dtype.name, zero.dtype.name) == (kind, kind)
        name = sources[node.input[1]][0].removesuffix("_quantized")
        # Rounding is within half a step.
        restored = (stored.astype(float) - float(zero)) * step
        np.testing.assert_allclose(restored, trained[name], rtol=0, atol=0.501 * float(step))


@pytest.mark.parametrize("recipe", [WIDE, WIDE_NORMS, "static_wi8_ai8+ai16(audio/*,fusion/scores)"])
def test_nodes_for_hexagon_compute_in_one_width(model_file, recipe):
    graph = onnx.load(model_file("qnn", recipe)).graph
    values, types = initializers(graph), quantized_activations(graph)
    sources = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] not in values}
    stored = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    widths = []
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        kinds = {values[sources[name].input[2]].dtype.name for name in node.input if name in sources}
        kinds |= {values[n.input[2]].dtype.name for n in stored.values() if n.input[0] in node.output}
        assert len(kinds) == 1, (node.name, kinds)
        widths += kinds
    asked = parse_recipe(recipe)
    for name in prepared("layer", TARGETS["qnn"].form).ranges.keys() & types.keys():
        if recipe == WIDE or asked.is_exception(name):
            assert types[name] == "uint16", name
    assert set(widths) == ({"uint16"} if recipe == WIDE else {"uint8", "uint16"})


def test_float_fusion_leaves_no_rounding_behind_it_in_onnx(model_file):
    graph = onnx.load(model_file("x86", FLOAT_FUSION)).graph
    behind = {"fusion/audio", "fusion/visual"}
    for node in graph.node:
        if behind & set(node.input):
            assert node.op_type not in ("QuantizeLinear", "DequantizeLinear"), node.name
            behind |= set(node.output)
    assert {"fusion/norm", "logits"} < behind
    stored = quantized_activations(graph).keys()
    names = prepared("layer", TARGETS["x86"].form).ranges.keys()
    assert {n for n in names - stored if "/" in n} == {n for n in names if n.startswith("fusion/")}


# TFLite


def test_every_activation_has_its_name_in_tflite_and_int8_is_all_integers(model_file):
    network = prepared("layer", TARGETS["xnnpack"].form)
    names = network.producers.values()
    for recipe in ("float32", INT8):
        tensors = tensors_of(model_file("xnnpack", recipe))
        stored = [name for name, _ in tensors]
        assert [name for name in names if stored.count(name) != 1] == []
    assert {kind for _, kind in tensors} == {"int8", "int32"}


def test_float_fusion_in_tflite_is_float_and_the_rest_is_int8(model_file):
    tensors = tensors_of(model_file("xnnpack", FLOAT_FUSION))
    for name in prepared("layer", TARGETS["xnnpack"].form).ranges.keys() - {"logits"}:
        expected = "float32" if name.startswith("fusion/") else "int8"
        assert [kind for tensor, kind in tensors if tensor == name] == [expected], name
    # The border: what enters the fusion, and the logits before they are stored.
    assert {name: kind for name, kind in tensors if name.startswith("logits")} == {
        "logits": "int8",
        "logits/1": "float32",
    }
    entering = "recogniser/visual/stage3/block0/", "recogniser/audio/stage3/block0/"
    for name, kind in tensors:
        if kind == "float32":
            assert name.startswith(("fusion/", "recogniser/fusion/", "logits", "arith.constant", *entering)), name

"""Conversion to ONNX, quantization of the file, and the metadata inside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from model.layers import LayerNorm, stand_ins
from preprocess.errors import PocketHarError
from quantize.recipes import Recipe
from quantize.rounding import Range

from .serving import OUTPUT_NAME, serving_module
from .targets import Target

METADATA_NAME = "pocket_har"
_CONVERTER_OPSET = 18  # the newest that tf2onnx writes
OPSET = 21  # Gelu came with 20, 16-bit activations with 21; nothing else in these graphs changed since 18


def convert_to_onnx(
    model: Any,
    recipe: Recipe,
    target: Target,
    *,
    producers: Mapping[str, str],
    ranges: Mapping[str, Range],
    folder: Path,
) -> onnx.ModelProto:
    """The model as an ONNX graph; inputs and output are float32 in every recipe.

    Args:
        model: Keras model of named inputs → logits in the deploy form with layer norm as a layer.
        recipe: precision.
        target: type of the activations.
        producers: the activation that each Keras layer gives, as `quantize.rounding.Observed` has it.
        ranges: of every activation, for a static recipe.
        folder: for intermediate files.

    Raises:
        PocketHarError: tf2onnx met an operation that it cannot convert, or wrote an invalid graph.
    """
    converted = _convert(model, producers)
    if recipe.base == "float32":
        return converted
    from .onnx_quantize import quantize_dynamic, quantize_static, quantize_weights

    if recipe.base == "dynamic_wi8_afp32":
        return quantize_dynamic(converted, folder)
    if recipe.base == "weight_only_wi8_afp32":
        return quantize_weights(converted)
    return quantize_static(converted, recipe, target, ranges)


def save_onnx(model: onnx.ModelProto, path: Path, metadata: str) -> None:
    """Checks the graph, embeds `metadata` (JSON text) in its `metadata_props` and writes it."""
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_NAME, metadata
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def read_onnx_metadata(path: Path) -> str:
    """The JSON text that `save_onnx` stored."""
    entries: dict[str, str] = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return entries[METADATA_NAME]


def _convert(model: Any, producers: Mapping[str, str]) -> onnx.ModelProto:
    import tf2onnx

    with _errors_of_tf2onnx() as errors, stand_ins():
        serve = serving_module(model).serve
        converted, _ = tf2onnx.convert.from_function(
            serve,
            input_signature=serve.input_signature,
            opset=_CONVERTER_OPSET,
            custom_op_handlers={"Lgamma": (_keep, [])},
        )
    # tf2onnx logs an operation that it cannot convert and goes on.
    if errors:
        raise PocketHarError(f"tf2onnx could not convert the model: {errors[0]}")
    _exchange_stand_ins(converted, model)
    _rename(converted, [own.name for own in model.inputs], producers)
    converted.opset_import[0].version = OPSET
    onnx.checker.check_model(converted, full_check=True)
    return converted


@contextmanager
def _errors_of_tf2onnx() -> Iterator[list[str]]:
    messages: list[str] = []

    class _Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = _Handler(logging.ERROR)
    logging.getLogger("tf2onnx").addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger("tf2onnx").removeHandler(handler)


def _keep(context: Any, node: Any, name: str, arguments: Any) -> None:
    """Leaves a node as it is; tf2onnx moves no transposition across a kind of node that it does not know."""


def _exchange_stand_ins(converted: onnx.ModelProto, model: Any) -> None:
    """Makes LayerNormalization and Gelu of what `model.layers.stand_ins` put in their places."""
    norms = {layer.name: layer for layer in model.layers if isinstance(layer, LayerNorm)}
    for node in converted.graph.node:
        if node.op_type == "Erf":
            node.op_type = "Gelu"
        elif node.op_type == "Lgamma":
            layer = norms.pop(_layer_of(node.output[0]))
            node.op_type, node.domain = "LayerNormalization", ""
            for weight in (layer.gamma, layer.beta):
                name = f"{layer.name}/{weight.name.split('/')[-1].removesuffix(':0')}"
                converted.graph.initializer.append(onnx.numpy_helper.from_array(weight.numpy(), name))
                node.input.append(name)
            node.attribute.extend(
                [onnx.helper.make_attribute("axis", -1), onnx.helper.make_attribute("epsilon", layer.epsilon)]
            )
    assert not norms, list(norms)


def _rename(converted: onnx.ModelProto, inputs: Sequence[str], producers: Mapping[str, str]) -> None:
    """Gives inputs, output and activations their names."""
    graph = converted.graph
    names = {tensor.name: name for tensor in graph.input for name in inputs if tensor.name.startswith(name)}
    names[graph.output[0].name] = OUTPUT_NAME
    assert set(names.values()) == {*inputs, OUTPUT_NAME}, names
    taken = set(names.values())
    # The last node of a layer gives its activation.
    for node in reversed(graph.node):
        output = node.output[0]
        # A convolution that took its bias in loses its own name, not the bias'.
        bias = node.input[2].removesuffix("/BiasAdd/ReadVariableOp:0") if len(node.input) > 2 else ""
        name = producers.get(_layer_of(output)) or producers.get(bias.removeprefix("recogniser/"))
        if output not in names and name and name not in taken and node.op_type != "Transpose":
            names[output] = name
            taken.add(name)
    for tensor in [*graph.input, *graph.output, *graph.value_info]:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _layer_of(tensor: str) -> str:
    """`recogniser/audio/stem/conv/Conv2D:0` → `audio/stem/conv`."""
    return tensor.removeprefix("recogniser/").rpartition("/")[0]

"""Exports of a tiny model other than the whole recogniser in our own graph: single streams, and `--target plain`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.npu_litert import operators_of
from export.tflite_file import float_tensors
from recordings.reading import read_golden
from runtime.artifact import Artifact

pytestmark = pytest.mark.slow
BLOCKS = 4  # of its ConvNeXt


@pytest.mark.parametrize(("stream", "file_format"), [("visual", "tflite"), ("audio", "tflite"), ("audio", "onnx")])
def test_a_single_stream_is_a_model_of_its_own(stream, file_format, tiny_recogniser, tiny_options, tmp_path):
    """Against the training form's own stream: its answer, its input alone, its cost with the classifier."""
    out = tmp_path / "artifact"
    assert main([file_format, "--int8", *tiny_options, "--stream", stream, "--out", str(out)]) == 0
    artifact = Artifact.open(out)
    manifest, training_form = artifact.manifest, tiny_recogniser.stream(stream)
    assert manifest.stream == stream
    assert [tensor.name for tensor in manifest.inputs] == {"visual": ["skeleton"], "audio": ["audio"]}[stream]
    assert set(manifest.cost) == {stream}
    assert manifest.backbones == {stream: {"visual": "ResNet-14", "audio": "ConvNeXt 1-1-1-1"}[stream]}
    trained = sum(int(np.prod(weight.shape)) for weight in training_form.trainable_weights)
    assert manifest.cost[stream]["parameters"] == trained
    recording = read_golden(out / manifest.golden[0], sample_rate_hz=manifest.spec.audio.sample_rate_hz)
    tensors = recording.tensors(manifest.spec)
    expected = training_form(tensors[manifest.inputs[0].name]).numpy()[0]
    assert np.square(artifact.load()(tensors) - expected).sum() < 0.05 * np.square(expected).sum()
    if file_format == "tflite":
        assert float_tensors(artifact.path) == []


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_target_plain_is_the_converters_own_graph(file_format, tiny_options, tmp_path):
    """The same network with the operators that our deploy form avoids."""
    out = tmp_path / "plain"
    assert main([file_format, "--int8", *tiny_options, "--target", "plain", "--out", str(out)]) == 0
    artifact = Artifact.open(out)
    assert artifact.manifest.target == "plain"
    if file_format == "tflite":
        operators = " ".join(operators_of(artifact.path))
        assert float_tensors(artifact.path) == []
        assert operators.count("(DEPTHWISE_CONV_2D)") == BLOCKS
        assert operators.count("(SQUARED_DIFFERENCE)") > BLOCKS
    else:
        operators = Counter(node.op_type for node in onnx.load(artifact.path).graph.node)
        assert "LayerNormalization" not in operators
        assert "Erf" in operators


def test_target_plain_has_two_recipes(tiny_options, tmp_path, capsys):
    words = ["tflite", "--recipe", "dynamic_wi8_afp32", "--target", "plain"]
    assert main([*words, *tiny_options, "--out", str(tmp_path / "a")]) == 2
    assert "target plain supports float32 and static_wi8_ai8" in capsys.readouterr().err

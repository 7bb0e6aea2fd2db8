"""Exports of a tiny model that are not the whole recogniser in our own graph: single streams, and `--target plain`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from kit.tiny import tiny_config, tiny_spec
from test_export_artifact import float_tensors_of

from export.__main__ import main
from export.tflite_file import read_tflite_graph
from model.checkpoint import RANDOM, Checkpoint, save_checkpoint
from model.config import labels_of
from model.recogniser import build_recogniser
from recordings.catalogue import scan
from runtime.manifest import read_artifact
from runtime.runners import open_model

pytestmark = pytest.mark.slow
BLOCKS = 4  # of its ConvNeXt


@pytest.fixture(scope="module")
def recogniser(recordings_folder):
    """Untrained, with layer norm."""
    spec = tiny_spec(side=64, bands=64, frames=192)
    return build_recogniser(
        replace(tiny_config(labels=labels_of(scan(recordings_folder).refs), spec=spec), preset="nano")
    )


@pytest.fixture(scope="module")
def options(recogniser, recordings_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.npz"
    save_checkpoint(path, Checkpoint(recogniser.config, recogniser.weights(), {RANDOM: True}))
    return ["--checkpoint", str(path), "--data", str(recordings_folder), "--calibration", "16", "--recordings", "24"]


@pytest.mark.parametrize(
    ("stream", "words"),
    [("visual", ["tflite", "--int8"]), ("audio", ["tflite", "--int8"]), ("audio", ["onnx", "--int8"])],
)
def test_a_single_stream_is_a_model_of_its_own(stream, words, recogniser, options, tmp_path):
    """Against the training form's own stream: its answer, its input alone, its cost with the classifier."""
    out = tmp_path / "artifact"
    assert main([*words, *options, "--stream", stream, "--out", str(out)]) == 0
    manifest, model = read_artifact(out)
    training_form = recogniser.stream(stream)
    assert manifest.stream == stream
    assert [own.name for own in manifest.inputs] == {"visual": ["skeleton"], "audio": ["audio"]}[stream]
    assert set(manifest.cost) == {stream}
    assert manifest.backbones == {stream: {"visual": "ResNet-14", "audio": "ConvNeXt 1-1-1-1"}[stream]}
    trained = sum(int(np.prod(v.shape)) for v in training_form.trainable_weights)
    assert manifest.cost[stream]["parameters"] == trained
    sample = np.load(out / manifest.golden[0])
    tensors = {name: sample[name] for name in ("skeleton", "audio")}
    expected = training_form(tensors[manifest.inputs[0].name]).numpy()[0]
    found = open_model(model, {"tflite": "litert", "onnx": "onnxruntime"}[words[0]])(tensors)
    assert np.square(found - expected).sum() < 0.05 * np.square(expected).sum()
    if words[0] == "tflite":
        assert float_tensors_of(model) == []


@pytest.mark.parametrize("words", [["tflite", "--int8"], ["onnx", "--int8"]], ids=["tflite", "onnx"])
def test_what_the_converters_make_by_themselves(words, options, tmp_path, capsys):
    """Another graph of the same network: an artefact like any other, with the operators that ours does without."""
    out = tmp_path / "plain"
    assert main([*words, *options, "--target", "plain", "--out", str(out)]) == 0
    manifest, model = read_artifact(out)
    assert manifest.target == "plain"
    if words[0] == "tflite":
        assert float_tensors_of(model) == []
        operators = read_tflite_graph(model).operators
        assert operators["DEPTHWISE_CONV_2D"] == BLOCKS
        assert operators["SQUARED_DIFFERENCE"] > BLOCKS
    else:
        operators = Counter(node.op_type for node in onnx.load(model).graph.node)
        assert "LayerNormalization" not in operators
        assert "Erf" in operators
    capsys.readouterr()
    assert main([*words, "--max-drop", "1", "--target", "plain"]) == 2


def test_the_converters_by_themselves_know_two_recipes(options, tmp_path, capsys):
    words = ["tflite", "--recipe", "dynamic_wi8_afp32", "--target", "plain"]
    assert main([*words, *options, "--out", str(tmp_path / "a")]) == 2
    assert "target plain knows float32 and static_wi8_ai8, not dynamic_wi8_afp32" in capsys.readouterr().err

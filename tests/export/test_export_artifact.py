"""Whole exports of the nano model with random weights: conversion, contract, verification, files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from kit.tiny import tiny_config

from benchmarks.graph.file_cost import graph_cost
from export.__main__ import main
from export.targets import TARGETS
from export.tflite_file import read_tflite_graph
from model.config import preset_config
from preprocess.heatmaps import skeleton_to_heatmaps
from preprocess.logmel import waveform_to_logmel
from preprocess.spec import PreprocessSpec
from runtime.manifest import Label, read_artifact
from runtime.runners import open_here, open_model

pytestmark = pytest.mark.slow
KINDS = {
    "tflite-float32": ["tflite"],
    "tflite-int8": ["tflite", "--int8"],
    "onnx-float32": ["onnx"],
    "onnx-int8": ["onnx", "--int8"],
}
COMMON = ["--init", "random", "--calibration", "16", "--recordings", "24"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, recordings_folder):
    """One artefact of each kind, made by the command."""
    folder = tmp_path_factory.mktemp("artifacts")
    for name, words in KINDS.items():
        assert main([*words, *COMMON, "--data", str(recordings_folder), "--out", str(folder / name)]) == 0
    return {name: folder / name for name in KINDS}


def interpreter_of(model: Path) -> Any:
    """LiteRT's interpreter, another way to tensors and types than reading the file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    return Interpreter(str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def float_tensors_of(model: Path) -> list[str]:
    details = interpreter_of(model).get_tensor_details()
    return [d["name"] for d in details if np.issubdtype(d["dtype"], np.floating)]


def config_of(manifest):
    return preset_config(manifest.preset, tuple(Label(**label) for label in manifest.labels))


def activations_of(manifest) -> list[str]:
    """Names of everything that an integer graph of the target stores."""
    from model.deploy import build_deploy

    names: list[str] = []

    def tap(x, name):
        names.append(name)
        return x

    build_deploy(config_of(manifest), TARGETS[manifest.target].form, tap)
    return names


@pytest.mark.parametrize("kind", KINDS)
def test_artifact_is_whole_and_verified(artifacts, kind):
    manifest, model = read_artifact(artifacts[kind])
    assert manifest.verification["verified"]
    assert manifest.size_bytes == model.stat().st_size
    assert manifest.spec == PreprocessSpec.preset("nano")
    assert len(manifest.labels) == 60
    counted, stated = graph_cost(model), manifest.cost["fused"]
    assert counted.macs == stated["macs"]
    # Biases of untrained weights are zero, and converters drop some of those.
    assert 0.98 * stated["deployed_parameters"] < counted.parameters <= stated["deployed_parameters"]
    assert stated["deployed_parameters"] < stated["parameters"]
    assert not list(artifacts[kind].parent.glob(".tmp-*"))


def test_int8_tflite_holds_no_float_tensor(artifacts):
    assert float_tensors_of(artifacts["tflite-int8"] / "model.tflite") == []
    assert float_tensors_of(artifacts["tflite-float32"] / "model.tflite")


def test_int8_tflite_contract(artifacts):
    manifest, _ = read_artifact(artifacts["tflite-int8"])
    tensors = {t.name: t for t in manifest.inputs}
    assert tensors["skeleton"].shape == (1, 96, 96, 31)
    assert tensors["audio"].shape == (1, 64, 192, 3)
    assert {t.dtype for t in (*manifest.inputs, *manifest.outputs)} == {"int8"}
    assert tensors["skeleton"].scale == pytest.approx(1 / 255, rel=1e-6)
    assert tensors["skeleton"].zero_point == -128
    assert [t.name for t in manifest.outputs] == ["logits"]


def test_int8_tflite_stores_every_activation_under_its_name(artifacts):
    manifest, model = read_artifact(artifacts["tflite-int8"])
    details = interpreter_of(model).get_tensor_details()
    kinds = {d["name"]: np.dtype(d["dtype"]).name for d in details}
    names = activations_of(manifest)
    assert {name: kinds.get(name) for name in names} == dict.fromkeys(names, "int8")
    counts = Counter(d["name"] for d in details)
    assert set(counts.values()) == {1}


def test_int8_tflite_has_the_operators_that_xnnpack_is_fast_with(artifacts):
    manifest, model = read_artifact(artifacts["tflite-int8"])
    operators = read_tflite_graph(model).operators
    blocks = sum(len(stage.expanded) for stage in config_of(manifest).audio.stages)
    assert operators["GELU"] == blocks == 18
    # Three parts of each, and the affine part of the stem's norm.
    assert operators["DEPTHWISE_CONV_2D"] == 3 * blocks + 1
    assert not operators.keys() & {"QUANTIZE", "DEQUANTIZE", "ERF", "POW", "SQRT", "DIV", "SQUARED_DIFFERENCE"}
    interpreter = interpreter_of(model)
    interpreter.allocate_tensors()
    shapes = {d["index"]: d["shape"] for d in interpreter.get_tensor_details()}
    kernels = [shapes[op["inputs"][1]] for op in interpreter._get_ops_details() if op["op_name"] == "DEPTHWISE_CONV_2D"]
    assert len(kernels) == operators["DEPTHWISE_CONV_2D"]
    # [1, h, w, C]
    assert {shape[1] * shape[2] for shape in kernels} == {21, 20, 8, 1}


@pytest.mark.parametrize("kind", ["onnx-float32", "onnx-int8"])
def test_onnx_has_every_activation_under_its_name(artifacts, kind):
    manifest, model = read_artifact(artifacts[kind])
    graph = onnx.load(model).graph
    found = Counter([i.name for i in graph.input] + [o for node in graph.node for o in node.output])
    names = activations_of(manifest)
    assert {name: found[name] for name in names} == dict.fromkeys(names, 1)
    if kind == "onnx-int8":
        stored = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
        # Inputs are stored with their axes shifted, the logits before the node that names them.
        assert set(names) - stored == {"skeleton", "audio", "logits"}


@pytest.mark.parametrize("kind", ["onnx-float32", "onnx-int8"])
def test_onnx_contract(artifacts, kind):
    model = onnx.load(artifacts[kind] / "model.onnx")
    assert {i.name for i in model.graph.input} == {"skeleton", "audio"}
    assert [o.name for o in model.graph.output] == ["logits"]


def test_onnx_int8_has_weights_per_channel_and_bias_in_32_bits(artifacts):
    model = onnx.load(artifacts["onnx-int8"] / "model.onnx")
    initializers = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    producers = {o: n for n in model.graph.node for o in n.output}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert len(convolutions) > 100
    for node in convolutions:
        source = producers[node.input[1]]
        assert source.op_type == "DequantizeLinear"
        weight, scale = initializers[source.input[0]], initializers[source.input[1]]
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_specification_are_in_the_model_file(artifacts, kind):
    manifest, model = read_artifact(artifacts[kind])
    if manifest.format == "onnx":
        from export.onnx_file import read_onnx_metadata

        text = read_onnx_metadata(model)
    else:
        from export.tflite_file import read_tflite_metadata

        text = read_tflite_metadata(model)
    embedded = json.loads(text)
    assert tuple(embedded["labels"]) == manifest.labels
    assert PreprocessSpec.from_dict(embedded["preprocess"]) == manifest.spec


@pytest.mark.parametrize("kind", KINDS)
def test_golden_inputs_lead_to_golden_outputs(artifacts, kind):
    """From the raw recording, as a device would: preprocess, run, compare."""
    manifest, path = read_artifact(artifacts[kind])
    runtime = "litert" if manifest.format == "tflite" else "onnxruntime"
    runner = open_model(path, runtime)
    assert len(manifest.golden) == 3
    for name in manifest.golden:
        golden = np.load(artifacts[kind] / name)
        skeleton = skeleton_to_heatmaps(golden["joints"], golden["confidence"], manifest.spec.skeleton).tensor
        audio = waveform_to_logmel(golden["waveform"], manifest.spec.audio)
        np.testing.assert_allclose(skeleton, golden["skeleton"][0], atol=1e-6)
        np.testing.assert_allclose(audio, golden["audio"][0], atol=1e-4)
        logits = runner({"skeleton": golden["skeleton"], "audio": golden["audio"]})
        np.testing.assert_allclose(logits, golden["logits"], atol=1e-5)


def mapped_logits(folder, manifest, cache):
    runner = open_here(folder / manifest.model_file, "litert-mapped", threads=1, weight_cache=cache)
    assert (runner.inputs, runner.outputs) == (manifest.inputs, manifest.outputs)
    golden = [np.load(folder / name) for name in manifest.golden]
    return [runner({name: own[name] for name in ("skeleton", "audio")}) for own in golden]


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("tflite-int8", 1),
        ("tflite-float32", 0),
    ],
)
def test_mapped_weights_give_the_same_logits(artifacts, kind, steps, tmp_path):
    manifest, _ = read_artifact(artifacts[kind])
    found = mapped_logits(artifacts[kind], manifest, tmp_path / "weights.xnnpack")
    expected = [np.load(artifacts[kind] / name)["logits"] for name in manifest.golden]
    # Kernels may round an integer to the other side; those of floats are the same.
    np.testing.assert_allclose(found, expected, rtol=0, atol=steps * manifest.outputs[0].scale + 1e-5)


@pytest.mark.parametrize("kind", ["tflite-int8", "tflite-float32"])
def test_mapped_weights_are_written_once_and_used_again(artifacts, kind, tmp_path):
    manifest, _ = read_artifact(artifacts[kind])
    cache = tmp_path / "weights.xnnpack"
    found = mapped_logits(artifacts[kind], manifest, cache)
    written = cache.stat()
    assert written.st_size > manifest.size_bytes / 2
    np.testing.assert_array_equal(mapped_logits(artifacts[kind], manifest, cache), found)
    after = cache.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (written.st_size, written.st_mtime_ns, written.st_ino)


def test_manifest_says_target_search_and_memory(artifacts):
    for kind, folder in artifacts.items():
        manifest, _ = read_artifact(folder)
        assert manifest.target == ("xnnpack" if kind.startswith("tflite") else "x86")
        assert manifest.recipe == ("static_wi8_ai8" if kind.endswith("int8") else "float32")
        assert manifest.search is None
        assert ("peak_bytes_mapped" in manifest.measurement) == kind.startswith("tflite")
        assert manifest.measurement["runs"] == 30


def test_manifest_counts_the_calibration_set(artifacts):
    calibration = read_artifact(artifacts["tflite-int8"])[0].calibration
    assert calibration["size"] == 16
    assert Counter(calibration["class_counts"].values()) == {1: 16}
    assert len(calibration["sha256"]) == 64
    assert (calibration["method"], calibration["equalise"], calibration["correct_biases"]) == ("mse", False, True)
    assert read_artifact(artifacts["tflite-float32"])[0].calibration is None
    # One recipe, one calibration set, whatever the format.
    assert read_artifact(artifacts["onnx-int8"])[0].calibration == calibration


def test_existing_artifact_is_refused_and_unharmed(artifacts, capsys):
    before = {p: p.stat().st_mtime_ns for p in artifacts["tflite-int8"].rglob("*")}
    assert main(["tflite", "--int8", *COMMON, "--out", str(artifacts["tflite-int8"])]) == 2
    assert "--force" in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in artifacts["tflite-int8"].rglob("*")}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["tflite", "--preset", "paper"], 2, "needs --init random"),
        (["onnx", "--stride-on", "1x1"], 2, "--stride-on 1x1 needs --init random; a checkpoint has its own"),
        (["tflite", "--init", "random", "--checkpoint", "x.npz"], 2, "exclude each other"),
        (["tflite", "--checkpoint", "missing.npz"], 4, "does not exist"),
        (["tflite", "--init", "random", "--recordings", "0"], 2, "--recordings is 0"),
        (["tflite", "--init", "random", "--data", "no-such-folder"], 4, "no-such-folder"),
        (["tensorrt"], 2, "invalid choice"),
    ],
)
def test_wrong_use_gets_one_line_and_its_exit_code(words, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [] or not any((tmp_path / "artifacts").iterdir())


def test_model_of_other_weights_fails_the_verification(artifacts, recordings_folder):
    """The verification compares; it does not assume. Another seed's weights are another model."""
    from export.verification import verify
    from model.recogniser import build_recogniser
    from quantize.recipes import STATIC_WI8_AI8
    from recordings.actions import class_indices
    from recordings.batches import FeatureLoader
    from recordings.catalogue import scan

    manifest, path = read_artifact(artifacts["tflite-int8"])
    config = config_of(manifest)
    refs = scan(recordings_folder).refs[:16]
    with FeatureLoader(refs, class_indices(refs, config.codes), config.spec, batch_size=16, workers=0) as loader:
        outcome, _ = verify(
            path,
            "tflite",
            STATIC_WI8_AI8,
            build_recogniser(config, seed=1234),
            loader,
            stream="fused",
            recordings=16,
            random_weights=True,
        )
    assert any("SNR" in failure for failure in outcome.failures)


def test_checkpoint_with_nan_is_refused(tmp_path, capsys, recordings_folder):
    from model.checkpoint import Checkpoint, save_checkpoint
    from model.recogniser import build_recogniser

    config = replace(tiny_config(), preset="nano")
    weights = build_recogniser(config).weights()
    weights["fusion/norm/gamma"] = np.full_like(weights["fusion/norm/gamma"], np.nan)
    save_checkpoint(tmp_path / "bad.npz", Checkpoint(config, weights, {}))
    words = ["tflite", "--checkpoint", str(tmp_path / "bad.npz"), "--data", str(recordings_folder)]
    assert main([*words, "--out", str(tmp_path / "a")]) == 4
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_export_leaves_no_artifact(tmp_path, number, recordings_folder):
    out = tmp_path / "artifacts" / "a"
    process = subprocess.Popen(
        [sys.executable, "-m", "export", "tflite", "--int8", *COMMON, "--data", str(recordings_folder), "--out", out],
        cwd=ROOT,
        env=os.environ,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(out.parent.glob(".tmp-*/model.*")) and not list(out.parent.glob(".tmp-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    code = process.wait(60)
    assert not out.exists()
    if number == signal.SIGTERM:
        assert code == 130
        assert list(out.parent.iterdir()) == []

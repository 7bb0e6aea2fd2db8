"""Exports of a tiny model by the command: contract, verification, golden files, manifest, refusals."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from kit.onnx_cost import onnx_cost

from benchmarks.graph.file_cost import graph_cost
from export.__main__ import main
from export.onnx_file import run_tf2onnx
from export.plan import ModelChoice
from export.targets import TARGETS
from export.tflite_file import float_tensors, run_converter
from export.verification import verify
from model.checkpoint import Checkpoint, save_checkpoint
from model.evaluation import keras_model
from model.recogniser import build_recogniser
from preprocess.errors import DataError
from preprocess.spec import PreprocessSpec
from quantize.recipes import STATIC_WI8_AI8
from recordings.catalogue import scan
from recordings.reading import read_golden
from recordings.sources import DataSource
from runtime.artifact import Artifact
from runtime.manifest import read_artifact
from runtime.runners import open_here


def test_artifact_is_complete_verified_and_names_its_tensors(artifacts, kind, tiny_recogniser):
    manifest, model = read_artifact(artifacts[kind])
    assert manifest.verification["verified"]
    assert manifest.size_bytes == model.stat().st_size
    assert (manifest.spec, manifest.labels) == (tiny_recogniser.config.spec, tiny_recogniser.config.labels)
    stated = manifest.cost["fused"]
    cost = graph_cost(model) if kind.startswith("tflite") else None
    parameters, macs = (cost.parameters, cost.macs) if cost else onnx_cost(model)
    assert macs == stated["macs"]
    # Biases of untrained weights are zero, and converters drop some of those.
    assert 0.9 * stated["deployed_parameters"] < parameters <= stated["deployed_parameters"]
    assert stated["deployed_parameters"] < stated["parameters"]
    assert manifest.target == ("xnnpack" if kind.startswith("tflite") else "x86")
    assert manifest.recipe == ("static_wi8_ai8" if kind.endswith("int8") else "float32")
    assert manifest.search is None
    assert ("peak_bytes_mapped" in manifest.measurement) == kind.startswith("tflite")
    assert manifest.measurement["runs"] == 30
    words = "tiny.npz --calibration 16 --data DIR --recordings 24"
    flag = " --int8" if kind.endswith("int8") else ""
    assert manifest.command == f"python -m export {manifest.format}{flag} --checkpoint {words}"
    assert not list(artifacts[kind].parent.glob(".tmp-*"))
    tensors = {tensor.name: tensor for tensor in manifest.inputs}
    assert tensors["skeleton"].shape == (1, *manifest.spec.skeleton.shape)
    assert tensors["audio"].shape == (1, *manifest.spec.audio.shape)
    assert [tensor.name for tensor in manifest.outputs] == ["logits"]
    dtype = "int8" if kind == "tflite-int8" else "float32"
    assert {tensor.dtype for tensor in (*manifest.inputs, *manifest.outputs)} == {dtype}
    if kind == "tflite-int8":
        assert (tensors["skeleton"].scale, tensors["skeleton"].zero_point) == (pytest.approx(1 / 255, rel=1e-6), -128)
    if manifest.format == "tflite":
        assert bool(float_tensors(model)) == (dtype == "float32")


def test_labels_and_specification_are_in_the_model_file(artifacts, kind):
    """Read as other programs would."""
    manifest, model = read_artifact(artifacts[kind])
    if manifest.format == "onnx":
        text = next(entry.value for entry in onnx.load(model).metadata_props if entry.key == "pocket_har")
    else:
        file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model.read_bytes(), 0))
        (entry,) = [entry for entry in file.metadata if entry.name == b"pocket_har.json"]
        text = bytes(file.buffers[entry.buffer].data).decode()
    embedded = json.loads(text)
    assert [(label["code"], label["name"]) for label in embedded["labels"]] == [
        (label.code, label.name) for label in manifest.labels
    ]
    assert PreprocessSpec.from_dict(embedded["preprocess"]) == manifest.spec


def test_golden_recordings_lead_to_golden_logits(artifacts, kind):
    """From the raw recording, as a device would: preprocess, run, compare. Nothing in the files is compressed."""
    artifact = Artifact.open(artifacts[kind])
    spec, runner = artifact.manifest.spec, artifact.load()
    assert len(artifact.manifest.golden) == 3
    for index, name in enumerate(artifact.manifest.golden):
        path = artifact.folder / name
        tensors = read_golden(path, sample_rate_hz=spec.audio.sample_rate_hz).tensors(spec)
        with np.load(path) as golden:
            assert ({"skeleton", "audio"} <= set(golden.files)) == (index == 0)
            assert {entry.compress_type for entry in golden.zip.infolist()} == {0}
            for tensor in set(golden.files) & set(tensors):
                np.testing.assert_array_equal(golden[tensor], tensors[tensor])
            np.testing.assert_allclose(runner(tensors), golden["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "steps"), [("tflite-int8", 1), ("tflite-float32", 0)])
def test_mapped_weights_are_written_once_and_give_the_same_logits(artifacts, kind, steps, tmp_path):
    manifest, model = read_artifact(artifacts[kind])
    cache, path = tmp_path / "weights.xnnpack", artifacts[kind] / manifest.golden[0]
    tensors = read_golden(path, sample_rate_hz=manifest.spec.audio.sample_rate_hz).tensors(manifest.spec)

    def mapped():
        runner = open_here(model, "litert-mapped", threads=1, weight_cache=cache)
        assert (runner.inputs, runner.outputs) == (manifest.inputs, manifest.outputs)
        status = cache.stat()
        return runner(tensors), (status.st_size, status.st_mtime_ns, status.st_ino)

    logits, written = mapped()
    # Kernels may round an integer to the other side; those of floats are the same.
    np.testing.assert_allclose(logits, np.load(path)["logits"], rtol=0, atol=steps * manifest.outputs[0].scale + 1e-5)
    assert written[0] > manifest.size_bytes / 4
    again, unchanged = mapped()
    np.testing.assert_array_equal(again, logits)
    assert unchanged == written


def test_manifest_counts_the_calibration_set(artifacts):
    calibration = read_artifact(artifacts["tflite-int8"])[0].calibration
    assert calibration["size"] == 16
    assert Counter(calibration["class_counts"].values()) == {1: 16}
    assert len(calibration["sha256"]) == 64
    assert (calibration["method"], calibration["equalise"], calibration["correct_biases"]) == ("mse", False, True)
    assert read_artifact(artifacts["tflite-float32"])[0].calibration is None
    # One recipe, one calibration set, whatever the format.
    assert read_artifact(artifacts["onnx-int8"])[0].calibration == calibration


def test_existing_artifact_is_refused_and_unharmed(artifacts, tiny_options, capsys):
    before = {path: path.stat().st_mtime_ns for path in artifacts["tflite-int8"].rglob("*")}
    assert main(["tflite", "--int8", *tiny_options, "--out", str(artifacts["tflite-int8"])]) == 2
    assert "--force" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in artifacts["tflite-int8"].rglob("*")}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("tflite --preset paper", 2, "needs --init random"),
        ("onnx --stride-on 1x1", 2, "--stride-on 1x1 needs --init random"),
        ("tflite --init random --checkpoint x.npz", 2, "exclude each other"),
        ("tflite --checkpoint missing.npz", 4, "does not exist"),
        ("tflite --recordings 0", 2, "--recordings"),
        ("tflite --data no-such-folder", 4, "no-such-folder"),
        ("tensorrt", 2, "invalid choice"),
        ("tflite --target x86", 2, "target x86 does not run tflite files; use one of xnnpack"),
        ("onnx --target xnnpack", 2, "target xnnpack does not run onnx files; use one of x86, arm, qnn"),
        ("onnx --target tpu", 2, "invalid choice"),
        ("tflite --recipe weight_only_wi8_afp32", 2, "does not exist for tflite"),
        ("onnx --recipe weight_only_wf16_afp32", 2, "does not exist for onnx"),
        ("tflite --recipe static_wi8_ai8+ai16(*/norm)", 2, "TFLite mixes int8 with float"),
        ("tflite --recipe float32+fp32(fusion/*)", 2, "is unknown"),
        ("tflite --int8 --recipe static_wi8_ai8", 2, "not allowed with"),
        ("onnx --max-drop 1 --int8", 2, "not allowed with"),
        ("tflite --max-drop 1 --recipe float32", 2, "not allowed with"),
        ("onnx --max-drop -0.5", 2, "--max-drop"),
        ("tflite --max-drop 1 --time-limit 0", 2, "--time-limit"),
        ("onnx --max-drop 1 --init random", 2, "needs trained weights"),
        ("tflite --max-drop 1 --target plain", 2, "leave out --target plain"),
        ("onnx --max-drop 1 --recordings 380", 2, "use --recordings 381 or more"),
        ("tflite --max-drop 0", 2, "any number of recordings"),
    ],
)
def test_wrong_use_gets_one_line_and_its_exit_code(words, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words.split(), "--out", "a"]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_no_artifact(tiny_options, tmp_path, monkeypatch):
    """Between the model file and the manifest; signals themselves are sent in tests/console."""

    def interrupted(path, *words, **options):
        assert path.is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr("export.pipeline.verify", interrupted)
    assert main(["tflite", "--int8", *tiny_options, "--out", str(tmp_path / "a")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_model_of_other_weights_fails_the_verification(artifacts, tiny_recogniser, recordings_folder):
    """The verification compares; it does not assume. Another seed's weights are another model."""
    manifest, path = read_artifact(artifacts["tflite-int8"])
    source, refs = DataSource(recordings_folder, workers=0), scan(recordings_folder).refs[:16]
    with source.loader(refs, manifest) as loader:
        verification, _ = verify(
            path,
            ModelChoice("tflite", TARGETS["xnnpack"], STATIC_WI8_AI8),
            keras_model(build_recogniser(tiny_recogniser.config, seed=1234)),
            loader.epoch(0),
            spec=manifest.spec,
            recordings=16,
            random_weights=True,
        )
    assert any("SNR" in failure for failure in verification.failures)


def test_checkpoint_with_nan_is_refused(tiny_recogniser, recordings_folder, tmp_path, capsys):
    weights = tiny_recogniser.weights()
    weights["fusion/norm/gamma"] = np.full_like(weights["fusion/norm/gamma"], np.nan)
    save_checkpoint(tmp_path / "bad.npz", Checkpoint(tiny_recogniser.config, weights, {}))
    words = ["tflite", "--checkpoint", str(tmp_path / "bad.npz"), "--data", str(recordings_folder)]
    assert main([*words, "--out", str(tmp_path / "a")]) == 4
    assert "not finite" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_failing_converter_is_no_defect_of_ours(monkeypatch):
    """tf2onnx logs an operation that it cannot convert and returns a graph; others raise errors of any kind."""
    import tensorflow as tf

    inputs = tf.keras.Input((4,), name="audio")
    model = tf.keras.Model(inputs, tf.keras.layers.Lambda(tf.math.lgamma)(inputs))
    with pytest.raises(DataError, match=r"tf2onnx cannot convert the model: .*Lgamma"):
        run_tf2onnx(model, 17)

    class Converter:
        def convert(self):
            raise RuntimeError("a\nb")

    with pytest.raises(DataError, match="TFLite's converter failed: a b; choose another"):
        run_converter(Converter())

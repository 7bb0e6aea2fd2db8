"""Hexagon's compiler and emulator on real files: placement, the chip in the binary, arithmetic, the commands."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from kit.networks import noise, plain_onnx
from kit.tiny import tiny_config, tiny_spec

from export.pipeline import convert_model
from export.targets import TARGETS
from model.recogniser import build_recogniser
from preprocess.errors import DataError
from quantize.__main__ import main as quantize
from quantize.prepare import CalibrationOptions, prepare
from quantize.recipes import parse_recipe
from runtime.manifest import read_artifact
from runtime.metrics import snr_db
from runtime.npu import compile_context, partitions_of
from runtime.npu_chips import SNAPDRAGONS, check_chip, compiled_for
from runtime.runners import EMULATOR, open_model

if importlib.util.find_spec("onnxruntime_qnn") is None:
    pytest.skip('needs onnxruntime-qnn: pip install -e ".[npu]"', allow_module_level=True)

pytestmark = pytest.mark.slow
RECIPES = ("static_wi8_ai8", "static_wi8_ai8+ai16(audio/*)", "static_wi8_ai16")


@pytest.fixture(scope="module")
def samples():
    """Noise for calibration and, other, to compare on."""
    config = tiny_config(spec=tiny_spec(side=40))
    return noise(config, 16, seed=0), noise(config, 8, seed=1)


@pytest.fixture(scope="module")
def model_files(tmp_path_factory, samples):
    """The tiny recogniser, with layer norm, by recipe for Hexagon, and in INT8 as x86 has it."""
    folder = tmp_path_factory.mktemp("models")
    model = build_recogniser(tiny_config(spec=tiny_spec(side=40)), seed=3)
    prepared = prepare(model.config, model.weights(), TARGETS["qnn"].form, samples[0], CalibrationOptions())
    files = {}
    for target, recipe in (*(("qnn", recipe) for recipe in RECIPES), ("x86", RECIPES[0])):
        path = folder / f"{len(files)}.onnx"
        convert_model(prepared, parse_recipe(recipe), TARGETS[target], path)
        files[target, recipe] = path
    return files


# Every attention matrix product and norm in 16 bits, too.
@pytest.mark.parametrize("recipe", RECIPES)
def test_all_of_a_file_for_hexagon_is_one_piece_on_the_npu(model_files, recipe, tmp_path):
    source, out = model_files["qnn", recipe], tmp_path / "out.onnx"
    placement = compile_context(source, out, SNAPDRAGONS["SM8450"])
    kinds = Counter(node.op_type for node in onnx.load(source).graph.node)
    # ONNX Runtime moves transpositions until most cancel out, and merges what is left of shapes.
    most = sum(kinds.values()) - kinds["QuantizeLinear"] - kinds["DequantizeLinear"]
    assert most - kinds["Transpose"] - kinds["Reshape"] <= placement.total_ops <= most
    assert (placement.npu_ops, placement.partitions) == (placement.total_ops, 1)
    assert placement.profile == {"QNNExecutionProvider": 1}
    assert placement.full
    assert [node.op_type for node in onnx.load(out).graph.node] == ["EPContext"]


@pytest.mark.parametrize("soc", ["SM8350", "SM8650", "SM8850"])
def test_the_binary_is_for_the_chip_that_was_asked_for(model_files, soc, tmp_path):
    out = tmp_path / "out.onnx"
    assert compile_context(model_files["qnn", RECIPES[0]], out, SNAPDRAGONS[soc]).full
    assert check_chip(out.read_bytes(), soc) == SNAPDRAGONS[soc].arch
    # An independent record, which ONNX Runtime adds: version, SDK, then Hexagon and Qualcomm's number of the chip.
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    (record,) = [value for key, value in metadata.items() if key.startswith("ep_compatibility_info")]
    assert f":{SNAPDRAGONS[soc].arch}:{SNAPDRAGONS[soc].soc_model}:" in record
    assert "pocket_har" in metadata


def test_fallback_is_named_by_runtime_file_and_profile(model_files, tmp_path):
    source, out = model_files["x86", RECIPES[0]], tmp_path / "out.onnx"
    placement = compile_context(source, out, SNAPDRAGONS["SM8650"])
    norms = [node.name for node in onnx.load(source).graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 9
    assert not placement.full
    assert {f"{name} (LayerNormalization)" for name in norms} <= set(placement.fallback)
    assert placement.total_ops - placement.npu_ops == len(norms)
    left = {f"{node.name} ({node.op_type})" for node in onnx.load(out).graph.node if node.op_type != "EPContext"}
    assert left == set(placement.fallback)
    assert len(partitions_of(out)) == placement.partitions == placement.profile["QNNExecutionProvider"] > 1
    assert placement.profile["CPUExecutionProvider"] > 0
    with pytest.raises(DataError, match="qnn-htp cannot load"):
        open_model(source, EMULATOR, soc="SM8650")


def test_another_chip_s_binary_runs_in_the_emulator_and_is_refused_by_its_words(model_files, samples, tmp_path):
    out = tmp_path / "out.onnx"
    compile_context(model_files["qnn", RECIPES[0]], out, SNAPDRAGONS["SM8750"])
    tensors = {"skeleton": samples[1].skeleton[:1], "audio": samples[1].audio[:1]}
    assert open_model(out, EMULATOR)(tensors).shape == (3,)
    assert compiled_for(out.read_bytes())[0] == "SM8750"
    with pytest.raises(DataError, match="is for SM8750, v79, not for SM8650"):
        check_chip(out.read_bytes(), "SM8650")


def test_a_damaged_file_fails_in_one_line(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"none")
    with pytest.raises(DataError, match=r"^compiling a\.onnx for 8 Gen 3 failed: [^\n]+$"):
        compile_context(tmp_path / "a.onnx", tmp_path / "b.onnx", SNAPDRAGONS["SM8650"])


@pytest.mark.parametrize(("recipe", "least_db"), [(RECIPES[0], 15.0), (RECIPES[2], 30.0)])
def test_the_emulator_computes_as_the_file_is_written(model_files, samples, recipe, least_db):
    # Roundings of some hundred layers differ; a wrong scale or zero point anywhere gives less than 5 dB.
    path, inputs = model_files["qnn", recipe], samples[1]
    feeds = [{"skeleton": s[None], "audio": a[None]} for s, a in zip(inputs.skeleton, inputs.audio, strict=True)]
    expected, logits = (
        np.stack([run(feed) for feed in feeds]) for run in (plain_onnx(path), open_model(path, EMULATOR, soc="SM8650"))
    )
    assert snr_db(expected, logits) > least_db


# The commands, on the demo


@pytest.fixture(scope="module")
def exported(tmp_path_factory, recordings_folder):
    """`export npu` in a separate process, as users run it: folder and document."""
    out = tmp_path_factory.mktemp("npu") / "out"
    words = ["npu", "--soc", "SM8650", "--require-full", "--qairt", "onnxruntime-qnn", "--data", recordings_folder]
    words += ["--calibration", "8", "--recordings", "8", "--out", out, "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "export", *map(str, words)], capture_output=True, text=True, check=False
    )
    # Eight recordings may miss the CPU's tolerances; nothing else may go wrong.
    assert run.returncode in (0, 1), run.stderr
    return out, json.loads(run.stdout)


def test_both_files_are_wholly_on_the_npu(exported):
    out, document = exported
    assert document["recipe"] == "static_wi8_ai8"
    assert document["stand_in_libraries"]
    assert [compiled["format"] for compiled in document["compiled"]] == ["onnx", "tflite"]
    for compiled in document["compiled"]:
        assert compiled["placement"]["full"], compiled
        assert compiled["compiled_for"] == {"soc": "SM8650", "arch": 75}
    assert json.loads((out / "placement.json").read_text())["compiled"] == document["compiled"]


def test_manifests_of_a_chip_s_artifacts(exported):
    out, document = exported
    for compiled in document["compiled"]:
        manifest, model = read_artifact(out / compiled["artifact"])
        assert manifest.npu["soc"] == "SM8650"
        assert ("note" in manifest.npu["compiler"]) == (compiled["format"] == "tflite")
        assert manifest.size_bytes == model.stat().st_size == compiled["size_bytes"]
        # Nothing of Qualcomm's is in the folder.
        assert {path.suffix for path in (out / compiled["artifact"]).rglob("*") if path.is_file()} <= {
            ".json",
            ".npz",
            model.suffix,
        }
    manifest, _ = read_artifact(out / "SM8650-onnx")
    assert manifest.verification["verified"]
    with (
        np.load(out / "SM8650-onnx" / manifest.golden[0]) as golden,
        np.load(out / "onnx" / manifest.golden[0]) as before,
    ):
        assert snr_db(before["logits"], golden["logits"]) > 15
        assert not np.array_equal(before["logits"], golden["logits"])
        np.testing.assert_array_equal(before["joints"], golden["joints"])


def test_check_compares_reference_cpu_and_hexagon(exported, recordings_folder, capfd):
    out, _ = exported
    # Any artifact can be the reference; the TFLite file exists already.
    words = ["check", "--float", str(out / "tflite"), "--int8", str(out / "onnx"), "--data", str(recordings_folder)]
    words += ["--recordings", "6", "--json", "--max-drop", "100", "--max-class-drop", "100"]
    code = quantize([*words, "--backend", "qnn-htp", "--min-cpu-agreement", "0.1"])
    document = json.loads(capfd.readouterr().out)
    assert code == 0
    assert document["recordings"] == 6
    (model,) = document["models"]
    # The CPU's row is what the command says without the emulator.
    assert quantize(words) == 0
    plain = json.loads(capfd.readouterr().out)["comparison"]
    assert model["cpu"]["correct"] == plain["int8"]["correct"]
    assert model["cpu"]["agreement"] == pytest.approx(plain["agreement"])
    assert model["cpu"]["snr_db"] == pytest.approx(plain["snr_db"])
    assert model["hexagon_against_cpu"]["snr_db"] > 15
    assert model["hexagon"]["comparison"]["snr_db"] > 15
    assert "seconds" not in json.dumps(document)
    assert "latency" not in json.dumps(document)


def test_a_compiled_file_does_not_run_on_the_cpu(exported, capsys):
    out, _ = exported
    words = ["check", "--float", str(out / "onnx"), "--int8", str(out / "SM8650-onnx"), "--backend", "qnn-htp"]
    assert quantize(words) == 2
    assert "is compiled for SM8650 and runs on no CPU" in capsys.readouterr().err

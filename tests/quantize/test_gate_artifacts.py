"""The accuracy gate on real files: a good INT8 model passes, models broken in known ways fail; the command end to end.

All files come from the demo checkpoint. Two points may be lost here, not one: 400 recordings cannot show less.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema
from kit.fakes import describe

from export.__main__ import build_parser as export_parser
from export.pipeline import convert_model
from export.targets import TARGETS
from export.tflite_file import pack_tflite
from model.checkpoint import DEMO_CHECKPOINT, load_checkpoint
from quantize.__main__ import build_parser, main
from quantize.gate.baseline import read_baseline
from quantize.prepare import CalibrationOptions, Prepared, prepare
from quantize.recipes import FLOAT32, STATIC_WI8_AI8, Recipe
from recordings.sources import DataSource
from runtime.manifest import MANIFEST_NAME, Label, read_artifact
from runtime.runners import open_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RECORDINGS, FEW = 400, 32
BUDGET = ["--max-drop", "2"]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """The demo checkpoint, calibrated on 32 recordings."""
    checkpoint = load_checkpoint(DEMO_CHECKPOINT)
    source = DataSource()
    calibration, _ = source.draw(checkpoint.config, calibration=32, held_out=FEW)
    return prepare(checkpoint.config, checkpoint.weights, TARGETS["xnnpack"].form, calibration, CalibrationOptions())


def write_artifact(folder: Path, prepared: Prepared, recipe: Recipe) -> Path:
    folder.mkdir()
    path = folder / "model.tflite"
    convert_model(prepared, recipe, TARGETS["xnnpack"], path)
    return describe_file(path, prepared, recipe)


def describe_file(path: Path, prepared: Prepared, recipe: Recipe) -> Path:
    """The manifest of a TFLite file, without measurements."""
    config, runner = prepared.config, open_model(path, "litert")
    return describe(
        path,
        preset=config.preset,
        recipe=recipe.name,
        spec=config.spec,
        labels=config.labels,
        inputs=runner.inputs,
        outputs=runner.outputs,
    )


@pytest.fixture(scope="module")
def float_artifact(tmp_path_factory, prepared) -> Path:
    return write_artifact(tmp_path_factory.mktemp("float") / "demo-float32", prepared, FLOAT32)


@pytest.fixture(scope="module")
def good(tmp_path_factory, prepared) -> Path:
    return write_artifact(tmp_path_factory.mktemp("good") / "demo-int8", prepared, STATIC_WI8_AI8)


def check(float_artifact: Path, int8_artifact: Path, *words: str, recordings: int = RECORDINGS) -> int:
    command = ["check", "--float", str(float_artifact), "--int8", str(int8_artifact), *BUDGET]
    return main([*command, "--recordings", str(recordings), *words])


# --- a good model


@pytest.fixture(scope="module")
def checked(tmp_path_factory, float_artifact, good) -> Path:
    """Reports and baseline of the good model, written by the command."""
    folder = tmp_path_factory.mktemp("reports")
    words = ["--junit", str(folder / "gate.xml"), "--markdown", str(folder / "gate.md"), "--min-agreement", "0.97"]
    words += ["--baseline", str(folder / "baseline.json"), "--update-baseline", "--json"]
    with open(folder / "gate.json", "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        assert check(float_artifact, good, *words) == 0
    return folder


def test_good_int8_passes_and_its_reports_say_so(checked):
    assert (checked / "gate.md").read_text(encoding="utf-8").startswith(f"## Accuracy gate passed on {RECORDINGS} rec")
    suite = ET.parse(checked / "gate.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "0", "1")
    assert float(suite.get("time")) > 0
    document = json.loads((checked / "gate.json").read_text(encoding="utf-8"))
    assert (document["passed"], document["recordings"]) == (True, RECORDINGS)
    assert document["comparison"]["agreement"] >= 0.97
    assert document["comparison"]["snr_db"] > 20
    assert len(document["comparison"]["classes"]) == 16
    assert document["models"]["int8"].keys() == {"name", "recipe", "runtime", "size_bytes", "sha256"}
    assert document["models"]["int8"]["recipe"] == "static_wi8_ai8"


def test_baseline_of_a_good_model(checked, float_artifact, good):
    baseline = read_baseline(checked / "baseline.json")
    assert len(baseline.int8_choices) == len(baseline.float_choices) == RECORDINGS
    assert baseline.float_accuracy > 0.9
    assert baseline.provenance.int8_sha256 == read_artifact(good)[0].sha256
    assert baseline.provenance.float_sha256 == read_artifact(float_artifact)[0].sha256
    assert baseline.provenance.runtimes["int8"].startswith("litert 2.")
    assert baseline.provenance.command == (
        f"python -m quantize check --float DIR --int8 DIR --max-drop 2 --min-agreement 0.97 --recordings {RECORDINGS} "
        "--baseline baseline.json --update-baseline"
    )
    assert str(ROOT) not in (checked / "baseline.json").read_text(encoding="utf-8")


def test_the_same_model_holds_its_baseline(float_artifact, good, tmp_path, capsys):
    words = ["--baseline", str(tmp_path / "baseline.json"), "--max-drop", "30", "--json"]
    assert check(float_artifact, good, *words, "--update-baseline", recordings=FEW) == 0
    written = (tmp_path / "baseline.json").read_bytes()
    capsys.readouterr()
    assert check(float_artifact, good, *words, recordings=FEW) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rules"][-1]["name"], document["rules"][-1]["status"]) == ("baseline", "passed")
    assert (document["comparison"]["regression"]["lost"], document["comparison"]["regression"]["gained"]) == (0, 0)
    assert (tmp_path / "baseline.json").read_bytes() == written


def test_other_recordings_than_the_baselines_are_refused(checked, float_artifact, good, capsys):
    words = ["--baseline", str(checked / "baseline.json")]
    assert check(float_artifact, good, *words, recordings=FEW) == 4
    assert f"the {FEW} recordings are not the {RECORDINGS} that the baseline was made with" in capsys.readouterr().err


# --- models broken in known ways


def exchanged_ranges(prepared: Prepared) -> Prepared:
    """Calibration in the wrong order: every tensor between inputs and output has the range of the one behind it."""
    inner = [name for name in prepared.ranges if name not in ("skeleton", "audio", "logits")]
    behind = dict(zip(inner, [*inner[1:], inner[0]], strict=True))
    return replace(prepared, ranges={name: prepared.ranges[behind.get(name, name)] for name in prepared.ranges})


def saturated_range(prepared: Prepared) -> Prepared:
    """The output of one stage of ResNet saturates at a tenth of what it should."""
    low, high = prepared.ranges["visual/stage2/block5"]
    return replace(prepared, ranges={**prepared.ranges, "visual/stage2/block5": (low / 10, high / 10)})


def shift_zero_point(path: Path, tensor: str, levels: int) -> None:
    """Rewrites the file with the zero point of one activation moved: values beyond the levels left are cut."""
    content = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (quantization,) = [t.quantization for t in model.subgraphs[0].tensors if t.name.decode() == tensor]
    quantization.zeroPoint = quantization.zeroPoint + levels
    assert -128 <= quantization.zeroPoint[0] <= 127
    path.write_bytes(pack_tflite(model, len(content) + 4096))


@pytest.fixture(scope="module")
def broken(tmp_path_factory, prepared, good) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("broken")
    shifted = folder / "shifted-zero-point"
    shutil.copytree(good, shifted)
    shift_zero_point(shifted / "model.tflite", "fusion/query", 100)
    describe_file(shifted / "model.tflite", prepared, STATIC_WI8_AI8)
    return {
        "exchanged ranges": write_artifact(folder / "exchanged", exchanged_ranges(prepared), STATIC_WI8_AI8),
        "saturated range": write_artifact(folder / "saturated", saturated_range(prepared), STATIC_WI8_AI8),
        "shifted zero point": shifted,
    }


@pytest.mark.parametrize(
    ("defect", "least_points"), [("exchanged ranges", 20), ("saturated range", 2), ("shifted zero point", 2)]
)
def test_broken_int8_fails(defect, least_points, broken, checked, float_artifact, tmp_path, capsys):
    rules = {"accuracy drop", "classes", "baseline"}
    words = ["--junit", str(tmp_path / "gate.xml"), "--markdown", str(tmp_path / "gate.md"), "--json"]
    before = (checked / "baseline.json").read_bytes()
    assert check(float_artifact, broken[defect], *words, "--baseline", str(checked / "baseline.json")) == 1
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert {rule["name"] for rule in document["rules"] if rule["status"] == "failed"} == rules
    assert document["comparison"]["drop"]["points"] > least_points
    (line,) = [line for line in output.err.splitlines() if line.startswith("no: ")]
    assert line == f"no: {'; '.join(document['failures'])}"
    root = ET.parse(tmp_path / "gate.xml").getroot()
    assert {case.get("name") for case in root.iter("testcase") if case.find("failure") is not None} == rules
    assert (tmp_path / "gate.md").read_text(encoding="utf-8").startswith("## Accuracy gate FAILED")
    assert (checked / "baseline.json").read_bytes() == before


def test_a_gate_that_fails_writes_no_baseline(broken, float_artifact, tmp_path, capsys):
    words = ["--baseline", str(tmp_path / "baseline.json"), "--update-baseline"]
    assert check(float_artifact, broken["exchanged ranges"], *words, recordings=FEW) == 1
    assert list(tmp_path.iterdir()) == []


# --- the command


def test_another_runtime_and_no_tensorflow(float_artifact, good):
    """In a fresh process, with tflite-runtime for INT8, as on a machine that only deploys."""
    words = ["check", "--float", str(float_artifact), "--int8", str(good), "--int8-runtime", "tflite-runtime"]
    words += ["--max-drop", "30", "--recordings", str(FEW)]
    code = f"""
import sys
from quantize.__main__ import main
if __name__ == "__main__":
    assert main({words!r}) == 0
    assert not {{"tensorflow", "tf_keras", "keras"}} & set(sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "demo-int8 in tflite-runtime" in run.stdout
    assert run.stdout.endswith(f"accuracy gate passed on {FEW} recordings\n")


def changed_copy(folder: Path, artifact: Path, **changes: object) -> Path:
    """A copy whose manifest says something else."""
    shutil.copytree(artifact, folder)
    manifest = replace(read_artifact(artifact)[0], **changes)
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def test_artifacts_that_do_not_fit_are_refused(float_artifact, good, tmp_path, capsys):
    manifest = read_artifact(good)[0]
    labels = manifest.labels
    spec = json.loads(json.dumps(manifest.preprocess))
    spec["audio"]["fmax_hz"] -= 100
    cases = {
        "fewer": ({"labels": labels[:-1]}, f"have different classes: {labels[-1].code} differ"),
        "order": ({"labels": labels[::-1]}, "have different classes: their order differs"),
        "renamed": ({"labels": (Label(labels[0].code, "x"), *labels[1:])}, f"{labels[0].code} differ"),
        "spec": ({"preprocess": spec}, "have different inputs: audio.fmax_hz differ"),
        "stream": ({"stream": "audio"}, "export both with the same --stream"),
    }
    for name, (changes, message) in cases.items():
        assert check(float_artifact, changed_copy(tmp_path / name, good, **changes)) == 4
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_wrong_use_gets_one_line_and_its_exit_code(float_artifact, good, tmp_path, capsys):
    cases = [
        (float_artifact, good, ["--update-baseline"], 2, "--update-baseline needs --baseline FILE"),
        (float_artifact, good, ["--max-drop", "101"], 2, "--max-drop: '101'"),
        (float_artifact, good, ["--confidence", "0.4"], 2, "--confidence: '0.4'"),
        (float_artifact, good, ["--int8-runtime", "onnxruntime"], 2, "cannot run"),
        (
            float_artifact,
            good,
            ["--baseline", str(tmp_path / "none.json")],
            4,
            "does not exist; write it with --update",
        ),
        (float_artifact, good, ["--data", str(tmp_path / "none")], 4, "none"),
        (good, good, [], 2, "name the same model file"),
        (good, float_artifact, [], 2, "exchange them"),
        (float_artifact, tmp_path, [], 4, "no manifest.json"),
    ]
    for reference, artifact, words, code, message in cases:
        assert check(reference, artifact, *words) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_user_recordings_and_bad_ones_left_out(float_artifact, good, recordings_folder, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(recordings_folder, data)
    bad = min(data.rglob("*.skeleton"))
    bad.write_text("no skeleton", encoding="utf-8")
    words = ["--data", str(data), "--max-drop", "20", "--json"]
    assert check(float_artifact, good, *words) == 4
    assert bad.stem in capsys.readouterr().err
    assert check(float_artifact, good, *words, "--on-error", "skip") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["recordings"] == 63
    assert "1 recording(s) were left out" in output.err


# --- what users copy


@pytest.mark.parametrize(("defect", "code", "message"), [(None, 0, "1 passed"), ("exchanged ranges", 1, "INT8 loses")])
def test_the_example_passes_with_a_good_model_alone(
    defect, code, message, float_artifact, good, broken, recordings_folder, tmp_path
):
    """In a separate folder, with pytest as a user has it; 64 recordings cannot show less than 20 points."""
    shutil.copy(ROOT / "docs" / "examples" / "test_accuracy.py", tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"FLOAT_ARTIFACT": str(float_artifact), "INT8_ARTIFACT": str(broken[defect] if defect else good)}
    env |= {"ACCURACY_DATA": str(recordings_folder), "ACCURACY_MAX_DROP": "20", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "test_accuracy.py"]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert run.returncode == code, run.stdout
    assert message in run.stdout


def test_the_workflow_calls_commands_that_exist():
    text = (ROOT / "docs" / "examples" / "accuracy.yml").read_text(encoding="utf-8")
    commands = [line.split()[2:] for line in text.splitlines() if line.strip().startswith("python -m ")]
    assert [words[0] for words in commands] == ["export", "export", "quantize"]
    parsers = {"export": export_parser(), "quantize": build_parser()}
    options = [parsers[words[0]].parse_args(words[1:]) for words in commands]
    assert [option.int8 for option in options[:2]] == [False, True]
    assert (options[2].float, options[2].int8) == (options[0].out, [options[1].out])
    assert str(options[2].markdown) in text.split("$GITHUB_STEP_SUMMARY")[0]

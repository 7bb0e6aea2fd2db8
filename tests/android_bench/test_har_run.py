"""har_run, the native runner: its lines and its errors, with a tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.har_program import har_run, litert, run_har
from kit.native import build_for_arm
from kit.native import run as run_program
from kit.tiny_artifact import CLASSES, SPEC, WEIGHTS, expected_logits, raw_recording, write_artifact, write_tflite

from preprocess import skeleton_to_heatmaps, waveform_to_logmel
from runtime.manifest import file_sha256

TOLERANCE = 1e-3  # of logits of about 10: heatmaps differ by 1e-4, log-Mel by 1e-3 dB, and weights are about 10


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "artifact"
    folder.mkdir()
    write_tflite(folder / "model.tflite")
    return write_artifact(folder, "model.tflite")


@pytest.fixture
def artifact(intact, tmp_path) -> Path:
    """A copy to damage."""
    return shutil.copytree(intact, tmp_path / "artifact")


def change_manifest(artifact: Path, **fields: object) -> None:
    path = artifact / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_lines_of_a_run(intact):
    run = run_har(intact, "--min-runs", "7")
    start, *predictions, result = run.events
    assert start["event"] == "start"
    assert (start["schema"], start["runtime"]) == (1, "litert")
    assert start["runtime_version"] == f"libLiteRt.so {file_sha256(litert())[:12]}"
    assert start["model_sha256"] == file_sha256(intact / "model.tflite")
    assert [line["recording"] for line in predictions] == ["S0", "S1"]
    for seed, line in enumerate(predictions):
        np.testing.assert_allclose(line["logits"], expected_logits(raw_recording(seed)), rtol=0, atol=TOLERANCE)
    assert result["accelerator"] == "cpu"
    assert 0 < result["delegated_ops"] <= result["total_ops"]
    for part in ("preprocessing", "inference"):
        assert len(result[part]["samples_ms"]) == 7
        assert min(result[part]["samples_ms"]) > 0
    assert 0 < result["vm_hwm_start_bytes"] <= result["vm_hwm_bytes"] < 200e6


def test_arrays_that_are_not_read_do_not_count_as_memory(intact, artifact):
    """Golden recordings also hold the tensors, which are far larger."""
    save(artifact, skeleton=(10_000_000,))
    before, after = (run_har(folder).result["vm_hwm_start_bytes"] for folder in (intact, artifact))
    assert after < before + 5e6


def test_runs_respect_the_limits_of_time(intact):
    for words in (("--min-seconds", "0.2", "--min-runs", "1"), ("--max-seconds", "0.2", "--min-runs", "1000000")):
        result = run_har(intact, *words).result
        spent_s = sum(sum(result[part]["samples_ms"]) for part in ("preprocessing", "inference")) / 1e3
        assert 0.1 < spent_s < 1.0  # another program may use the processor for a while
    assert len(run_har(intact, "--max-seconds", "0").result["inference"]["samples_ms"]) == 1


def test_without_recordings_inputs_are_random(artifact):
    shutil.rmtree(artifact / "golden")
    run = run_har(artifact)
    assert [line["event"] for line in run.events] == ["start", "result"]
    assert run.result["preprocessing"] == {"samples_ms": []}
    assert len(run.result["inference"]["samples_ms"]) == 3


@pytest.mark.parametrize("name", ["skeleton", "audio"])
def test_a_single_stream(tmp_path, name):
    write_tflite(tmp_path / "model.tflite", (name,))
    write_artifact(tmp_path, "model.tflite", names=(name,))
    logits = run_har(tmp_path).logits
    for seed in range(2):
        raw = raw_recording(seed)
        if name == "skeleton":
            tensor = skeleton_to_heatmaps(raw["joints"], raw["confidence"], SPEC.skeleton).tensor
        else:
            tensor = waveform_to_logmel(raw["waveform"], SPEC.audio)
        np.testing.assert_allclose(logits[f"S{seed}"], tensor.mean((0, 1)) @ WEIGHTS[name], rtol=0, atol=TOLERANCE)


def test_a_stream_predicts_every_half_second(intact):
    run = run_har(intact, "--stream", "2.2")
    assert list(run.logits) == [f"stream at {seconds} s" for seconds in (0.5, 1.0, 1.5, 2.0)]
    assert {len(logits) for logits in run.logits.values()} == {CLASSES}
    assert len({tuple(logits) for logits in run.logits.values()}) == 4
    assert run.result["stream_predictions"] == 4
    assert len(run.result["preprocessing"]["samples_ms"]) == len(run.result["inference"]["samples_ms"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "2.5"], "--threads is '2.5'; use a whole number from 1 to 64"),
        (["--min-runs", "0"], "--min-runs is '0'; use a whole number from 1"),
        (["--min-seconds", "nan"], "--min-seconds is 'nan'; use a number from 0"),
        (["--stream", "0"], "--stream is '0'; use a number from 1 to 3600"),
        (["--accelerator", "tpu"], "--accelerator is 'tpu'; use cpu, gpu or npu"),
        (["--library", ""], "--library is ''; name a file"),
        (["--graph", "x"], "--graph is an unknown option; see har_run --help"),
        (["--threads"], "--threads has no value; see har_run --help"),
        (["model.tflite"], "'model.tflite' is no option; see har_run --help"),
    ],
)
def test_wrong_options(words, message):
    run = run_har("artifact", *words)
    assert run.code == 2
    assert message in run.error
    usage = run_har("artifact", "--help")
    assert (usage.code, usage.events, usage.stderr[:14]) == (0, (), "usage: har_run")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_model(artifact: Path) -> None:
    """Cuts the model with a matching hash, so that only LiteRT can refuse it."""
    cut(artifact / "model.tflite")
    change_manifest(artifact, sha256=file_sha256(artifact / "model.tflite"))


def save(artifact: Path, value: float = 0, **shapes: tuple[int, ...]) -> None:
    """Replaces arrays of a recording by a constant."""
    arrays = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
    np.savez(artifact / "golden/S0.npz", **(raw_recording(0) | arrays))


DAMAGES: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "no artifact": (shutil.rmtree, 3, "manifest.json cannot be opened; copy the complete artifact"),
    "no manifest": (lambda a: (a / "manifest.json").unlink(), 3, "manifest.json cannot be opened"),
    "a cut manifest": (lambda a: cut(a / "manifest.json"), 4, "manifest is not JSON"),
    "another format": (lambda a: change_manifest(a, format="onnx"), 4, "has the format 'onnx'; har_run reads tflite"),
    "a model elsewhere": (lambda a: change_manifest(a, model_file="../x"), 4, "names no model file of its folder"),
    "no model": (lambda a: (a / "model.tflite").unlink(), 3, "model.tflite cannot be opened"),
    "another model": (lambda a: cut(a / "model.tflite"), 4, "is not the file that the manifest describes"),
    "a damaged model": (cut_model, 4, "is no TFLite model that LiteRT reads"),
    "a cut recording": (lambda a: cut(a / "golden/S1.npz"), 4, "S1.npz: the file is no ZIP archive"),
    "scalars": (lambda a: save(a, joints=(), confidence=()), 4, "S0.npz: joints are () and confidence is ()"),
    "other joints": (lambda a: save(a, joints=(4, 1, 9, 3), confidence=(4, 1, 9)), 4, "S0.npz: a body has 9 joints"),
    "two channels": (lambda a: save(a, waveform=(5, 2)), 4, "waveform is (5, 2); use (samples,)"),
    "sound that is not finite": (lambda a: save(a, value=np.nan, waveform=(9000,)), 4, "S0: waveform sample 0 is nan"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_artifact_is_one_line(artifact, name):
    damage, code, message = DAMAGES[name]
    damage(artifact)
    run = run_har(artifact)
    assert (run.code, run.events[-1]["event"]) == (code, "error")
    assert message in run.events[-1]["message"]
    assert [line["event"] for line in run.events[:-1]] in ([], ["start"])


def test_the_manifest_must_describe_the_model(artifact):
    inputs = json.loads((artifact / "manifest.json").read_text())["inputs"]
    change_manifest(artifact, inputs=[{**inputs[0], "dtype": "int8", "scale": 1.0}, inputs[1]])
    run = run_har(artifact)
    assert run.code == 4
    assert "the model's tensor 'skeleton' has 126976 bytes and type 1" in run.error
    change_manifest(artifact, inputs=inputs[:1])
    assert "the model has 2 inputs, which is not what the manifest says" in run_har(artifact).error


def test_the_search_for_the_library(intact, tmp_path):
    alone = shutil.copy(har_run(), tmp_path / "har_run")

    def error_of(library: str | None = None, **environment: str) -> str:
        run = run_har(intact, program=[alone], library=library, environment=environment)
        assert run.code == (3 if run.events[-1]["event"] == "error" else 0)
        return run.error if run.code else ""

    missing = error_of()
    assert missing.startswith("LiteRT's library cannot be loaded: libLiteRt.so: cannot open shared object file")
    assert missing.endswith("put it beside har_run or name it with --library")
    assert error_of(LD_LIBRARY_PATH=str(litert().parent)) == error_of(HAR_LITERT_LIBRARY=str(litert())) == ""
    # A named library has no fallback.
    shutil.copy(litert(), tmp_path / "libLiteRt.so")
    assert error_of() == ""
    assert "/nowhere.so: cannot open shared object file" in error_of("/nowhere.so")
    assert "./libm.so.6: cannot open shared object file" in error_of(HAR_LITERT_LIBRARY="libm.so.6")
    (tmp_path / "libLiteRt.so").write_text("no library")
    assert "cannot be loaded" in error_of()


def test_a_library_that_lacks_functions_is_one_line(intact, tmp_path):
    source, library = tmp_path / "empty.c", tmp_path / "libLiteRt.so"
    source.write_text("int LiteRtCreateEnvironment(void) { return 0; }")
    run_program(["g++", "-x", "c", "-shared", "-fPIC", "-o", library, source])
    run = run_har(intact, library=library)
    assert run.code == 3
    assert "libLiteRt.so has no function LiteRtDestroyEnvironment; take libLiteRt.so 2.1.3 or newer" in run.error


@pytest.mark.parametrize("accelerator", ["gpu", "npu"])
def test_a_missing_accelerator_is_an_error(intact, tmp_path, accelerator):
    """LiteRT itself would use the CPU."""
    library = shutil.copy(litert(), tmp_path / "libLiteRt.so")  # without the accelerators beside it
    run = run_har(intact, "--accelerator", accelerator, library=library)
    assert run.code in (3, 4)
    message = run.events[-1]["message"]
    assert f"this LiteRT has no accelerator '{accelerator}'" in message or f"{accelerator} was asked for" in message


@pytest.mark.toolchains
def test_on_arm_a_missing_library_is_one_line(intact):
    emulated = build_for_arm("har_run")
    run = run_har(intact, program=emulated, library=None)
    assert run.code == 3
    assert run.error.startswith("LiteRT's library cannot be loaded: libLiteRt.so: cannot open shared object file")
    assert run_har(intact, program=emulated).code == 3  # this machine's library is for another processor
    assert run_har(intact, "--threads", "0", program=emulated, library=None).code == 2

"""The checkpoint that ships: the README's first command, the accuracy of its streams, its files in the native runner.

The accuracy gate of `make gate` compares float and INT8 on 1,000 recordings.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from kit.adb_device import AdbDevice
from kit.android_fixtures import SHORT, adb_server, connect, left_on, needs_adb  # noqa: F401
from kit.har_program import har_run, litert, run_har
from kit.native import INT8, Har, library

from android_bench.__main__ import main as bench_main
from export.__main__ import main as export_main
from model.__main__ import main as model_main
from model.checkpoint import DEMO_CHECKPOINT, load_checkpoint
from pocket_har.api import DEMO
from recordings.batches import Batch
from recordings.catalogue import scan
from recordings.reading import read_recording
from recordings.synthetic.generate import HELD_OUT_SEED, cached_recordings
from runtime.answers import ask, one_by_one
from runtime.artifact import Artifact, require_same_question
from runtime.manifest import read_artifact
from runtime.runners import open_model

pytestmark = pytest.mark.slow
RECORDINGS = 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The artifact of `python -m export tflite --int8`, verified on fewer recordings."""
    folder = tmp_path_factory.mktemp("demo") / "artifact"
    assert export_main(["tflite", "--int8", "--recordings", str(RECORDINGS), "--out", str(folder)]) in (0, 1)
    return folder


@pytest.fixture(scope="module")
def manifest(folder):
    return read_artifact(folder)[0]


def _batch(ref, spec) -> Batch:
    tensors = read_recording(ref, sample_rate_hz=spec.audio.sample_rate_hz).tensors(spec)
    return Batch(tensors["skeleton"], tensors["audio"], np.zeros(1, np.int32), (ref.name,))


def accuracy_of(capsys, folder, *words: str) -> float:
    capsys.readouterr()
    assert model_main(["evaluate", "--data", str(folder), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)["accuracy"]


def test_checkpoint_is_small_and_says_how_it_was_made():
    assert DEMO_CHECKPOINT.stat().st_size <= 5_000_000
    checkpoint = load_checkpoint(DEMO_CHECKPOINT)
    assert checkpoint.config.preset == "nano"
    assert checkpoint.history["command"].startswith("python -m model train")


def test_int8_answers_as_float_does_in_every_runtime(manifest):
    verification = manifest.verification
    assert verification["recordings"] == RECORDINGS
    assert set(verification["runtimes"]) == {"litert", "tflite-runtime"}
    for result in verification["runtimes"].values():
        assert abs(result["drop_points"]) <= 100 * 3 / RECORDINGS
        assert result["agreement"] >= 0.97
    assert verification["between_runtimes"]["tflite-runtime"]["agreement"] >= 0.98


def test_the_artifact_that_ships_is_the_one_that_is_exported(folder, recordings_folder):
    shipped, exported = Artifact.open(DEMO), Artifact.open(folder)
    require_same_question(shipped, exported)
    assert shipped.manifest.verification["verified"]
    assert shipped.manifest.verification["recordings"] >= 1000
    models = {artifact.path: one_by_one(artifact.load()) for artifact in (shipped, exported)}
    spec = shipped.manifest.spec
    refs = scan(recordings_folder).refs
    batches = (_batch(ref, spec) for ref in refs)
    answers = ask(models, batches, title="comparing", recordings=len(refs))
    # Equal files on machines whose float kernels are equal; ranges differ in the last digits on others.
    assert answers.snr_db(*models) >= 30


def test_fusion_is_neither_saturated_nor_useless(manifest, capsys):
    fused = manifest.verification["float"]["accuracy"]
    assert 0.88 <= fused <= 0.99
    folder = cached_recordings(RECORDINGS, seed=HELD_OUT_SEED, workers=2)
    assert accuracy_of(capsys, folder, "--stream", "visual") <= fused - 0.05
    assert accuracy_of(capsys, folder, "--stream", "audio") <= fused - 0.05


def test_recogniser_survives_the_loss_of_a_sensor(capsys, recordings_folder):
    """Better than chance by far: one of sixteen classes is 6 %."""
    assert accuracy_of(capsys, recordings_folder, "--drop", "audio") > 0.3
    assert accuracy_of(capsys, recordings_folder, "--drop", "skeleton") > 0.3


# --- in the native runner


def logits_of(artifact, recordings_folder):
    """Logits of har_run, of LiteRT in Python, and of LiteRT on the tensors of the C++ library, by recording."""
    manifest, model = read_artifact(artifact)
    python, native = open_model(model, "litert"), Har(library(), (artifact / "manifest.json").read_bytes())
    kind = {"type": INT8} if manifest.inputs[0].dtype == "int8" else {}
    expected, exact = {}, {}
    for ref in scan(recordings_folder).refs:
        raw = read_recording(ref, sample_rate_hz=manifest.spec.audio.sample_rate_hz)
        arrays = {"joints": raw.joints, "confidence": raw.confidence, "waveform": raw.waveform}
        name = f"another-{ref.name}"  # golden recordings may have the same names
        np.savez(artifact / "golden" / f"{name}.npz", **arrays)
        expected[name] = python(raw.tensors(manifest.spec))
        heatmaps = native.heatmaps(raw.joints, raw.confidence, **kind)
        exact[name] = python({"skeleton": heatmaps[None], "audio": native.logmel(raw.waveform, **kind)[None]})
    return {name: np.float32(logits) for name, logits in run_har(artifact).logits.items()}, expected, exact


def test_har_run_answers_as_python_does_in_int8(folder, tmp_path, recordings_folder):
    manifest = read_artifact(folder)[0]
    logits, expected, exact = logits_of(shutil.copytree(folder, tmp_path / "artifact"), recordings_folder)
    assert len(expected) == 64
    assert len(logits) == 64 + len(manifest.golden)
    for file in manifest.golden:
        with np.load(folder / file) as golden:
            np.testing.assert_array_equal(logits[Path(file).stem], golden["logits"])
    # Equal from the same tensors; from the same recordings, some inputs round to another integer.
    for name in expected:
        np.testing.assert_array_equal(logits[name], exact[name])
        assert logits[name].argmax() == expected[name].argmax()
    others = [name for name in expected if (logits[name] != expected[name]).any()]
    assert len(others) <= 6  # measured: 3
    assert max(np.abs(logits[name] - expected[name]).max() for name in expected) <= 3.5 * manifest.outputs[0].scale


def test_har_run_answers_as_python_does_in_float(tmp_path, recordings_folder):
    artifact = tmp_path / "artifact"
    words = ["--recordings", "8", "--data", str(recordings_folder), "--out", str(artifact)]
    assert export_main(["tflite", *words]) == 0
    logits, expected, exact = logits_of(artifact, recordings_folder)
    for name in expected:
        np.testing.assert_array_equal(logits[name], exact[name])
        np.testing.assert_allclose(logits[name], expected[name], rtol=0, atol=1e-4)  # measured: 5e-6


def assert_measured(document, manifest) -> None:
    (measurement,) = document["measurements"]
    assert measurement["subject"]["sha256"] == manifest.sha256
    assert measurement["subject"]["runtime"] == "har_run/litert"
    assert measurement["subject"]["runtime_version"].startswith("2.")
    assert len(measurement["preprocessing"]["samples_ms"]) == len(measurement["inference"]["samples_ms"]) >= 40
    assert measurement["conditions"]["answers"].startswith(
        f"{len(manifest.golden)} of {len(manifest.golden)} classes as on"
    )
    assert measurement["device_run"]["reasons_against"] == []
    assert 0.8 < measurement["device_run"]["delegated_ops"] / measurement["device_run"]["total_ops"] < 1
    assert 1e6 < measurement["memory"]["peak_bytes"] < 100e6


def test_android_bench_measures_the_demo_here(folder, manifest, capsys, monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", SHORT)
    monkeypatch.setattr("android_bench.tools.binaries.build_har_run", lambda architecture, *, android: har_run())
    words = ["run", "--target", "local://", "--artifact", str(folder), "--threads", "1", "--json"]
    capsys.readouterr()
    assert bench_main(words) == 0
    assert_measured(json.loads(capsys.readouterr().out), manifest)


@needs_adb
def test_android_bench_measures_the_demo_over_adb(folder, manifest, connect, tmp_path, capsys, monkeypatch):  # noqa: F811
    """With the real adb, program, library and model, and a simulated phone."""
    monkeypatch.setattr("android_bench.run.QUICK", SHORT)
    phone: AdbDevice = connect()
    tools = tmp_path / "tools"
    tools.mkdir()
    for source in (har_run(), litert()):
        shutil.copy(source, tools)
    words = ["run", "--target", f"adb://{phone.serial}", "--artifact", str(folder), "--tool-path", str(tools)]
    capsys.readouterr()
    assert bench_main([*words, "--threads", "1", "--json"]) == 0
    assert_measured(json.loads(capsys.readouterr().out), manifest)
    assert "libLiteRt.so.part" in {name.rsplit("/", 1)[1] for name in phone.pushed}
    assert left_on(phone) == []

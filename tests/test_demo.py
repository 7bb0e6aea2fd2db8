"""The checkpoint that ships, as a newcomer meets it: the README's first command, what the README says of it, and its
files in the native runner.
"""

from __future__ import annotations

import json
import shutil

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
from recordings.catalogue import scan
from recordings.reading import read_recording
from recordings.synthetic.generate import HELD_OUT_SEED, cached_recordings
from runtime.manifest import read_artifact
from runtime.runners import open_model

pytestmark = pytest.mark.slow
RECORDINGS = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The artefact of `python -m export tflite --int8`."""
    folder = tmp_path_factory.mktemp("demo") / "artifact"
    assert export_main(["tflite", "--int8", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def manifest(folder):
    return read_artifact(folder)[0]


def accuracy_of(capsys, folder, *words: str) -> float:
    capsys.readouterr()
    assert model_main(["evaluate", "--data", str(folder), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)["accuracy"]


def test_checkpoint_is_small_and_says_how_it_was_made():
    assert DEMO_CHECKPOINT.stat().st_size <= 5_000_000
    checkpoint = load_checkpoint(DEMO_CHECKPOINT)
    assert checkpoint.config.preset == "nano"
    assert checkpoint.history["command"].startswith("python -m model train")


def test_int8_holds_the_accuracy_of_float(manifest):
    found = manifest.verification
    assert found["recordings"] >= 1000
    assert set(found["runtimes"]) == {"litert", "tflite-runtime"}
    for result in found["runtimes"].values():
        assert result["drop_points"] <= 1.0
        assert result["agreement"] >= 0.97
    assert found["between_runtimes"]["tflite-runtime"]["agreement"] >= 0.99


def test_fusion_is_neither_saturated_nor_useless(manifest, capsys):
    fused = manifest.verification["float"]["accuracy"]
    assert 0.88 <= fused <= 0.97
    folder = cached_recordings(RECORDINGS, seed=HELD_OUT_SEED, workers=2)
    assert accuracy_of(capsys, folder, "--stream", "visual") <= fused - 0.05
    assert accuracy_of(capsys, folder, "--stream", "audio") <= fused - 0.05


def test_recogniser_survives_the_loss_of_a_sensor(capsys, recordings_folder):
    """Better than chance by far: one of sixteen classes is 6 %."""
    assert accuracy_of(capsys, recordings_folder, "--drop", "audio") > 0.3
    assert accuracy_of(capsys, recordings_folder, "--drop", "skeleton") > 0.3


# --- in the native runner


def answers(artifact, recordings_folder):
    """Of har_run, of LiteRT in Python, and of LiteRT in Python on the tensors of the C++ library, by recording."""
    manifest, model = read_artifact(artifact)
    python, native = open_model(model, "litert"), Har(library(), (artifact / "manifest.json").read_bytes())
    kind = {"type": INT8} if manifest.inputs[0].dtype == "int8" else {}
    expected, exact = {}, {}
    for ref in scan(recordings_folder).refs:
        raw = read_recording(ref, sample_rate_hz=manifest.spec.audio.sample_rate_hz)
        arrays = {"joints": raw.joints, "confidence": raw.confidence, "waveform": raw.waveform}
        name = f"own-{ref.name}"  # golden recordings may have the same names
        np.savez(artifact / "golden" / f"{name}.npz", **arrays)
        expected[name] = python(raw.tensors(manifest.spec))
        heatmaps = native.heatmaps(raw.joints, raw.confidence, **kind)
        exact[name] = python({"skeleton": heatmaps[None], "audio": native.logmel(raw.waveform, **kind)[None]})
    return {key: np.float32(own) for key, own in run_har(artifact).logits.items()}, expected, exact


def test_har_run_answers_as_python_does_in_int8(folder, tmp_path, recordings_folder):
    manifest = read_artifact(folder)[0]
    found, expected, exact = answers(shutil.copytree(folder, tmp_path / "artifact"), recordings_folder)
    assert len(expected) == 64
    assert len(found) == 64 + len(manifest.golden)
    for own in manifest.golden:
        with np.load(folder / own) as golden:
            np.testing.assert_array_equal(found[own.removeprefix("golden/").removesuffix(".npz")], golden["logits"])
    # From the same tensors there is no difference; from the same recordings only what rounds to another integer there.
    for name in expected:
        np.testing.assert_array_equal(found[name], exact[name])
        assert found[name].argmax() == expected[name].argmax()
    others = [name for name in expected if (found[name] != expected[name]).any()]
    assert len(others) <= 6  # 3 were seen
    assert max(np.abs(found[name] - expected[name]).max() for name in expected) <= 3.5 * manifest.outputs[0].scale


def test_har_run_answers_as_python_does_in_float(tmp_path, recordings_folder):
    artifact = tmp_path / "artifact"
    words = ["--recordings", "8", "--data", str(recordings_folder), "--out", str(artifact)]
    assert export_main(["tflite", *words]) == 0
    found, expected, exact = answers(artifact, recordings_folder)
    for name in expected:
        np.testing.assert_array_equal(found[name], exact[name])
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-4)  # 5e-6 was seen


def assert_measured(document, manifest) -> None:
    (own,) = document["measurements"]
    assert own["subject"]["sha256"] == manifest.sha256
    assert own["subject"]["runtime"] == "har_run/litert"
    assert own["conditions"]["answers"].startswith(f"{len(manifest.golden)} of {len(manifest.golden)} classes as on")
    assert own["device_run"]["reasons_against"] == []
    assert 0.8 < own["device_run"]["delegated_ops"] / own["device_run"]["total_ops"] < 1
    assert own["preprocessing"]["samples_ms"]
    assert 1e6 < own["memory"]["peak_bytes"] < 100e6


def test_android_bench_measures_the_demo_here(folder, manifest, capsys, monkeypatch):
    monkeypatch.setattr("android_bench.run.QUICK", SHORT)
    monkeypatch.setattr("android_bench.tools.binaries.build_har_run", lambda architecture, *, android: har_run())
    words = ["run", "--target", "local://", "--artifact", str(folder), "--threads", "1", "--json"]
    capsys.readouterr()
    assert bench_main(words) == 0
    assert_measured(json.loads(capsys.readouterr().out), manifest)


@needs_adb
def test_android_bench_measures_the_demo_over_adb(folder, manifest, connect, tmp_path, capsys, monkeypatch):  # noqa: F811
    """The real adb, program, library and model; only the phone is played."""
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

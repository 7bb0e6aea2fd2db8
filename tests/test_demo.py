"""The checkpoint that ships, as a newcomer meets it: the README's first command, and what the README says of it."""

from __future__ import annotations

import json

import pytest

from export.__main__ import main as export_main
from model.__main__ import main as model_main
from model.checkpoint import DEMO_CHECKPOINT, load_checkpoint
from recordings.synthetic.cached import HELD_OUT_SEED, cached_recordings
from runtime.manifest import read_artifact

pytestmark = pytest.mark.slow
RECORDINGS = 1000


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """The artefact of `python -m export tflite --int8`."""
    folder = tmp_path_factory.mktemp("demo") / "artifact"
    assert export_main(["tflite", "--int8", "--out", str(folder)]) == 0
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

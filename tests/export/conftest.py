"""A tiny checkpoint and its artifacts, exported by the command once a test run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kit.once import make_once
from kit.tiny import tiny_config, tiny_spec

from model.checkpoint import RANDOM, Checkpoint, save_checkpoint
from model.config import labels_of
from model.recogniser import build_recogniser
from recordings.catalogue import scan

KINDS = {
    "tflite-float32": ["tflite"],
    "tflite-int8": ["tflite", "--int8"],
    "onnx-float32": ["onnx"],
    "onnx-int8": ["onnx", "--int8"],
}


@pytest.fixture(scope="session")
def tiny_recogniser(recordings_folder):
    """Untrained, with layer norm, for the classes of the recordings."""
    config = tiny_config(labels=labels_of(scan(recordings_folder).refs), spec=tiny_spec(side=64, bands=64, frames=192))
    return build_recogniser(replace(config, preset="nano"))


@pytest.fixture(scope="session")
def tiny_options(tiny_recogniser, recordings_folder, tmp_path_factory):
    """Options of an export of `tiny_recogniser`."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.npz"
    save_checkpoint(path, Checkpoint(tiny_recogniser.config, tiny_recogniser.weights(), {RANDOM: True}))
    return ["--checkpoint", str(path), "--data", str(recordings_folder), "--calibration", "16", "--recordings", "24"]


@pytest.fixture(scope="session")
def artifacts(tiny_options, shared_folder):
    """Folders by kind."""
    from export.__main__ import main

    def export(words):
        def make(folder):
            assert main([*words, *tiny_options, "--out", str(folder)]) == 0

        return make

    return {kind: make_once(shared_folder / f"tiny-{kind}", export(words)) for kind, words in KINDS.items()}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param

"""The Python interface, `pocket-har recognise`, and the console command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from kit.fakes import SYNTHETIC_LABELS
from kit.tiny_artifact import CLASSES, SPEC, expected_logits, write_artifact, write_onnx

import pocket_har
from console.program import run_program
from pocket_har.__main__ import PROGRAMS, build_parser
from preprocess.errors import DataError, UsageError


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    write_onnx(folder / "model.onnx")
    return write_artifact(folder, "model.onnx")


@pytest.fixture(scope="module")
def files(recordings_folder, tmp_path_factory):
    """Skeleton files of four recordings, with their WAV files beside them."""
    folder = tmp_path_factory.mktemp("files")
    skeletons = sorted(recordings_folder.rglob("*.skeleton"))[:4]
    for skeleton in skeletons:
        shutil.copy(skeleton, folder)
        shutil.copy(next(recordings_folder.rglob(f"{skeleton.stem}.wav")), folder)
    return [folder / skeleton.name for skeleton in skeletons]


def test_probabilities_are_the_softmax_of_the_logits(artifact, files):
    model = pocket_har.open(artifact)
    recording = pocket_har.read(files[0], sample_rate_hz=SPEC.audio.sample_rate_hz)
    predictions = model.predict(recording)
    raw = {name: getattr(recording, name) for name in ("joints", "confidence", "waveform")}
    powers = np.exp(expected_logits(raw).astype(np.float64))
    expected = dict(zip(model.labels, powers / powers.sum(), strict=True))
    assert dict(predictions) == pytest.approx(expected, rel=1e-3)
    ranked = [prediction.probability for prediction in predictions]
    assert ranked == sorted(ranked, reverse=True)
    assert len(predictions) == CLASSES


def test_a_recording_without_sound_gets_silence(artifact, files, tmp_path):
    alone = tmp_path / files[0].name
    shutil.copy(files[0], alone)
    model = pocket_har.open(artifact)
    recording = pocket_har.read(alone, sample_rate_hz=SPEC.audio.sample_rate_hz)
    assert recording.waveform.size == 0
    raw = {"joints": recording.joints, "confidence": recording.confidence, "waveform": np.zeros(SPEC.audio.samples)}
    assert model.labels.index(model.predict(recording)[0].label) == expected_logits(raw).argmax()


def test_the_demo_that_ships_knows_synthetic_people(files):
    model = pocket_har.open()
    assert model.labels == tuple(label.name for label in SYNTHETIC_LABELS)
    best = [model.predict(pocket_har.read(file))[0].label for file in files]
    truth = [model.labels[[label.code for label in SYNTHETIC_LABELS].index(file.stem[-4:])] for file in files]
    assert sum(a == b for a, b in zip(best, truth, strict=True)) >= 3


def test_errors_name_the_folder_and_the_file(artifact, tmp_path):
    with pytest.raises(DataError, match="has no manifest"):
        pocket_har.open(tmp_path)
    with pytest.raises(UsageError, match="cannot run"):
        pocket_har.open(artifact, runtime="litert")
    with pytest.raises(DataError, match=r"missing\.skeleton"):
        pocket_har.read(tmp_path / "missing.skeleton")


def recognise(*words):
    return run_program(build_parser(), ["recognise", *map(str, words)])


def test_recognise_prints_five_labels_of_each_recording(files, capsys):
    assert recognise(*files[:2]) == 0
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert [table.split()[0] for table in tables] == [file.name for file in files[:2]]
    assert all(len(table.splitlines()) == 2 + 5 for table in tables)
    assert recognise("--json", *files[:2]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["recording"] for entry in document] == [str(file) for file in files[:2]]
    first = pocket_har.open().predict(pocket_har.read(files[0]))[:5]
    assert document[0]["predictions"] == [prediction._asdict() for prediction in first]


def test_recognise_takes_sound_from_another_folder_and_warns_without(files, tmp_path, capsys):
    alone, sounds = tmp_path / files[0].name, tmp_path / "sounds"
    shutil.copy(files[0], alone)
    sounds.mkdir()
    wav = shutil.copy(files[0].with_suffix(".wav"), sounds)
    answers = []
    for words in ([files[0], "--audio", wav], [alone, "--audio", sounds], [alone]):
        assert recognise("--json", *words) == 0
        out, err = capsys.readouterr()
        answers.append(json.loads(out)[0]["predictions"])
        assert ("has no sound; the model gets silence" in err) == (len(words) == 1)
    assert answers[0] == answers[1] != answers[2]
    assert recognise(files[1], "--audio", sounds) == 4
    assert "does not exist" in capsys.readouterr().err


def test_the_console_command_runs_every_program(tmp_path):
    script = shutil.which("pocket-har")
    command = [script] if script else [sys.executable, "-m", "pocket_har"]
    text = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert all(name in text for name in ("recognise", *PROGRAMS))
    for name in PROGRAMS:
        run = subprocess.run([*command, name], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert run.stdout.startswith(f"usage: {'pocket-har' if script else 'python -m'} {name} ")


def test_tensorflow_is_not_loaded(files):
    code = f"""
import sys, pocket_har
pocket_har.open().predict(pocket_har.read({str(files[0])!r}))
assert not {{"tensorflow", "tf_keras", "librosa", "onnx"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""`python -m model`: train, also killed and resumed, evaluate, init, and the errors of all."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shutil

import numpy as np
import pytest
from kit.tiny import THREE_LABELS, tiny_config

from model.__main__ import main
from model.checkpoint import RANDOM, Checkpoint, load_checkpoint, save_checkpoint
from model.config import labels_of
from model.trainer import Stage
from preprocess.errors import DataError
from recordings.catalogue import scan

STAGES = {"visual": 2, "audio": 1, "fusion": 3}  # with their epochs
SETTINGS = """
visual = {epochs = 2, batch_size = 8, learning_rate = 1e-2}
audio = {epochs = 1, batch_size = 8, learning_rate = 1e-2}
fusion = {epochs = 1, batch_size = 8, learning_rate = 1e-2, modality_dropout = 0.3}
audio_augmentation = {pitch_semitones = 0, stretch = 0}  # the slowest part, which tests/recordings cover
"""


@pytest.fixture(scope="module")
def train(recordings_folder, tmp_path_factory):
    """Words of a training of a tiny network."""
    recipe = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    recipe.write_text(SETTINGS)

    def words(out, *more):
        data = ("--data", recordings_folder, "--protocol", "60/20/20", "--seed", "2")
        settings = ("--settings", recipe, "--set", "fusion.epochs=3")
        return [os.fspath(word) for word in ("train", "--out", out, *data, *settings, "--workers", "0", *more)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.train.preset_config", lambda name, labels, **options: tiny_config(labels=labels))
        yield words


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """The checkpoint of a training by the command."""
    out, shown = tmp_path_factory.mktemp("command") / "run", io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(train(out)) == 0
    lines = shown.getvalue().splitlines()
    assert [line.split()[0] for line in lines[2:5]] == list(STAGES)
    assert lines[-1] == f"checkpoint: {out / 'checkpoint.npz'}"
    return out / "checkpoint.npz"


def test_the_history_says_how_to_make_the_checkpoint_again(trained):
    checkpoint = load_checkpoint(trained)
    history = checkpoint.history
    assert history["command"] == (
        "python -m model train --data DIR --protocol 60/20/20 --seed 2 --settings tiny.toml --set fusion.epochs=3"
    )
    assert history["settings"]["visual"]["batch_size"] == 8
    assert history["settings"]["fusion"]["modality_dropout"] == 0.3
    assert history["recordings"] == {"train": 32, "validation": 16}
    for name, epochs in STAGES.items():
        stage = history["stages"][name]
        assert [entry["epoch"] for entry in stage["epochs"]] == list(range(1, epochs + 1))
        losses = [entry["validation_loss"] for entry in stage["epochs"]]
        assert stage["best_epoch"] == losses.index(min(losses)) + 1
        assert all(math.isfinite(value) for entry in stage["epochs"] for value in entry.values())
    # Sound is standardised with the training set's statistics.
    assert checkpoint.config.spec.audio.mean != tiny_config().spec.audio.mean
    assert checkpoint.config.spec.audio.std != tiny_config().spec.audio.std


def test_fusion_leaves_both_backbones_as_their_stages_left_them(trained):
    """To the bit, moving statistics included."""
    weights = load_checkpoint(trained).weights
    compared = set()
    for name in STAGES:
        with np.load(trained.parent / f"{name}.state.npz") as state:
            best = {key.removeprefix("best/"): state[key] for key in state.files if key.startswith("best/")}
        for key, value in best.items():
            assert weights[key].tobytes() == value.tobytes(), key
        compared |= best.keys()
    assert compared == weights.keys()
    assert any("moving_mean" in key for key in compared)


@pytest.mark.slow
def test_interrupted_and_resumed_a_run_ends_with_the_same_weights(train, trained, tmp_path, capsys, monkeypatch):
    """In the last stage, with dropout, lost inputs and moments of the optimizer, after its first epoch."""
    out, step = tmp_path / "run", Stage.step

    def interrupted(stage, batch, epoch, number):
        if (stage.name, epoch, number) == ("fusion", 1, 2):
            raise KeyboardInterrupt
        return step(stage, batch, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "step", interrupted)
        assert main(train(out)) == 130
    assert not (out / "checkpoint.npz").exists()
    assert main(train(out, "--resume")) == 0
    err = capsys.readouterr().err
    assert "visual: resumed after epoch 2" in err
    assert "fusion: resumed after epoch 1" in err
    resumed, expected = load_checkpoint(out / "checkpoint.npz"), load_checkpoint(trained)
    assert (resumed.config, resumed.history) == (expected.config, expected.history)
    assert resumed.weights.keys() == expected.weights.keys()
    for name, value in expected.weights.items():
        assert resumed.weights[name].tobytes() == value.tobytes(), name


def test_a_finished_run_is_shown_again_with_resume(train, trained, capsys):
    before = load_checkpoint(trained)
    assert main(train(trained.parent, "--resume", "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"checkpoint": str(trained), **before.history}
    assert "fusion: resumed after epoch 3" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((), "holds a training run; continue it with --resume or choose another --out"),
        (("--resume", "--set", "visual.epochs=4"), "holds a run with other options or recordings"),
        (("--resume", "--protocol", "60/20/20-subject"), "holds a run with other options or recordings"),
        (("--resume", "--init", "CHECKPOINT"), "holds a run with other options or recordings"),
    ],
    ids=["no --resume", "settings", "recordings", "initial"],
)
def test_an_existing_run_is_refused(train, trained, change, message, capsys):
    before = trained.read_bytes()
    words = [str(trained) if word == "CHECKPOINT" else word for word in change]
    assert main(train(trained.parent, *words)) == 2
    assert message in capsys.readouterr().err
    assert trained.read_bytes() == before


def test_a_damaged_run_is_bad_data(train, tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"plan": ')
    assert main(train(tmp_path, "--resume")) == 4
    assert re.search(r"run\.json is damaged: .*; start again with another --out", capsys.readouterr().err)


def test_a_loss_that_diverges_ends_with_1(train, tmp_path, capsys):
    assert main(train(tmp_path / "run", "--set", "visual.learning_rate=1e30")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert re.match(r"no: the loss became (nan|inf) in stage visual, epoch [12], (step \d+|validation); ", last)
    assert "--set visual.learning_rate=3e+29" in last
    assert not (tmp_path / "run/checkpoint.npz").exists()


def test_classes_come_from_the_recordings(recordings_folder):
    refs = scan(recordings_folder).refs
    assert [label.code for label in labels_of(refs)] == sorted({f"A{ref.action:03d}" for ref in refs})
    with pytest.raises(DataError, match=r"the recordings hold 1 class .*; training needs at least two"):
        labels_of([ref for ref in refs if ref.action == refs[0].action])


@pytest.fixture
def evaluate(trained, recordings_folder):
    def words(*more, data=recordings_folder):
        return ["evaluate", "--data", str(data), "--checkpoint", str(trained), "--workers", "0", *more]

    return words


def test_evaluate_writes_the_document_that_it_prints(evaluate, tmp_path, capsys):
    assert main(evaluate("--protocol", "60/20/20", "--seed", "2", "--out", str(tmp_path / "e"), "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "e/evaluation.json").read_text())
    assert document["count"] == 16
    assert document["correct"] == sum(document["confusion"][i][i] for i in range(16))
    assert (document["stream"], document["drop"], document["skipped"]) == ("fused", None, {})
    assert (tmp_path / "e/confusion.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["confusion.png", "evaluation.json"]


def test_evaluate_shows_a_table(evaluate, capsys):
    assert main(evaluate("--drop", "audio")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("A0")]) == 16
    assert re.match(r"fused without audio: .* over 64 recordings$", lines[-1])


def test_a_bad_recording_ends_the_evaluation_or_is_skipped(evaluate, recordings_folder, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(recordings_folder, data)
    broken = sorted((data / "audio").iterdir())[3]
    broken.write_bytes(b"no sound")
    assert main(evaluate("--json", "--stream", "audio", data=data)) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert broken.stem in err
    assert main(evaluate("--json", "--stream", "audio", "--on-error", "skip", data=data)) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["stream"], document["count"]) == ("audio", 63)
    assert list(document["skipped"]) == [broken.stem]


def test_init_writes_an_untrained_checkpoint(tmp_path, capsys):
    out = tmp_path / "random.npz"
    assert main(["init", "--out", str(out), "--preset", "nano", "--visual-depth", "18", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    checkpoint = load_checkpoint(out)
    assert document["checkpoint"] == str(out)
    assert checkpoint.history == {RANDOM: True}
    assert (checkpoint.config.visual.name, checkpoint.config.classes) == ("ResNet-18", 60)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("train --data DATA", 2, "the following arguments are required: --out"),
        ("train --data DATA --out OUT --preset micro", 2, "invalid choice: 'micro'"),
        ("train --data DATA --out OUT --set visual.epochs=many", 2, "'many' is no int"),
        ("train --data DATA --out OUT --settings MISSING", 4, "missing does not exist"),
        ("train --data DATA --out OUT --protocol 80/20", 2, "protocol '80/20' does not exist"),
        ("train --data MISSING --out OUT", 4, "missing"),
        ("train --data DATA --out OUT --init MISSING", 4, "checkpoint .* does not exist"),
        ("train --data DATA --out OUT --preset nano --init imagenet", 2, "--init imagenet fits ResNet-50 and ConvNeXt"),
        ("evaluate --data DATA --checkpoint MISSING", 4, "checkpoint .* does not exist; train one"),
        ("evaluate --data DATA --stream visual --drop audio", 2, "--drop audio needs --stream fused"),
        ("evaluate --data DATA --drop both", 2, "invalid choice: 'both'"),
        ("evaluate --data DATA --checkpoint TINY", 4, "not a class of the model"),
        ("init --out OUT", 2, "out; a checkpoint ends in .npz"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(recordings_folder, tmp_path, capsys, arguments, code, message):
    tiny = tmp_path / "tiny.npz"
    if "TINY" in arguments:
        save_checkpoint(tiny, Checkpoint(tiny_config(labels=THREE_LABELS), {}, {}))
    places = {"DATA": recordings_folder, "OUT": tmp_path / "out", "MISSING": tmp_path / "missing", "TINY": tiny}
    assert main([os.fspath(places.get(word, word)) for word in arguments.split()]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()

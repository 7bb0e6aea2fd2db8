"""`python -m model`: train, evaluate, and the errors of both."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kit.tiny import THREE_LABELS, tiny_config

from model.__main__ import main
from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.recogniser import build_recogniser

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    *("--protocol", "60/20/20", "--workers", "0", "--seed", "2"),
    *(f"--set={stage}.{value}" for stage in ("visual", "audio", "fusion") for value in ("epochs=1", "batch_size=16")),
]


@pytest.fixture(scope="module")
def trained(recordings_folder, tmp_path_factory):
    """A tiny network trained by the command, and what the command printed with --json."""
    out = tmp_path_factory.mktemp("command") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.commands.preset_config", lambda name, labels, **options: tiny_config(labels=labels))
        assert main(["train", "--data", str(recordings_folder), "--out", str(out), *QUICK]) == 0
    return out / "checkpoint.npz"


def test_train_writes_a_checkpoint_that_tells_how_to_make_it_again(trained):
    history = load_checkpoint(trained).history
    assert history["command"] == (
        "python -m model train --data DIR --out DIR --preset paper --protocol 60/20/20 --seed 2 "
        "--set visual.epochs=1 --set visual.batch_size=16 --set audio.epochs=1 --set audio.batch_size=16 "
        "--set fusion.epochs=1 --set fusion.batch_size=16"
    )
    assert list(history["stages"]) == ["visual", "audio", "fusion"]


def test_a_finished_run_is_shown_again_with_resume(trained, recordings_folder, monkeypatch, capsys):
    monkeypatch.setattr("model.commands.preset_config", lambda name, labels, **options: tiny_config(labels=labels))
    arguments = ["train", "--data", str(recordings_folder), "--out", str(trained.parent), "--resume", *QUICK]
    before = load_checkpoint(trained)
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"checkpoint": str(trained), **before.history}
    assert "fusion: resumed after epoch 1" in err
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["visual", "audio", "fusion"]
    assert lines[-1] == f"checkpoint: {trained}"


def test_evaluate_writes_what_it_prints(trained, recordings_folder, tmp_path, capsys):
    arguments = ["evaluate", "--data", str(recordings_folder), "--checkpoint", str(trained), "--workers", "0"]
    assert main([*arguments, "--protocol", "60/20/20", "--seed", "2", "--out", str(tmp_path / "e"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "e/evaluation.json").read_text())
    assert document["count"] == 16
    assert document["correct"] == sum(document["confusion"][i][i] for i in range(16))
    assert (document["stream"], document["drop"], document["skipped"]) == ("fused", None, {})
    assert (tmp_path / "e/confusion.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["confusion.png", "evaluation.json"]


@pytest.mark.parametrize("options", [("--stream", "audio"), ("--drop", "audio")], ids=" ".join)
def test_evaluate_shows_a_table(trained, recordings_folder, capsys, options):
    arguments = ["evaluate", "--data", str(recordings_folder), "--checkpoint", str(trained), "--workers", "0"]
    assert main([*arguments, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("A0")]) == 16
    title = "audio" if options[0] == "--stream" else "fused without audio"
    assert lines[-1].startswith(f"{title}: ")
    assert lines[-1].endswith("over 64 recordings")


def test_a_bad_recording_ends_the_evaluation_or_is_skipped(trained, recordings_folder, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(recordings_folder, data)
    broken = sorted((data / "audio").iterdir())[3]
    broken.write_bytes(b"no sound")
    arguments = ["evaluate", "--data", str(data), "--checkpoint", str(trained), "--workers", "0", "--json"]
    assert main(arguments) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert broken.stem in err
    assert main([*arguments, "--on-error", "skip"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["count"] == 63
    assert list(document["skipped"]) == [broken.stem]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "DATA"], 2, "the following arguments are required: --out"),
        (["train", "--data", "DATA", "--out", "OUT", "--preset", "micro"], 2, "invalid choice: 'micro'"),
        (["train", "--data", "DATA", "--out", "OUT", "--set", "visual.epochs=many"], 2, "'many' is no int"),
        (["train", "--data", "DATA", "--out", "OUT", "--set", "visual.size=1"], 2, "visual has no field 'size'"),
        (["train", "--data", "DATA", "--out", "OUT", "--protocol", "80/20"], 2, "protocol '80/20' does not exist"),
        (["train", "--data", "MISSING", "--out", "OUT"], 4, "missing"),
        (["train", "--data", "DATA", "--out", "OUT", "--init", "MISSING"], 4, "checkpoint .* does not exist"),
        (
            ["train", "--data", "DATA", "--out", "OUT", "--preset", "nano", "--init", "imagenet"],
            2,
            "--init imagenet fits ResNet-50 and ConvNeXt-Tiny as published; use --preset paper",
        ),
        (["evaluate", "--data", "DATA", "--checkpoint", "MISSING"], 4, "checkpoint .* does not exist; train one"),
        (
            ["evaluate", "--data", "DATA", "--stream", "audio", "--drop", "audio"],
            2,
            "--drop audio needs --stream fused; the audio stream has one input",
        ),
        (["evaluate", "--data", "DATA", "--stream", "visual", "--drop", "audio"], 2, "--drop audio needs --stream"),
        (["evaluate", "--data", "DATA", "--drop", "both"], 2, "invalid choice: 'both'"),
        (["evaluate", "--data", "DATA", "--checkpoint", "TINY"], 4, "which the model does not know; its classes are"),
        (["evaluate", "--data", "DATA", "--checkpoint", "TRAINED", "--batch-size", "0"], 2, "batch_size is 0"),
        (["evaluate", "--data", "DATA", "--checkpoint", "TRAINED", "--workers", "-1"], 2, "workers is -1"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(
    trained, recordings_folder, tmp_path, capsys, arguments, code, message
):
    tiny = tmp_path / "tiny.npz"
    config = tiny_config(labels=THREE_LABELS)
    save_checkpoint(tiny, Checkpoint(config, build_recogniser(config).weights(), {}))
    places = {
        "DATA": recordings_folder,
        "OUT": tmp_path / "out",
        "MISSING": tmp_path / "missing",
        "TINY": tiny,
        "TRAINED": trained,
    }
    assert main([os.fspath(places.get(word, word)) for word in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_diverges_ends_with_1(recordings_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("model.commands.preset_config", lambda name, labels, **options: tiny_config(labels=labels))
    arguments = ["train", "--data", str(recordings_folder), "--out", str(tmp_path / "run"), *QUICK]
    assert main([*arguments, "--set", "visual.learning_rate=1e30", "--set", "visual.epochs=3"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("no: the loss became ")
    assert "try a lower rate, e.g. --set visual.learning_rate=3e+29" in last
    assert not (tmp_path / "run/checkpoint.npz").exists()


def test_the_program_runs_as_a_module(trained, recordings_folder):
    """In its own process, where native libraries are kept quiet: nothing but the result and plain progress."""
    command = [sys.executable, "-m", "model", "evaluate", "--data", recordings_folder, "--checkpoint", trained]
    run = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["count"] == 64
    assert run.stderr == ""

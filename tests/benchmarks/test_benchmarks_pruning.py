"""The pruning curve: its chain of commands, with the commands themselves exchanged, its table and its plot."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from benchmarks.measure.runner import Times
from benchmarks.studies import pruning
from benchmarks.studies.pruning import build_parser, draw, pruning_table
from preprocess.errors import UsageError

RESULT = Path(pruning.RESULT)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the benchmark with commands that only note what they are asked; where 50 % is meant, 40 % is left."""
    calls, macs = [], {"": 1000}

    def call(package, *words, fails=False):
        options = dict(zip(words[1::2], words[2::2], strict=False))
        calls.append((words[0], options))
        if words[0] == "prune":
            macs[options["--out"]] = int(0.8 * float(options["--macs"]) * macs[options.get("--checkpoint", "")])
            Path(options["--out"]).parent.mkdir(parents=True, exist_ok=True)
            Path(options["--out"]).touch()
        elif words[0] == "finetune":
            result = Path(options["--out"]) / "checkpoint.npz"
            result.parent.mkdir()
            result.touch()
            macs[str(result)] = macs[options["--checkpoint"]]
        else:
            own = macs[words[words.index("--checkpoint") + 1] if "--checkpoint" in words else ""]
            entry = {"accuracy": 0.9, "interval95": [0.88, 0.92], "agreement": 0.99, "snr_db": 25.0, "count": 50}
            return {
                "cost": {"fused": {"macs": own, "parameters": own // 2}},
                "size_bytes": own,
                "verification": {"float": {"accuracy": 0.91}, "runtimes": {"litert": entry}},
            }
        return {}

    monkeypatch.setattr(pruning, "call", call)
    monkeypatch.setattr(
        pruning,
        "time_in_turn",
        lambda files, *, rounds, seed: [Times(inference_ms=[2.0 + i] * 5) for i in range(len(files))],
    )

    def start(*words):
        calls.clear()
        out = tmp_path / "result.json"
        fixed = ["--data", "DATA", "--folder", str(tmp_path / "points"), "--out", str(out), "--json"]
        options = build_parser().parse_args([*fixed, *words])
        options.handler(options)
        return json.loads(out.read_text()), list(calls)

    return start


def test_every_point_is_pruned_from_what_the_one_before_has_left(run, tmp_path):
    document, calls = run("--shares", "0.2", "0.5", "--multiple", "4")
    prunings = [options for name, options in calls if name == "prune"]
    assert [options["--macs"] for options in prunings] == ["0.500000", "0.500000"]  # 400 of 1000 left, 200 wanted
    assert "--checkpoint" not in prunings[0]
    assert prunings[1]["--checkpoint"] == str(tmp_path / "points" / "0.5" / "run" / "checkpoint.npz")
    assert [point["exports"]["INT8"]["macs"] for point in document["points"]] == [1000, 400, 160]
    assert document["points"][2]["exports"]["INT8"]["latency"]["ratio"] == pytest.approx(7 / 3)
    assert imread(tmp_path / "result.png").ndim == 3


def test_a_killed_run_goes_on_and_other_options_are_refused(run, tmp_path):
    first, _ = run("--shares", "0.5")
    again, calls = run("--shares", "0.5")
    assert not calls
    assert again["points"] == first["points"]
    with pytest.raises(UsageError, match="holds results of other options; choose another --folder"):
        run("--shares", "0.5", "--recordings", "100")


def test_shares_are_checked(run):
    with pytest.raises(UsageError, match="use numbers between 0 and 1"):
        run("--shares", "1.5")


def test_the_table_tells_what_is_really_left(run):
    document, _ = run("--shares", "0.5")
    line = pruning_table(document).splitlines()[3]
    assert line.startswith("0.0 M (40%)")
    assert "90.0 % [88.0, 92.0]" in line
    assert line.endswith("5.00 ms, 0.60×")


def test_the_committed_result_can_be_drawn(tmp_path):
    document = json.loads(RESULT.read_text(encoding="utf-8"))
    draw(document, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[1] > 1000
    assert len(pruning_table(document).splitlines()) == 2 + len(document["points"])
    assert isinstance(build_parser(), argparse.ArgumentParser)

"""The pruning curve: its chain of commands, with the commands themselves exchanged, its table and its plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit.fakes import fake_artifact

from benchmarks.__main__ import build_parser
from benchmarks.studies import pruning
from preprocess.errors import UsageError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the study with commands that only note their words; where 50 % is meant, 40 % is left."""
    calls, macs = [], {"": 1000}

    def call(package, *words, may_answer_no=False):
        options = {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}
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
            left = macs[words[words.index("--checkpoint") + 1] if "--checkpoint" in words else ""]
            fake_artifact(Path(options["--out"]))
            entry = {"accuracy": 0.9, "interval95": [0.88, 0.92], "agreement": 0.99, "snr_db": 25.0, "count": 50}
            return {
                "cost": {"fused": {"macs": left, "parameters": left // 2}},
                "size_bytes": left,
                "verification": {"float": {"accuracy": 0.91}, "runtimes": {"litert": entry}},
            }
        return {}

    monkeypatch.setattr(pruning, "run_command", call)
    monkeypatch.setattr(
        pruning, "time_in_turn", lambda files, *, rounds, seed: [([], [2.0 + i] * 5) for i in range(len(files))]
    )

    def start(*words):
        calls.clear()
        out = tmp_path / "result.json"
        fixed = ["--data", "DATA", "--folder", str(tmp_path / "points"), "--out", str(out), "--json"]
        options = build_parser().parse_args(["pruning", *fixed, *words])
        options.handler(options)
        return json.loads(out.read_text()), list(calls)

    return start


def test_every_point_is_pruned_from_what_the_one_before_has_left(run, tmp_path):
    document, calls = run("--shares", "0.2", "0.5", "--multiple", "4", "--rounds", "20", "--on-error", "skip")
    prunings = [options for name, options in calls if name == "prune"]
    assert [options["--macs"] for options in prunings] == ["0.500000", "0.500000"]  # 400 of 1000 left, 200 wanted
    assert "--checkpoint" not in prunings[0]
    assert prunings[1]["--checkpoint"] == str(tmp_path / "points" / "0.5" / "run" / "checkpoint.npz")
    assert [point["exports"]["INT8"]["macs"] for point in document["points"]] == [1000, 400, 160]
    assert document["points"][2]["exports"]["INT8"]["latency"]["ratio"] == pytest.approx(7 / 3)
    assert (tmp_path / "result.png").is_file()
    command = "python -m benchmarks pruning --data DIR --on-error skip --shares 0.2 0.5 --multiple 4 --rounds 20"
    assert document["provenance"]["command"] == command
    trained = [options for name, options in calls if name in ("prune", "finetune")]
    assert {(options["--data"], options["--protocol"]) for options in trained} == {("DATA", "all")}


def test_a_killed_run_goes_on_and_other_options_are_refused(run, tmp_path):
    first, _ = run("--shares", "0.5")
    again, calls = run("--shares", "0.5")
    assert not calls
    assert again["points"] == first["points"]
    with pytest.raises(UsageError, match="other options; choose another --folder"):
        run("--shares", "0.5", "--recordings", "100")

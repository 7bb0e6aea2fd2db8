"""The study `npu`: the commands that it calls, and its tables."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.studies import accuracy, npu_accuracy

COMPILED = {
    "format": "onnx",
    "soc": "SM8475",
    "size_bytes": 1_430_000,
    "compiled_for": {"soc": "SM8475", "arch": 68},
    "placement": {"npu_ops": 186, "total_ops": 186, "partitions": 1},
}


def exported(recipe: str) -> dict:
    return {"artifact": "/somewhere", "recipe": recipe, "stand_in_libraries": False, "compiled": [COMPILED]}


def side(correct: int, **more) -> dict:
    return {"correct": correct, "count": 4, "accuracy": correct / 4, **more}


def compared(recipe: str) -> dict:
    return {
        "recipe": recipe,
        "cpu": side(4, agreement=1.0, snr_db=26.5),
        "hexagon": {"comparison": {"int8": side(3), "agreement": 0.75, "snr_db": 27.9}},
        "hexagon_against_cpu": {"agreement": 0.75, "snr_db": 26.54},
    }


@pytest.fixture
def called(monkeypatch):
    """The words of every command that is called; each answers as it would."""
    calls: list[tuple[str, ...]] = []

    def call(package, *words, may_answer_no=False):
        calls.append((package, *words))
        if words[0] == "npu":
            return exported(words[words.index("--recipe") + 1])
        if words[0] == "check":
            count = words.index("--backend") - words.index("--int8") - 1
            models = [compared(f"recipe{i}") for i in range(count)]
            return {"float": side(4), "soc": "SM8650", "recordings": 4, "models": models}
        return {}

    for module in (accuracy, npu_accuracy):
        monkeypatch.setattr(module, "run_command", call)
    return calls


def test_every_recipe_is_compiled_and_all_are_compared_together(called, tmp_path, capsys):
    out = tmp_path / "r.json"
    words = ["--recordings", "4", "--soc", "SM8475", "--recipe", "static_wi8_ai8", "--recipe", "static_wi8_ai16"]
    assert main(["npu", *words, "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    assert [words[1] for words in called] == ["onnx", "npu", "npu", "synthesize", "check"]
    assert all("--soc SM8475" in " ".join(words) for words in called if words[1] == "npu")
    assert " ".join(called[-1]).count("/onnx") == 2
    # The float model, the exports and the emulator see no recording that they were calibrated with.
    assert called[3][called[3].index("--seed") + 1] == "9001"
    assert document["provenance"]["command"] == (
        "python -m benchmarks npu --recipe static_wi8_ai8 --recipe static_wi8_ai16 --soc SM8475 --recordings 4"
    )
    assert "/somewhere" not in out.read_text()
    assert str(tmp_path) not in out.read_text()
    assert capsys.readouterr().out.rstrip() == npu_accuracy.npu_text(document)


def test_random_weights_are_judged_by_their_logits_alone(called, tmp_path):
    out = tmp_path / "r.json"
    assert main(["npu", "--preset", "paper", "--recordings", "4", "--out", str(out)]) == 0
    assert called[0][called[0].index("--init") :][:2] == ("--init", "random")
    document = json.loads(out.read_text())
    assert document["random_weights"]
    table = npu_accuracy.fidelity_table(document)
    assert "random weights" in table
    assert "75.0" not in table
    assert "27.9 dB" in table

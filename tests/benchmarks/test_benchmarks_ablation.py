"""Ablation: counts of every class under each condition, the table and the plots; one drawing of confusion matrices."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.fakes import FakeRunner, fake_artifact
from matplotlib.image import imread

from benchmarks.__main__ import build_parser, main
from benchmarks.studies import artifacts as artifacts_module
from benchmarks.studies.ablation import CONDITIONS, ablation_table, draw, draw_confusions, per_class
from benchmarks.studies.artifacts import answer, choose_recordings, open_artifacts
from preprocess.errors import AnswerIsNo
from runtime.metrics import wilson_interval

CASES = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 2), min_size=n, max_size=n), st.lists(st.integers(0, 2), min_size=n, max_size=n)
    )
)


@given(CASES)
def test_classes_equal_a_naive_count(case):
    truth, answers = case
    result = per_class(np.eye(3, dtype=np.float32)[answers], np.array(truth))
    assert result["correct"] == sum(a == t for a, t in zip(answers, truth, strict=True))
    for index, entry in enumerate(result["classes"]):
        own = [a for t, a in zip(truth, answers, strict=True) if t == index]
        assert result["confusion"][index] == [own.count(other) for other in range(3)]
        if not own:
            assert entry is None
            continue
        assert (entry["correct"], entry["count"]) == (own.count(index), len(own))
        assert entry["interval95"] == pytest.approx(wilson_interval(own.count(index), len(own)))


def test_a_logit_that_is_not_finite_is_a_failure():
    with pytest.raises(AnswerIsNo, match="1 of 2 logits are not finite"):
        per_class(np.array([[np.nan, 0]]), np.array([0]))


def document_of(classes=3):
    """Six recordings of the first and last class; all right, half right, none right."""
    truth = np.array([0, 0, 0, 0, classes - 1, classes - 1])
    given_answers = [truth, np.where(np.arange(6) % 2, truth, 1), np.full(6, 1)]
    return {
        "artifact": {"name": "tiny"},
        "data": "given",
        "recordings": 6,
        "labels": [{"code": f"A{n:03d}", "name": f"action {n}"} for n in range(classes)],
        "conditions": {
            name: per_class(np.eye(classes)[answers], truth)
            for name, answers in zip(CONDITIONS, given_answers, strict=True)
        },
    }


def test_the_table_leaves_classes_without_recordings_out():
    lines = ablation_table(document_of()).splitlines()
    assert lines[0] == "tiny on 6 recordings (given)"
    assert [line.split()[0] for line in lines[3:]] == ["A000", "A002", "all"]
    assert lines[3].split() == "A000 action 0 4 100.0 % 50.0 % 0.0 %".split()  # noqa: SIM905
    assert lines[5].split()[3] == "6"
    assert lines[5].endswith("0.0 % [0.0, 39.0]")


@pytest.mark.parametrize("classes", [3, 60])
def test_plots_are_written(classes, tmp_path):
    document = document_of(classes)
    draw(document, tmp_path / "a.png")
    assert min(imread(tmp_path / "a.png").shape[:2]) > 400
    paths = draw_confusions(document, tmp_path / "a.json")
    assert [path.name for path in paths] == ["a-both-inputs.png", "a-without-sound.png", "a-without-skeleton.png"]
    assert all(path.is_file() for path in paths)


def test_the_command_end_to_end(recordings_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(artifacts_module, "open_model", FakeRunner)
    folder = fake_artifact(tmp_path / "tiny")
    data = ["--data", str(recordings_folder), "--recordings", "16", "--workers", "0"]
    out = tmp_path / "results" / "a.json"
    assert main(["ablation", str(folder), *data, "--out", str(out)]) == 0
    document = json.loads(out.read_text(encoding="utf-8"))
    assert capsys.readouterr().out == ablation_table(document) + "\n"
    assert (document["schema_version"], document["benchmark"]) == (1, "ablation")
    assert str(tmp_path) not in json.dumps(document)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "a-both-inputs.png",
        "a-without-skeleton.png",
        "a-without-sound.png",
        "a.json",
        "a.png",
    ]

    opened = open_artifacts([str(folder)])
    held_out = choose_recordings(build_parser().parse_args(["ablation", str(folder), *data]), opened[0].manifest.codes)
    conditions = tuple(CONDITIONS.values())
    answers = answer(opened, held_out, conditions, seed=0, workers=0, skip_bad=False, label="test")
    for logits, entry in zip(answers.logits[0], document["conditions"].values(), strict=True):
        assert entry == per_class(logits, answers.labels)
        assert [own["count"] for own in entry["classes"]] == [1] * 16

"""Ablation: counts of every class under each condition, and the table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.studies.ablation import CONDITIONS, ablation_table, per_class
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
        chosen = [a for t, a in zip(truth, answers, strict=True) if t == index]
        assert result["confusion"][index] == [chosen.count(other) for other in range(3)]
        if not chosen:
            assert entry is None
            continue
        assert (entry["correct"], entry["count"]) == (chosen.count(index), len(chosen))
        assert entry["interval95"] == pytest.approx(wilson_interval(chosen.count(index), len(chosen)))


def test_a_logit_that_is_not_finite_is_a_failure():
    with pytest.raises(AnswerIsNo, match="1 of 2 logits are not finite"):
        per_class(np.array([[np.nan, 0]]), np.array([0]))


def document_of(classes=3):
    """Six recordings of the first and last class; all right, half right, none right."""
    truth = np.array([0, 0, 0, 0, classes - 1, classes - 1])
    answers_of = [truth, np.where(np.arange(6) % 2, truth, 1), np.full(6, 1)]
    return {
        "artifact": {"name": "tiny"},
        "data": "given",
        "recordings": 6,
        "labels": [{"code": f"A{n:03d}", "name": f"action {n}"} for n in range(classes)],
        "conditions": {
            name: per_class(np.eye(classes)[answers], truth)
            for name, answers in zip(CONDITIONS, answers_of, strict=True)
        },
    }


def test_the_table_leaves_classes_without_recordings_out():
    lines = ablation_table(document_of()).splitlines()
    assert lines[0] == "tiny on 6 recordings (given)"
    assert [line.split()[0] for line in lines[3:6]] == ["A000", "A002", "all"]
    assert lines[3].split() == "A000 action 0 4 100.0 % 50.0 % 0.0 %".split()  # noqa: SIM905
    assert lines[5].split()[1] == "6"
    assert lines[6].startswith("all [95 %]: both inputs ")
    assert "without skeleton 0.0 % [0.0, 39.0]" in " ".join(lines[6:])

"""Baseline files: round trip and refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import DataError, UsageError
from quantize.gate.baseline import Baseline, Provenance, make_baseline, names_sha256, read_baseline
from quantize.gate.rules import GateOptions, judge

CLASSES = ("A001", "A002", "A003")
NAMES = tuple(f"recording{i:03d}" for i in range(500))
PROVENANCE = Provenance("python -m quantize check", "2026-11-25T12:00:00+00:00", {"int8": "litert 2.3.0"}, "a", "b")


def gate_of(*, wrong: int = 0, gained: int = 0):
    """Result, labels, choices of both models."""
    labels = np.arange(len(NAMES)) % len(CLASSES)
    before, after = labels.copy(), labels.copy()
    after[:wrong] = (labels[:wrong] + 1) % len(CLASSES)
    before[100 : 100 + gained] = (labels[100 : 100 + gained] + 1) % len(CLASSES)
    logits = [np.eye(len(CLASSES), dtype=np.float32)[choices] for choices in (before, after)]
    return judge(labels, *logits, class_names=CLASSES, options=GateOptions()), labels, before, after


def baseline_of(**changes: int) -> Baseline:
    result, _, before, after = gate_of(**changes)
    return make_baseline(
        result, names=NAMES, classes=CLASSES, float_choices=before, int8_choices=after, provenance=PROVENANCE
    )


def test_baseline_has_the_numbers_of_the_gate():
    baseline = baseline_of(gained=5)
    assert baseline.int8_accuracy == 1.0
    assert baseline.float_accuracy == 0.99
    assert baseline.drop_points == -1.0
    assert baseline.agreement == 0.99
    assert baseline.classes == CLASSES
    assert sum(a != b for a, b in zip(baseline.float_choices, baseline.int8_choices, strict=True)) == 5


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=130))
def test_baseline_survives_json(pairs):
    baseline = replace(baseline_of(), float_choices=tuple(a for a, _ in pairs), int8_choices=tuple(b for _, b in pairs))
    assert Baseline.from_dict(json.loads(baseline.to_json())) == baseline


def test_a_file_is_compact_its_lines_short_and_read_back(tmp_path):
    text = baseline_of(gained=3).to_json()
    assert len(text) < 2 * 500 * 2 + 2000
    assert max(map(len, text.splitlines())) <= 120
    (tmp_path / "baseline.json").write_text(text)
    assert read_baseline(tmp_path / "baseline.json") == baseline_of(gained=3)


def test_a_gate_that_failed_makes_no_baseline():
    with pytest.raises(UsageError, match="a gate that failed makes no baseline: INT8 loses 6"):
        baseline_of(wrong=30)


def test_choices_are_for_the_same_recordings_and_classes():
    _, _, _, after = gate_of(gained=2)
    baseline = baseline_of(gained=2)
    np.testing.assert_array_equal(baseline.choices_for(NAMES, CLASSES), after)
    for names in (NAMES[:-1], NAMES[::-1], (*NAMES[:-1], "another")):
        message = f"the {len(names)} recordings are not the 500 that the baseline was made with; .* --update-baseline"
        with pytest.raises(DataError, match=message):
            baseline.choices_for(names, CLASSES)
    for classes in (CLASSES[:2], CLASSES[::-1]):
        with pytest.raises(DataError, match=r"classes are not the baseline's 3; .* --update-baseline"):
            baseline.choices_for(NAMES, classes)


def test_the_hash_of_names_depends_on_their_borders():
    assert names_sha256(["ab", "c"]) != names_sha256(["a", "bc"])


def changed(**fields) -> str:
    return json.dumps({**json.loads(baseline_of().to_json()), **fields})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON document"),
        (b"\xff\xfe\x00", "not a JSON document"),
        ("[]", "version None"),
        (changed(version=2), "version 2; this release reads 1"),
        (changed(colour="red"), "unknown field 'colour'"),
        (changed(provenance={}), "missing field"),
        (changed(agreement="all"), "baseline.agreement is 'all'"),
        (changed(int8_choices=["0 1 x"]), "baseline.int8_choices"),
        (changed(int8_choices=None), "baseline.int8_choices"),
        (changed(int8_choices=["0 1"]), "500 float and 2 INT8 answers"),
        (changed(int8_choices=["3"] * 500), "an answer outside its 3 classes"),
    ],
)
def test_damaged_baselines_are_refused_with_the_remedy(text, message, tmp_path):
    path = tmp_path / "baseline.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"{message}.*--update-baseline"):
        read_baseline(path)
    with pytest.raises(DataError, match=r"none\.json does not exist; write it with --update-baseline"):
        read_baseline(tmp_path / "none.json")

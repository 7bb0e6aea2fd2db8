"""Reports of the accuracy gate, read back as their consumers read them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.gate.gate_report import Side, junit_report, markdown_report, text_report, verdict
from quantize.gate.rules import GateOptions, GateResult, Rule, judge

FLOAT = Side("nano-float32-tflite", "float32", "litert", "2.3.0", 3_710_000, "a" * 64)
INT8 = Side("nano-int8-onnx", "static_wi8_ai8", "onnxruntime", "1.31.1", 1_370_000, "b" * 64)
CLASSES = 4
NAMES = ("A001 drink | water", "A002 <b>sit</b>", "A003 clap", "A004 wave & point")
RULES = ["finite numbers", "accuracy drop", "classes", "agreement", "baseline"]


def result_of(count: int = 400, *, lost: int = 0, broken: bool = False, **options) -> GateResult:
    """Every lost recording is of the first class."""
    labels = np.arange(count) % CLASSES
    before = np.eye(CLASSES, dtype=np.float32)[labels] * 3
    after = before.copy()
    wrong = np.flatnonzero(labels == 0)[:lost]
    after[wrong] = np.roll(after[wrong], 1, axis=1)
    if broken:
        after[0, 0] = np.nan
    return judge(labels, before, after, class_names=NAMES, options=GateOptions(**options), baseline=labels)


def junit(result: GateResult) -> ET.Element:
    return ET.fromstring(junit_report(result, FLOAT, INT8, started="2026-11-25T12:00:00", duration_s=12.5).encode())


# --- text


def test_text_holds_both_models_the_difference_the_classes_and_the_rules():
    text = text_report(result_of(lost=20), FLOAT, INT8)
    lines = text.splitlines()
    assert "nano-float32-tflite in litert" in text
    assert any(line.startswith("nano-int8-onnx in onnxruntime") and "1.37 MB" in line for line in lines)
    assert any("points of accuracy lost [95 % interval]" in line and "5.00 [" in line for line in lines)
    assert any(line.startswith("right only in float, only in INT8") and line.endswith("20, 0") for line in lines)
    lost = [line.split("  ")[-1].strip() for line in lines if line.startswith("points ")]
    assert len(lost) == 2  # against the float model, and against a baseline that answered the same
    assert lost[0] == lost[1]
    assert lost[0].startswith("5.00 [")
    worst = next(line for line in lines if line.startswith("A001 drink | water"))
    assert worst.split("  ")[-1].strip() == "3.8e-06"
    assert [cell.strip() for cell in worst.split("  ") if cell][1:5] == ["100", "100.0 %", "80.0 %", "20.0"]
    rules = [
        line.split(":")[0].split(maxsplit=1) for line in lines if line.startswith(("passed ", "failed ", "skipped "))
    ]
    statuses = ["passed", "failed", "failed", "skipped", "failed"]
    assert rules == [list(own) for own in zip(statuses, RULES, strict=True)]
    assert lines[-1] == "accuracy gate FAILED on 400 recordings"


def test_text_of_a_gate_that_passes_shows_no_class():
    text = text_report(result_of(), FLOAT, INT8)
    assert text.endswith("accuracy gate passed on 400 recordings")
    assert "class that loses most" not in text


@pytest.mark.parametrize("report", [text_report, markdown_report])
def test_reports_of_logits_that_are_not_finite(report):
    text = report(result_of(broken=True), FLOAT, INT8)
    assert "1 of 1600 logits of the INT8 model are not finite" in text
    assert "nan" not in text.lower().replace("nano", "")


# --- Markdown


def cells(line: str) -> list[str]:
    """Cells of a row of GitHub's tables, where `\\|` is a character and `|` a border."""
    return [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")]


def test_markdown_starts_with_the_verdict_then_the_failures():
    result = result_of(lost=20)
    lines = markdown_report(result, FLOAT, INT8).splitlines()
    assert lines[0] == "## Accuracy gate FAILED on 400 recordings"
    assert [line.removeprefix("- ").replace("\\|", "|") for line in lines[2:5]] == list(result.failures)
    assert len(result.failures) == 3  # the drop, the class, and the baseline, which was all right


def test_markdown_tables_have_as_many_cells_in_every_row():
    text = markdown_report(result_of(lost=20), FLOAT, INT8)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({len(cells(line)) for line in table}) == 1
        assert all(set(cell) <= set(":-") for cell in cells(table[1]))


def test_markdown_names_neither_end_a_cell_nor_start_html():
    assert "A001 drink \\| water" in markdown_report(result_of(lost=20), FLOAT, INT8)
    evil = replace(result_of(), rules=(Rule("classes", "failed", ("a <script> & b\nc",)),))
    text = markdown_report(evil, FLOAT, INT8)
    assert "- a &lt;script> &amp; b c" in text
    assert "<script>" not in text


# --- JUnit


def test_junit_has_a_case_for_every_rule_and_counts_them():
    root = junit(result_of(lost=20))
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite"
    assert [case.get("name") for case in suite.iter("testcase")] == RULES
    assert {case.get("classname") for case in suite.iter("testcase")} == {"quantize.check"}
    counts = {"tests": "5", "failures": "3", "errors": "0", "time": "12.500"}
    for element in (root, suite):
        assert {key: element.get(key) for key in counts} == counts
    assert suite.get("skipped") == "1"
    assert suite.get("timestamp") == "2026-11-25T12:00:00"
    assert [len(list(suite.iter(tag))) for tag in ("failure", "error", "skipped")] == [3, 0, 1]


def test_junit_failures_carry_their_lines():
    result = result_of(lost=20)
    failures = list(junit(result).iter("failure"))
    assert [own.get("message") for own in failures] == list(result.failures)
    assert [own.text for own in failures] == list(result.failures)


def test_junit_order_of_elements_is_that_of_the_schema():
    """Properties first, then cases; in a case one of failure, skipped and system-out."""
    (suite,) = junit(result_of(lost=20))
    assert [child.tag for child in suite] == ["properties", *["testcase"] * 5]
    assert all([child.tag for child in case] in (["failure"], ["skipped"], ["system-out"]) for case in suite[1:])
    properties = {own.get("name"): own.get("value") for own in suite[0]}
    assert properties["int8.artefact"] == "nano-int8-onnx in onnxruntime"
    assert properties["float.sha256"] == "a" * 64


def test_junit_of_a_gate_that_passes_has_no_failure():
    root = junit(result_of())
    assert root.get("failures") == "0"
    assert not list(root.iter("failure"))


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_junit_is_well_formed_whatever_a_class_is_called(name):
    result = replace(result_of(20), rules=(Rule("classes", "failed", (name,)), Rule("agreement", "skipped", (name,))))
    root = junit(result)
    assert len(list(root.iter("testcase"))) == 2


def test_verdict():
    assert verdict(result_of()) == "accuracy gate passed on 400 recordings"

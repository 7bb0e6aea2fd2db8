"""Reports of the accuracy gate, read back as their consumers read them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.fakes import make_manifest

from quantize.gate.gate_report import junit_report, markdown_report, text_report
from quantize.gate.rules import GateOptions, GateResult, Rule, judge
from runtime.artifact import Artifact


def artifact(name: str, recipe: str, runtime: str, size_bytes: int, sha256: str) -> Artifact:
    return Artifact(
        name, make_manifest(name=name, recipe=recipe, size_bytes=size_bytes, sha256=sha256), Path(), runtime
    )


FLOAT = artifact("nano-float32-tflite", "float32", "litert", 3_710_000, "a" * 64)
INT8 = artifact("nano-int8-onnx", "static_wi8_ai8", "onnxruntime", 1_370_000, "b" * 64)
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


def test_text_has_both_models_the_difference_the_classes_and_the_rules():
    lines = text_report(result_of(lost=20), FLOAT, INT8).splitlines()

    def line(start: str) -> list[str]:
        (row, *_) = (row for row in lines if row.startswith(start))
        return [cell.strip() for cell in row.split("  ") if cell]

    assert line("nano-float32-tflite in litert")[1:3] == ["float32", "3.71 MB"]
    assert line("nano-int8-onnx in onnxruntime")[1:3] == ["static_wi8_ai8", "1.37 MB"]
    assert line("right only in float, only in INT8")[1] == "20, 0"
    # The baseline answered as the float model does.
    assert line("points of accuracy lost [95 % interval]")[1] == line("points lost against the baseline")[1]
    assert line("points of accuracy lost")[1].startswith("5.00 [")
    assert line("A001 drink | water")[1:] == ["100", "100.0 %", "80.0 %", "20.0", "3.8e-06"]
    rules = [row.split(":")[0].split(maxsplit=1) for row in lines if row.startswith(("passed ", "failed ", "skipped "))]
    statuses = ["passed", "failed", "failed", "skipped", "failed"]
    assert rules == [list(row) for row in zip(statuses, RULES, strict=True)]
    assert lines[-1] == "accuracy gate FAILED on 400 recordings"


def test_reports_of_a_gate_that_passes_show_no_class_and_no_failure():
    text, root = text_report(result_of(), FLOAT, INT8), junit(result_of())
    assert text.endswith("accuracy gate passed on 400 recordings")
    assert "class that loses most" not in text
    assert (root.get("failures"), list(root.iter("failure"))) == ("0", [])


@pytest.mark.parametrize("report", [text_report, markdown_report])
def test_reports_of_logits_that_are_not_finite(report):
    text = report(result_of(broken=True), FLOAT, INT8)
    assert "1 of 1600 logits of the INT8 model are not finite" in text
    assert "nan" not in text.lower().replace("nano", "")


# --- Markdown


def cells(line: str) -> list[str]:
    """Cells of a row of GitHub's tables, where `\\|` is a character and `|` a border."""
    return [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")]


def test_markdown_starts_with_the_verdict_then_the_failures_then_tables():
    result = result_of(lost=20)
    text = markdown_report(result, FLOAT, INT8)
    lines = text.splitlines()
    assert lines[0] == "## Accuracy gate FAILED on 400 recordings"
    assert [line.removeprefix("- ").replace("\\|", "|") for line in lines[2:5]] == list(result.failures)
    assert len(result.failures) == 3  # the drop, the class, and the baseline, which was all right
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


def test_junit_follows_the_schema_counts_the_rules_and_shows_their_lines():
    """Properties first, then a case for every rule; in a case one of failure, skipped and system-out."""
    result = result_of(lost=20)
    root = junit(result)
    assert root.tag == "testsuites"
    (suite,) = root
    assert suite.tag == "testsuite"
    assert [case.get("name") for case in suite.iter("testcase")] == RULES
    assert {case.get("classname") for case in suite.iter("testcase")} == {"quantize.check"}
    counts = {"tests": "5", "failures": "3", "errors": "0", "time": "12.500"}
    for element in (root, suite):
        assert {key: element.get(key) for key in counts} == counts
    assert (suite.get("skipped"), suite.get("timestamp")) == ("1", "2026-11-25T12:00:00")
    assert [len(list(suite.iter(tag))) for tag in ("failure", "error", "skipped")] == [3, 0, 1]
    assert [child.tag for child in suite] == ["properties", *["testcase"] * 5]
    assert all([child.tag for child in case] in (["failure"], ["skipped"], ["system-out"]) for case in suite[1:])
    properties = {prop.get("name"): prop.get("value") for prop in suite[0]}
    assert (properties["int8.artifact"], properties["float.sha256"]) == ("nano-int8-onnx in onnxruntime", "a" * 64)
    for failure, line in zip(suite.iter("failure"), result.failures, strict=True):
        assert failure.get("message") == failure.text == line


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_junit_is_well_formed_whatever_a_class_is_called(name):
    result = replace(result_of(20), rules=(Rule("classes", "failed", (name,)), Rule("agreement", "skipped", (name,))))
    assert len(list(junit(result).iter("testcase"))) == 2

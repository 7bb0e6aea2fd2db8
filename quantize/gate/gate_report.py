"""Reports of the accuracy gate: tables for people, Markdown for a pull request, JUnit XML for a CI server."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import TypeAlias

from console.table import format_table
from runtime.artifact import Artifact

from .paired import PairedDrop
from .rules import GateResult, PairComparison, Rule

_CLASSES_SHOWN = 5
# Characters that XML 1.0 cannot hold, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


_Table: TypeAlias = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]  # header and rows


def text_report(result: GateResult, float_artifact: Artifact, int8_artifact: Artifact) -> str:
    """Tables of both models, of their difference and of the classes that lose most; the rules; then the verdict."""
    tables = [format_table(*table) for table in _comparison_tables(result, float_artifact, int8_artifact)]
    rules = [f"{rule.status:<7}  {rule.name}: {'; '.join(rule.findings)}" for rule in result.rules]
    return "\n\n".join([*tables, "\n".join(rules), result.verdict])


def markdown_report(result: GateResult, float_artifact: Artifact, int8_artifact: Artifact) -> str:
    """A summary for a pull request: the verdict with the failures, the tables, the classes that lose most."""
    blocks = [f"## A{result.verdict[1:]}"]
    if result.failures:
        blocks.append("\n".join(f"- {_cell(line)}" for line in result.failures))
    rules = [(rule.name, rule.status, "; ".join(rule.findings)) for rule in result.rules]
    blocks.append(_markdown((("rule", "verdict", "finding"), rules)))
    blocks += map(_markdown, _comparison_tables(result, float_artifact, int8_artifact))
    return "\n\n".join(blocks) + "\n"


def junit_report(
    result: GateResult, float_artifact: Artifact, int8_artifact: Artifact, *, started: str, duration_s: float
) -> str:
    """JUnit XML with one test case for every rule, as GitHub's and Jenkins' reporters read it.

    Args:
        result: of the gate.
        float_artifact, int8_artifact: the two models.
        started: time in ISO 8601.
        duration_s: of the check, in seconds; all of it is attributed to the first case.
    """
    failed, skipped = (sum(rule.status == status for rule in result.rules) for status in ("failed", "skipped"))
    counts = {
        "tests": str(len(result.rules)),
        "failures": str(failed),
        "errors": "0",
        "time": f"{duration_s:.3f}",
    }
    root = ET.Element("testsuites", {"name": "pocket-har", **counts})
    attributes = {"name": "accuracy gate", **counts, "skipped": str(skipped), "timestamp": started}
    suite = ET.SubElement(root, "testsuite", attributes)
    properties = ET.SubElement(suite, "properties")
    for name, artifact in (("float", float_artifact), ("int8", int8_artifact)):
        for key, value in (("artifact", str(artifact)), ("sha256", artifact.manifest.sha256)):
            ET.SubElement(properties, "property", {"name": f"{name}.{key}", "value": _xml(value)})
    for index, rule in enumerate(result.rules):
        _add_case(suite, rule, duration_s=0.0 if index else duration_s)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_case(suite: ET.Element, rule: Rule, *, duration_s: float) -> None:
    case = ET.SubElement(
        suite, "testcase", {"classname": "quantize.check", "name": rule.name, "time": f"{duration_s:.3f}"}
    )
    lines = [_xml(line) for line in rule.findings]
    if rule.status == "failed":
        failure = ET.SubElement(case, "failure", {"message": "; ".join(lines), "type": "AnswerIsNo"})
        failure.text = "\n".join(lines)
    elif rule.status == "skipped":
        ET.SubElement(case, "skipped", {"message": "; ".join(lines)})
    else:
        ET.SubElement(case, "system-out").text = "\n".join(lines)


def _comparison_tables(result: GateResult, float_artifact: Artifact, int8_artifact: Artifact) -> list[_Table]:
    comparison = result.comparison
    if comparison is None:
        return []
    models = _model_table(comparison, float_artifact, int8_artifact)
    tables = [models, _difference_table(comparison, result.options.confidence)]
    losing = sorted((row for row in comparison.classes if row.points > 0), key=lambda row: (-row.points, row.p))
    rows = tuple(
        (
            row.name,
            str(row.count),
            f"{100 * row.float_correct / row.count:.1f} %",
            f"{100 * row.int8_correct / row.count:.1f} %",
            f"{row.points:.1f}",
            f"{row.p:.2g}",
        )
        for row in losing[:_CLASSES_SHOWN]
    )
    if rows:
        tables.append((("class that loses most", "recordings", "float", "INT8", "points lost", "p (Holm)"), rows))
    return tables


def _model_table(comparison: PairComparison, float_artifact: Artifact, int8_artifact: Artifact) -> _Table:
    models = (
        (float_artifact, comparison.float_score, comparison.float_ece),
        (int8_artifact, comparison.int8_score, comparison.int8_ece),
    )
    rows = [
        (
            str(artifact),
            artifact.manifest.recipe,
            f"{artifact.manifest.size_bytes / 1e6:.2f} MB",
            str(score),
            f"{error:.3f}",
        )
        for artifact, score, error in models
    ]
    return ("model", "recipe", "size", "accuracy [95 % interval]", "calibration error"), rows


def _difference_table(comparison: PairComparison, confidence: float) -> _Table:
    rows = [
        (f"points of accuracy lost [{100 * confidence:g} % interval]", _interval(comparison.drop)),
        ("right only in float, only in INT8", f"{comparison.drop.lost}, {comparison.drop.gained}"),
        ("McNemar's exact test, p", f"{comparison.drop.mcnemar_p:.2g}"),
        ("same class chosen", f"{100 * comparison.agreement:.1f} %"),
        ("logits' SNR", f"{comparison.snr_db:.1f} dB"),
    ]
    if comparison.regression:
        rows.append(("points lost against the baseline", _interval(comparison.regression)))
    return ("INT8 against float", ""), rows


def _interval(drop: PairedDrop) -> str:
    low, high = drop.interval_points
    return f"{drop.points:.2f} [{low:.2f}, {high:.2f}]"


def _markdown(table: _Table) -> str:
    header, rows = table
    border = (":--", *["--:" if len(header) > 3 else ":--"] * (len(header) - 1))
    lines = [header, border, *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line that neither ends a cell nor starts HTML."""
    line = " ".join(text.split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _xml(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)

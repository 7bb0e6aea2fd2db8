"""What the accuracy gate found: tables for people, Markdown for a pull request, JUnit XML for a CI server."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from console.table import format_table

from .paired import PairedDrop
from .rules import Comparison, GateResult, Rule

_CLASSES_SHOWN = 5
# What XML 1.0 cannot hold, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
        name: of the artefact.
        recipe: precision recipe.
        runtime, runtime_version: what it ran in.
        size_bytes, sha256: of the model file.
    """

    name: str
    recipe: str
    runtime: str
    runtime_version: str
    size_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} in {self.runtime}"


@dataclass(frozen=True)
class _Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def verdict(result: GateResult) -> str:
    """`passed` or `FAILED`, and on how many recordings."""
    return f"accuracy gate {'passed' if result.passed else 'FAILED'} on {result.count} recordings"


def text_report(result: GateResult, float_side: Side, int8_side: Side) -> str:
    """Tables of both models, of their difference and of the classes that lose most; the rules; then the verdict."""
    tables = [format_table(own.header, own.rows) for own in _comparison_tables(result, float_side, int8_side)]
    rules = [f"{rule.status:<7}  {rule.name}: {'; '.join(rule.findings)}" for rule in result.rules]
    return "\n\n".join([*tables, "\n".join(rules), verdict(result)])


def markdown_report(result: GateResult, float_side: Side, int8_side: Side) -> str:
    """A summary for a pull request: the verdict with the failures, the tables, the classes that lose most."""
    title = verdict(result)
    blocks = [f"## {title[0].upper()}{title[1:]}"]
    if result.failures:
        blocks.append("\n".join(f"- {_cell(line)}" for line in result.failures))
    blocks.append(_markdown(_rule_table(result.rules)))
    blocks += [_markdown(own) for own in _comparison_tables(result, float_side, int8_side)]
    return "\n\n".join(blocks) + "\n"


def junit_report(result: GateResult, float_side: Side, int8_side: Side, *, started: str, duration_s: float) -> str:
    """JUnit XML with one test case for every rule, as GitHub's and Jenkins' reporters read it.

    Args:
        result: what the gate found.
        float_side, int8_side: the two models.
        started: time in ISO 8601.
        duration_s: of the whole check, in seconds; all of it counts for the first case.
    """
    failed, skipped = (sum(rule.status == status for rule in result.rules) for status in ("failed", "skipped"))
    counts = {
        "tests": str(len(result.rules)),
        "failures": str(failed),
        "errors": "0",
        "time": f"{duration_s:.3f}",
    }
    root = ET.Element("testsuites", {"name": "pocket-har", **counts})
    own = {"name": "accuracy gate", **counts, "skipped": str(skipped), "timestamp": started}
    suite = ET.SubElement(root, "testsuite", own)
    properties = ET.SubElement(suite, "properties")
    for name, side in (("float", float_side), ("int8", int8_side)):
        for key, value in (("artefact", str(side)), ("sha256", side.sha256)):
            ET.SubElement(properties, "property", {"name": f"{name}.{key}", "value": _xml(value)})
    for index, rule in enumerate(result.rules):
        duration = duration_s if index == 0 else 0.0
        _add_case(suite, rule, duration_s=duration)
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


def _comparison_tables(result: GateResult, float_side: Side, int8_side: Side) -> list[_Table]:
    found = result.comparison
    if found is None:
        return []
    tables = [_model_table(found, float_side, int8_side), _difference_table(found, result.options.confidence)]
    losing = sorted((own for own in found.classes if own.points > 0), key=lambda own: (-own.points, own.p))
    rows = tuple(
        (
            own.name,
            str(own.count),
            f"{100 * own.float_correct / own.count:.1f} %",
            f"{100 * own.int8_correct / own.count:.1f} %",
            f"{own.points:.1f}",
            f"{own.p:.2g}",
        )
        for own in losing[:_CLASSES_SHOWN]
    )
    if rows:
        tables.append(_Table(("class that loses most", "recordings", "float", "INT8", "points lost", "p (Holm)"), rows))
    return tables


def _model_table(found: Comparison, float_side: Side, int8_side: Side) -> _Table:
    header = ("model", "recipe", "size", "accuracy [95 % interval]", "calibration error")
    sides = ((float_side, found.float_score, found.float_ece), (int8_side, found.int8_score, found.int8_ece))
    return _Table(
        header,
        tuple(
            (str(side), side.recipe, f"{side.size_bytes / 1e6:.2f} MB", str(score), f"{ece:.3f}")
            for side, score, ece in sides
        ),
    )


def _difference_table(found: Comparison, confidence: float) -> _Table:
    rows = [
        (f"points of accuracy lost [{100 * confidence:g} % interval]", _interval(found.drop)),
        ("right only in float, only in INT8", f"{found.drop.lost}, {found.drop.gained}"),
        ("McNemar's exact test, p", f"{found.drop.mcnemar_p:.2g}"),
        ("same class chosen", f"{100 * found.agreement:.1f} %"),
        ("logits' SNR", f"{found.snr_db:.1f} dB"),
    ]
    if found.regression:
        rows.append(("points lost against the baseline", _interval(found.regression)))
    return _Table(("INT8 against float", ""), tuple(rows))


def _interval(drop: PairedDrop) -> str:
    low, high = drop.interval_points
    return f"{drop.points:.2f} [{low:.2f}, {high:.2f}]"


def _rule_table(rules: Sequence[Rule]) -> _Table:
    return _Table(
        ("rule", "verdict", "finding"),
        tuple((rule.name, rule.status, "; ".join(rule.findings)) for rule in rules),
    )


def _markdown(table: _Table) -> str:
    rule = [":--", *["--:" if len(table.header) > 3 else ":--"] * (len(table.header) - 1)]
    lines = [table.header, tuple(rule), *table.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line that neither ends a cell nor starts HTML."""
    line = " ".join(text.split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _xml(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)

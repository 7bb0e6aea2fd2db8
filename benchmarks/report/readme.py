"""`python -m benchmarks readme [--check]`: the tables of documents, from the result files.

A document has a block between `<!-- NAME -->` and `<!-- /NAME -->` for the result file NAME.json. It gets the command,
the machine and the date of the measurement, and the table of the study. `headline` is the README's short Table 1.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.program import show, show_json
from preprocess.errors import AnswerIsNo, DataError

from ..studies.accuracy import ACCURACY
from ..studies.npu_accuracy import NPU
from ..studies.paper_tables import TABLE_1, TABLE_2
from ..studies.peers import PEERS
from ..studies.preprocessing import PREPROCESSING
from ..studies.pruning import PRUNING
from ..studies.robustness import ABLATION, ROBUSTNESS
from ..studies.study import RESULTS, score_of

_ROOT = Path(__file__).parents[2]
STUDIES = {
    study.name: study
    for study in (ABLATION, ACCURACY, NPU, PEERS, PREPROCESSING, PRUNING, ROBUSTNESS, TABLE_1, TABLE_2)
}
_BLOCK = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->", flags=re.DOTALL)
_MARK = re.compile(r"<!-- (/?[\w-]+) -->")


def pages() -> list[Path]:
    """The documents of the repository that may have tables."""
    return [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md")), _ROOT / "android_bench/native/README.md"]


def readme_command(options: argparse.Namespace) -> None:
    """Handler: writes the tables or, with --check, compares.

    Raises:
        DataError: as `render`.
        AnswerIsNo: with --check, a document differs.
    """
    tables: dict[str, list[str]] = {}
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after, names = render(page.name, before)
        if names:
            tables[str(page.relative_to(_ROOT))] = names
        if before == after:
            continue
        if options.check:
            raise AnswerIsNo(f"{page.name} differs from benchmarks/results; run `python -m benchmarks readme`")
        with atomic_file(page) as temporary:
            temporary.write_text(after, encoding="utf-8")
    if options.json:
        show_json(tables)
    else:
        show("\n".join(f"{page}: {', '.join(names)}" for page, names in tables.items()))


def render(page: str, text: str) -> tuple[str, list[str]]:
    """A document with its tables written anew, and the names of the tables.

    Args:
        page: name of the document, for messages.
        text: of the document.

    Raises:
        DataError: a block has no end or no result file, or is there twice.
    """
    names = [match[1] for match in _BLOCK.finditer(text)]
    marks = [mark for name in names for mark in (name, f"/{name}")]
    if _MARK.findall(text) != marks or len(set(names)) < len(names):
        raise DataError(f"{page}: the marks of tables are {_MARK.findall(text)}; every table needs a begin and an end")
    return _BLOCK.sub(lambda match: f"<!-- {match[1]} -->\n{_table(page, match[1])}\n<!-- /{match[1]} -->", text), names


def _table(page: str, name: str) -> str:
    if name == "headline":
        return f"\n{headline(_result(page, 'table1-paper'))}\n"
    document = _result(page, name)
    origin = document["provenance"] if "provenance" in document else document["record"]["environment"]
    machine, command = origin["machine"], command_today(origin["command"])
    study = STUDIES[command.split()[3]]
    caption = f"`{command}` on {machine['cpu']}, {machine['cores']} cores, {origin['date'][:10]}:"
    return f"{caption}\n\n```\n{study.table(document)}\n```"


def _result(page: str, name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        raise DataError(f"{page} has a table {name!r}, but benchmarks/results/{path.name} does not exist")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def headline(document: dict[str, Any]) -> str:
    """The fused model of Table 1 as a table in Markdown, with a line of origin below it."""
    # Short, since all columns are to fit on a screen that is 400 pixels wide.
    lines = ["| | file, MB | time, ms | RAM, MB | top-1, % |", "|---|--:|--:|--:|--:|"]
    rows = [row for row in document["rows"] if row["stream"] == "fused"]
    for row in rows:
        lines.append(
            f"| {row['precision']} | {row['size_bytes'] / 1e6:.1f} | {row['latency_ms']:.0f} "
            f"| {row['peak_bytes'] / 1e6:.0f} | {100 * row['accuracy']['accuracy']:.1f} |"
        )
    intervals = ", ".join(str(score_of(row["accuracy"])).split(" % ")[1] for row in rows)
    record = document["record"]
    origin, threads = record["environment"], record["measurements"][0]["subject"]["threads"]
    text = (
        f"Median latency and peak RAM in LiteRT, threads: {threads}, on {origin['machine']['cpu']}, "
        f"{origin['machine']['cores']} cores, {origin['date'][:10]}; top-1 accuracy on {rows[0]['accuracy']['count']} "
        f"synthetic recordings, 95 % intervals {intervals}. Made by `{origin['command']}`"
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)])


def command_today(command: str) -> str:
    """A recorded command as it is typed today: `python -m benchmarks.pruning` became `python -m benchmarks pruning`."""
    return re.sub(r"^python -m benchmarks\.(\w+)", r"python -m benchmarks \1", command).replace(
        "benchmarks native ", "benchmarks preprocessing "
    )

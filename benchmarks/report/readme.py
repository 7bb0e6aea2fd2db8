"""Writes the tables of the READMEs and of pages in docs/ from results: `python -m benchmarks.readme [--check]`."""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.program import make_parser, run_as_main, show
from preprocess.errors import AnswerIsNo, DataError
from runtime.metrics import Score

from ..studies.ablation import ablation_table
from ..studies.accuracy import accuracy_table, export_table, noise_table
from ..studies.native import native_table
from ..studies.npu import npu_table
from ..studies.peers import peers_text
from ..studies.pruning import pruning_table
from ..studies.robustness import robustness_table
from ..studies.table1 import lead, table1_text
from ..studies.table2 import table2_text

ROOT = Path(__file__).parents[2]
README, DETAILS, NPU = ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "npu.md"
NATIVE = ROOT / "android_bench" / "native" / "README.md"
RESULTS = Path(__file__).parents[1] / "results"


def _accuracy(document: dict[str, Any]) -> str:
    return f"{accuracy_table(document)}\n\n{export_table(document)}"


def _noise(document: dict[str, Any]) -> str:
    return f"{_accuracy(document)}\n\n{noise_table(document)}"


def _table1(document: dict[str, Any]) -> str:
    return "\n\n".join([textwrap.fill(lead(document), 120), table1_text(document)])


def _preprocessing(document: dict[str, Any]) -> str:
    from console.table import format_table

    rows = [
        [r["input"], r["code"], f"{r['median_ms']:.1f} ms", f"{r['first_of_block_median_ms']:.1f} ms"]
        for r in document["results"]
    ]
    return format_table(["input", "code", "median", "first after a pause"], rows)


def headline(document: dict[str, Any]) -> str:
    """The fused model of Table 1 as a table in Markdown, with a line of origin below it."""
    lines = ["| the paper's model, trained | file | latency | peak RAM | accuracy [95 %] |", "|---|--:|--:|--:|--:|"]
    rows = [row for row in document["rows"] if row["stream"] == "fused"]
    for row in rows:
        score = Score(row["accuracy"]["correct"], row["accuracy"]["count"])
        lines.append(
            f"| {row['precision']} | {row['size_bytes'] / 1e6:.1f} MB | {row['latency_ms']:.0f} ms "
            f"| {row['peak_bytes'] / 1e6:.0f} MB | {score} |"
        )
    record = document["record"]
    origin, threads = record["environment"], record["measurements"][0]["subject"]["threads"]
    text = (
        f"LiteRT, threads: {threads}, on {origin['machine']['cpu']}, {origin['machine']['cores']} cores, "
        f"{origin['date'][:10]}; accuracy on {rows[0]['accuracy']['count']} synthetic recordings. "
        f"Made by `{origin['command']}`"
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)])


# By page; the name of a block is that of the result file it comes from.
TABLES: dict[Path, dict[str, Callable[[dict[str, Any]], str]]] = {
    DETAILS: {
        "table1-paper": _table1,
        "pruning-paper": pruning_table,
        "demo": _accuracy,
        "pruning": pruning_table,
        "table1": _table1,
        "table2": table2_text,
        "table2-paper": table2_text,
        "paper": _noise,
        "peers": peers_text,
        "demo-layer": export_table,
        "demo-layer-qat": export_table,
        "robustness": robustness_table,
        "ablation": ablation_table,
        "preprocessing": _preprocessing,
    },
    NPU: {"npu-demo": npu_table, "npu-paper": npu_table},
    NATIVE: {"native": native_table, "native-baseline": native_table},
}


def render(page: Path, text: str) -> str:
    """A page with every block between `<!-- NAME -->` and `<!-- /NAME -->` written anew.

    Raises:
        DataError: a block is missing.
    """
    if page == README:
        return _replaced(page, text, "headline", f"\n{headline(_result('table1-paper'))}\n")
    for name, make in TABLES[page].items():
        document = _result(name)
        origin = document["provenance"] if "provenance" in document else document["record"]["environment"]
        machine = origin["machine"]
        caption = f"`{origin['command']}` on {machine['cpu']}, {machine['cores']} cores, {origin['date'][:10]}:"
        text = _replaced(page, text, name, f"{caption}\n\n```\n{make(document)}\n```")
    return text


def _result(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return document


def _replaced(page: Path, text: str, name: str, content: str) -> str:
    blocks = re.findall(rf"<!-- {name} -->.*?<!-- /{name} -->", text, flags=re.DOTALL)
    if len(blocks) != 1:
        raise DataError(f"{page.name} has {len(blocks)} blocks named {name!r}; it needs one")
    return text.replace(blocks[0], f"<!-- {name} -->\n{content}\n<!-- /{name} -->")


def _run(options: argparse.Namespace) -> None:
    for page in (README, *TABLES):
        before = page.read_text(encoding="utf-8")
        after = render(page, before)
        if options.check:
            if before != after:
                raise AnswerIsNo(f"{page.name} differs from benchmarks/results; run `python -m benchmarks.readme`")
            continue
        with atomic_file(page) as temporary:
            temporary.write_text(after, encoding="utf-8")
        show(f"{page.name}: {len(TABLES.get(page, [README]))} tables")


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.report.readme", "Write the tables that documents have from result files.")
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 when they differ")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_run)
    return parser


if __name__ == "__main__":
    run_as_main(build_parser())

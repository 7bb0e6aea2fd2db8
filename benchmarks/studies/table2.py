"""`python -m benchmarks table2`: accuracy of single streams and of their fusion beside the paper's Table 2.

Every artefact is a row: ResNets of three depths and ConvNeXt as single streams (`python -m export tflite --stream`),
the fused model, in any precision, all on the same recordings.
"""

from __future__ import annotations

import argparse
from typing import Any

from console.program import show, show_json
from console.table import format_table
from runtime.manifest import Manifest
from runtime.metrics import score
from runtime.paper import PAPER_DATA_SETS, PAPER_TABLE_2

from ..measure.provenance import provenance
from ..measure.result_files import PACKAGES, data_words, interval_text, write_result
from .artifacts import answer_as_asked, artifact_words, open_artifacts
from .conditions import CLEAN

SCHEMA_VERSION = 1


def table2_command(options: argparse.Namespace) -> None:
    """Handler: measures, writes the JSON file, shows the table.

    Raises:
        UsageError, DataError, MissingComponentError: as `open_artifacts` and `answer_as_asked`.
    """
    artifacts = open_artifacts(options.artifacts)
    held_out, answers = answer_as_asked(options, artifacts, [CLEAN], label="table 2")
    command = f"python -m benchmarks table2 {artifact_words(artifacts)} {data_words(options)}"
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "table2",
        "provenance": provenance(command, packages=PACKAGES),
        "seed": options.seed,
        "data": held_out.origin,
        "recordings": len(answers.labels),
        "rows": [
            {
                **own.to_dict(),
                "preset": own.manifest.preset,
                "stream": own.manifest.stream,
                "network": network_of(own.manifest),
                **score(logits[0], answers.labels).to_dict(),
            }
            for own, logits in zip(artifacts, answers.logits, strict=True)
        ],
    }
    write_result(document, options.out)
    if options.json:
        show_json(document)
    else:
        show(table2_text(document))


def network_of(manifest: Manifest) -> str:
    """The name that the paper's Table 2 has for what the artefact is."""
    return manifest.backbones.get(manifest.stream, manifest.stream)


def table2_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; the paper's cells are quoted (q), ours measured (m)."""
    header = ["network", "artefact", f"ours, {document['recordings']} recordings ({document['data']})"]
    header += [f"paper, {name}" for name in PAPER_DATA_SETS]
    rows = []
    for own in document["rows"]:
        quoted = PAPER_TABLE_2.get(own["network"])
        rows.append(
            [
                own["network"],
                f"{own['name']} ({own['recipe']})",
                f"{interval_text(own)} m",
                *([f"{value:.1f} % q" for value in quoted] if quoted else [""] * len(PAPER_DATA_SETS)),
            ]
        )
    return header, rows


def table2_text(document: dict[str, Any]) -> str:
    """The table as text."""
    note = "The recordings are not the paper's: rows compare with each other, not with the columns of the paper."
    return f"{format_table(*table2_rows(document))}\n{note}"

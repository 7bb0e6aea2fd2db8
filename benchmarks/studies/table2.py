"""`python -m benchmarks table2`: accuracy of single streams and of their fusion beside the paper's Table 2.

Every artifact is a row: ResNets of three depths and ConvNeXt as single streams (`python -m export tflite --stream`),
the fused model, in any precision, all on the same recordings.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from console.table import format_table
from runtime.artifact import open_artifacts
from runtime.manifest import Manifest
from runtime.paper import PAPER_DATA_SETS, PAPER_TABLE_2

from .conditions import CLEAN, ask_under_conditions
from .study import Study, score_of

_NOTE = "The recordings are not the paper's: rows compare with each other, not with the columns of the paper."


def measure_table2(options: argparse.Namespace) -> dict[str, Any]:
    """Asks every artifact. Raises as `open_artifacts` and `ask_under_conditions`."""
    artifacts = open_artifacts(options.artifacts)
    answers, data = ask_under_conditions(options, artifacts, [CLEAN], title="table 2")
    rows = [
        {
            **artifact.to_dict(),
            "preset": artifact.manifest.preset,
            "stream": artifact.manifest.stream,
            "network": network_of(artifact.manifest),
            **answers.score((artifact.name, CLEAN)).to_dict(),
        }
        for artifact in artifacts
    ]
    return {**data, "rows": rows}


def network_of(manifest: Manifest) -> str:
    """The name of the network in the paper's Table 2."""
    return manifest.backbones.get(manifest.stream, manifest.stream)


def table2_text(document: dict[str, Any]) -> str:
    """The table: measured accuracies, and those of the paper."""
    header = ["network", "artifact", "accuracy [95 %]"]
    header += [f"paper {name.removeprefix('NTU ').removesuffix(' Daily')}" for name in PAPER_DATA_SETS]
    rows = []
    for row in document["rows"]:
        quoted = PAPER_TABLE_2.get(row["network"])
        paper = [f"{value:.1f} %" for value in quoted] if quoted else [""] * len(PAPER_DATA_SETS)
        rows.append([row["network"], f"{row['name']} ({row['recipe']})", str(score_of(row)), *paper])
    title = (
        f"Accuracy on {document['recordings']} recordings ({document['data']}); of the paper on MSR Daily, NTU X-Sub, "
        "NTU X-View"
    )
    return f"{textwrap.fill(title, 100)}\n{format_table(header, rows)}\n{_NOTE}"


STUDY = Study("table2", measure_table2, table2_text)

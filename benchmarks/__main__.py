"""`python -m benchmarks`: measurements of artefacts that end as JSON with provenance."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from console.program import make_parser, run_as_main, run_program

from .corruption_options import add_ablation, add_robustness

COMMANDS = (add_robustness, add_ablation)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return run_program(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks", "Measure artefacts; results are JSON files that say where they come from.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


if __name__ == "__main__":
    run_as_main(build_parser())

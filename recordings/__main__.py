"""`python -m recordings`: look at a folder of recordings, or make synthetic ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from console.program import make_parser, run_as_main, run_program

from .commands import add_inspect_command
from .synthetic.command import add_synthesize_command


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return run_program(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("recordings", "Look at recordings of actions (skeleton and sound), or make synthetic ones.")
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")
    add_inspect_command(subparsers)
    add_synthesize_command(subparsers)
    return parser


if __name__ == "__main__":
    run_as_main(build_parser())

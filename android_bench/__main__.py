"""`python -m android_bench`: artefacts on phones and boards."""

from __future__ import annotations

import argparse

from console.program import make_parser, run_as_main, run_program

from .options import COMMANDS


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("android_bench", "Measure artefacts on phones (adb), boards (ssh) and this machine.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

"""`python -m recordings`: look at a folder of recordings, or make synthetic ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from console.options import add_reading, positive, seed
from console.program import Command, make_program, run_as_main, run_program


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with skeleton files, searched at any depth")
    add_reading(parser)
    parser.add_argument("--full", action="store_true", help="read every file: lengths, bodies, sample rates, defects")
    parser.add_argument("--draw", metavar="NAME", help="draw one recording and its model inputs instead of counting")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="where the drawing goes")


def _synthesize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--count", type=positive, required=True, metavar="N", help="number of recordings")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="equal seeds give equal files (default 0)")
    parser.add_argument("--subjects", type=positive, default=40, metavar="N", help="performers, 1 to 40 (default 40)")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--force", action="store_true", help="replace DIR if it exists")


COMMANDS = (
    Command(
        "inspect",
        "count the recordings of a folder (NTU RGB+D 60, MSR Daily Activity 3D), check them, draw one",
        "recordings.inspection:inspect_command",
        _inspect,
    ),
    Command(
        "synthesize",
        "make synthetic recordings of 16 actions (skeleton and sound) in the NTU RGB+D layout",
        "recordings.synthetic.generate:synthesize_command",
        _synthesize,
    ),
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `python -m recordings`."""
    description = "Look at recordings of actions (skeleton and sound), or make synthetic ones."
    return make_program("recordings", description, COMMANDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

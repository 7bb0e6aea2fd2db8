"""`pocket-har`: every program of the project behind one command."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from console.options import Parser, positive
from console.program import Command, make_program, run_as_main

PROGRAMS = {
    "recordings": "look at a folder of recordings, or make synthetic ones",
    "model": "train the recogniser and evaluate it",
    "quantize": "prune, fine-tune, analyze, and check the accuracy after quantization",
    "export": "turn a checkpoint into a verified TFLite or ONNX file",
    "benchmarks": "measure artifacts and write the tables and the report",
    "android_bench": "measure artifacts on phones and boards",
}


def _recognise_options(parser: Parser) -> None:
    help = "skeleton file; its WAV file lies beside it or in ../audio, unless --audio names another"
    parser.add_argument("recordings", nargs="+", type=Path, metavar="RECORDING", help=help)
    parser.add_argument("--artifact", type=Path, metavar="DIR", help="model (default: the demo that ships)")
    parser.add_argument("--audio", type=Path, metavar="PATH", help="WAV file, or the folder of the WAV files")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="threads (default 1)")


RECOGNISE = Command(
    "recognise",
    "print the five most probable actions of each recording",
    "pocket_har.recognise:recognise_command",
    _recognise_options,
)


def build_parser() -> argparse.ArgumentParser:
    programs = [Command(name, help, f"{name}.__main__:main") for name, help in PROGRAMS.items()]
    return make_program("pocket_har", "Human action recognition, from recordings to a phone.", [RECOGNISE, *programs])


def main() -> None:
    """Runs `pocket-har PROGRAM …` as `python -m PROGRAM …`."""
    program, *words = sys.argv[1:] or ["--help"]
    if program not in PROGRAMS:
        run_as_main(build_parser())
    run_as_main(import_module(f"{program}.__main__").build_parser(), words)


if __name__ == "__main__":
    main()

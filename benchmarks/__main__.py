"""`python -m benchmarks latency|compare`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from console.program import add_common_options, make_parser, run_as_main, run_program

Commands = argparse._SubParsersAction  # of ArgumentParser; argparse has no public name for it


def _add_latency(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "latency",
        help="latency and memory of artefacts side by side",
        description="Time artefacts in turn, each in its own process, and measure their memory.",
    )
    parser.add_argument(
        "artifacts", nargs="+", metavar="ARTIFACT", help="folder that `python -m export` wrote, or NAME=FOLDER"
    )
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=("litert", "tflite-runtime", "onnxruntime"),
        metavar="NAME",
        help="litert, tflite-runtime, onnxruntime: those that can read the file (default: its first)",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="threads (default 1)")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="timed rounds, 10 or more (default 50)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="recordings to feed (default: the golden ones of the first artefact)"
    )
    parser.add_argument("--recordings", type=int, default=10, metavar="N", help="recordings of --data (default 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of order and choice (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record there, for `compare`")
    add_common_options(parser)
    parser.set_defaults(handler=_latency)


def _latency(options: argparse.Namespace) -> None:
    from .latency import latency_command

    latency_command(options)


def _add_compare(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="what changed between two records of `latency`",
        description="Compare two records of one machine, subject by subject.",
    )
    parser.add_argument("before", type=Path, metavar="BEFORE", help="record that `latency --out` wrote")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another, of another commit")
    parser.add_argument(
        "--max-slowdown",
        type=float,
        metavar="X",
        help="exit code 1 when a subject takes, with 95 %% confidence, more than X times as long; 1.1 allows 10 %%",
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.05,
        metavar="X",
        help="difference that two runs of one file show on this machine and that means nothing (default 0.05)",
    )
    add_common_options(parser)
    parser.set_defaults(handler=_compare)


def _compare(options: argparse.Namespace) -> None:
    from .compare import compare_command

    compare_command(options)


COMMANDS: tuple[Callable[[Commands[argparse.ArgumentParser]], None], ...] = (_add_latency, _add_compare)


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks", "Measure artefacts, and compare measurements.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

"""The commands `latency` and `compare`, which two programs list. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.options import checked, positive, rounds, seed
from console.program import Command


def _slowdown(text: str) -> float:
    """Argument type: a factor, 1 or more."""
    return checked(text, float, lambda value: value >= 1, "1 or more; 1.1 allows 10 % more time")


def _noise(text: str) -> float:
    """Argument type: a share, 0 or more and below 1."""
    return checked(text, float, lambda value: 0 <= value < 1, "a share, 0 or more and below 1")


def _latency_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "artifacts", nargs="+", metavar="[NAME=]DIR", help="folders that `python -m export` wrote, with a name or not"
    )
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=("litert", "tflite-runtime", "onnxruntime"),
        metavar="NAME",
        help="litert, tflite-runtime, onnxruntime: those that can read the file (default: its first)",
    )
    parser.add_argument("--threads", type=positive, nargs="+", default=[1], metavar="N", help="threads (default 1)")
    parser.add_argument("--rounds", type=rounds, default=50, metavar="N", help="timed rounds, 10 or more (default 50)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="recordings to feed (default: the golden ones of the first artifact)"
    )
    parser.add_argument(
        "--recordings", type=positive, default=10, metavar="N", help="recordings of --data (default 10)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of order and choice (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record there, for `compare`")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, metavar="BEFORE", help="record that `--out` wrote")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another, of another commit")
    parser.add_argument(
        "--max-slowdown",
        type=_slowdown,
        metavar="X",
        help="exit code 1 when a subject takes, with 95 %% confidence, more than X times as long; 1.1 allows 10 %%",
    )
    parser.add_argument(
        "--noise",
        type=_noise,
        default=0.05,
        metavar="X",
        help="relative difference between two runs of one file on this machine (default 0.05)",
    )


LATENCY = Command(
    "latency",
    "latency and memory of artifacts side by side",
    "benchmarks.measure.latency:latency_command",
    _latency_options,
    "Time artifacts in turn, each in its own process, and measure their memory.",
)
COMPARE = Command(
    "compare",
    "what changed between two records",
    "benchmarks.measure.compare:compare_command",
    _compare_options,
    "Compare two records of one machine or device, subject by subject.",
)

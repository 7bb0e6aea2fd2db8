"""Options of `python -m benchmarks robustness` and `ablation`. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from console.program import add_common_options

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
RESULTS = Path(__file__).parent / "results"


def add_robustness(commands: Commands) -> None:
    """Adds the command `robustness`."""
    parser = commands.add_parser(
        "robustness",
        help="accuracy under noise, reverberation, lost joints, bad timing and failing sensors",
        description="Run artefacts on the same recordings, clean and corrupted in known ways.",
    )
    parser.add_argument("artifacts", nargs="+", metavar="[NAME=]DIR", help="artefacts; the others against the first")
    _add_data(parser, RESULTS / "robustness.json", "result file; a plot goes beside it")
    parser.set_defaults(handler=_robustness)


def add_ablation(commands: Commands) -> None:
    """Adds the command `ablation`."""
    parser = commands.add_parser(
        "ablation",
        help="accuracy of every class with both inputs, without sound and without skeleton",
        description="Run an artefact with both inputs and with each sensor failing; confusion matrices are drawn.",
    )
    parser.add_argument("artifacts", nargs=1, metavar="[NAME=]DIR", help="artefact")
    _add_data(parser, RESULTS / "ablation.json", "result file; plots go beside it")
    parser.set_defaults(handler=_ablation)


def _add_data(parser: argparse.ArgumentParser, out: Path, out_help: str) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--protocol", metavar="NAME", help="split of --data: its test part is used (default: all)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument("--recordings", type=int, default=500, metavar="N", help="recordings, at most (default 500)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the choice and of all corruptions (0)"
    )
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help=f"{out_help} (default {out.name})")
    add_common_options(parser)


def _robustness(options: argparse.Namespace) -> None:
    from .robustness import robustness_command

    robustness_command(options)


def _ablation(options: argparse.Namespace) -> None:
    from .ablation import ablation_command

    ablation_command(options)

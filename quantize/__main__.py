"""`python -m quantize analyze|prune|finetune|qat|check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.program import add_common_options, make_parser, run_as_main, run_program

from .gate.check_options import add_check
from .recover.recovery_options import add_finetune, add_prune, add_qat


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("quantize", "Make the recogniser smaller, and find out what that and quantization cost.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    _add_analyze(commands)
    add_prune(commands)
    add_finetune(commands)
    add_qat(commands)
    add_check(commands)
    return parser


def _add_analyze(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "analyze",
        help="rank layers by the noise that INT8 adds",
        description="Compare the float and the INT8 graph tensor by tensor, and quantize every block alone.",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument("--calibration", type=int, default=64, metavar="N", help="recordings to calibrate with (64)")
    parser.add_argument("--recordings", type=int, default=32, metavar="N", help="recordings to compare on (default 32)")
    parser.add_argument(
        "--form", choices=("split", "whole"), default="split", help="depthwise convolutions as for XNNPACK, or whole"
    )
    add_calibration_options(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write analysis.json and analysis.png there")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice of recordings (default 0)")
    add_common_options(parser)
    parser.set_defaults(handler=_analyze)


def add_calibration_options(parser: argparse.ArgumentParser) -> None:
    """How static quantization finds ranges; `quantize.prepare.CalibrationOptions` says more."""
    parser.add_argument(
        "--calibrate-by",
        choices=("minmax", "percentile", "mse"),
        default="mse",
        help="range of an activation: all values, all but 0.01 %% at each end, or the least error (default mse)",
    )
    parser.add_argument("--equalise", action="store_true", help="cross-layer equalisation before static quantization")
    parser.add_argument("--keep-biases", action="store_true", help="no bias correction in static quantization")


def _analyze(options: argparse.Namespace) -> None:
    from .commands import analyze_command

    analyze_command(options)


def main(argv: list[str] | None = None) -> int:
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

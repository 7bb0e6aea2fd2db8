"""Options of `python -m quantize check`. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.npu.chips import SNAPDRAGONS


def add_check(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `check`."""
    parser.add_argument("--float", type=Path, required=True, metavar="DIR", help="artefact of the float model")
    parser.add_argument("--int8", type=Path, nargs="+", required=True, metavar="DIR", help="artefact of the INT8 model")
    parser.add_argument(
        "--backend",
        choices=("qnn-htp",),
        help="compare float, INT8 on the CPU and INT8 in the emulator of Hexagon, Snapdragon's NPU; --int8 may then "
        "name several ONNX artefacts, of other recipes, say",
    )
    parser.add_argument("--float-runtime", metavar="NAME", help="runtime of --float (default: its format's first)")
    parser.add_argument("--int8-runtime", metavar="NAME", help="runtime of --int8 (default: its format's first)")
    parser.add_argument(
        "--soc",
        choices=tuple(SNAPDRAGONS),
        default="SM8650",
        metavar="SOC",
        help="with --backend: the chip that is emulated; their arithmetic differs a little (default SM8650)",
    )
    _add_rules(parser)
    _add_data(parser)
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="compare with an earlier INT8 model's answers")
    parser.add_argument(
        "--update-baseline", action="store_true", help="write --baseline anew instead, if all other rules pass"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML, one test case for every rule")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary for a pull request")


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-drop", type=float, default=1.0, metavar="POINTS", help="accuracy that may be lost (default 1.0)"
    )
    parser.add_argument(
        "--max-class-drop",
        type=float,
        default=10.0,
        metavar="POINTS",
        help="accuracy that each class may lose, unless chance explains it (default 10)",
    )
    parser.add_argument(
        "--max-regression",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="accuracy that may be lost against --baseline, unless chance explains it (default 0.5)",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="of the drop's two-sided interval (default 0.95: either end alone holds with 0.975)",
    )
    parser.add_argument(
        "--min-agreement", type=float, metavar="SHARE", help="recordings on which both must choose the same class"
    )
    parser.add_argument(
        "--min-cpu-agreement",
        type=float,
        default=0.98,
        metavar="SHARE",
        help="with --backend: recordings on which NPU and CPU must choose the same class (default 0.98)",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="your recordings, others than INT8 was calibrated with (default: synthetic ones, cached)",
    )
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--protocol", metavar="NAME", help="split: compare on its test part (default: on all)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument(
        "--recordings", type=int, default=1000, metavar="N", help="recordings to compare on, at most (default 1000)"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice of recordings (default 0)")

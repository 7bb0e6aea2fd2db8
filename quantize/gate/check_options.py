"""Options of `python -m quantize check`. Loads nothing heavy."""

from __future__ import annotations

from pathlib import Path

from console.options import Parser, add_count, add_recordings, points, share
from runtime.npu import SNAPDRAGONS

_LIMITS = {
    "--max-drop": (1.0, "accuracy that may be lost"),
    "--max-class-drop": (10.0, "accuracy that each class may lose, unless chance explains it"),
    "--max-regression": (0.5, "accuracy that may be lost against --baseline, unless chance explains it"),
}
_FILES = {
    "--baseline": "compare with the answers of an earlier INT8 model",
    "--junit": "write JUnit XML, one test case for every rule",
    "--markdown": "write a summary for a pull request",
}


def add_check(parser: Parser) -> None:
    """Adds the options of `check`."""
    parser.add_argument("--float", type=Path, required=True, metavar="DIR", help="artifact of the float model")
    parser.add_argument("--int8", type=Path, nargs="+", required=True, metavar="DIR", help="artifact of the INT8 model")
    for side in ("float", "int8"):
        parser.add_argument(
            f"--{side}-runtime", metavar="NAME", help=f"runtime of --{side} (default: its format's first)"
        )
    for flag, (default, limit) in _LIMITS.items():
        text = f"{limit} (default {default:g})"
        parser.add_argument(flag, type=points, default=default, metavar="POINTS", help=text)
    parser.add_argument(
        "--confidence",
        type=share,
        default=0.95,
        metavar="SHARE",
        help="of the drop's two-sided interval (default 0.95: either end alone holds with 0.975)",
    )
    parser.add_argument(
        "--min-agreement", type=share, metavar="SHARE", help="recordings on which both must choose the same class"
    )
    add_recordings(
        parser, help="your recordings, none of which INT8 was calibrated with (default: synthetic ones, cached)"
    )
    add_count(parser, 1000)
    for flag, text in _FILES.items():
        parser.add_argument(flag, type=Path, metavar="FILE", help=text)
    parser.add_argument(
        "--update-baseline", action="store_true", help="write --baseline anew instead, if all other rules pass"
    )
    npu = parser.add_argument_group("emulator of an NPU")
    npu.add_argument(
        "--backend",
        choices=("qnn-htp",),
        help="compare float, INT8 on the CPU and INT8 in the emulator of Hexagon, Snapdragon's NPU; --int8 may then "
        "name several ONNX artifacts, e.g. of other recipes",
    )
    npu.add_argument(
        "--soc",
        choices=tuple(SNAPDRAGONS),
        default="SM8650",
        metavar="SOC",
        help="with --backend: the chip to emulate; their arithmetic differs a little (default SM8650)",
    )
    npu.add_argument(
        "--min-cpu-agreement",
        type=share,
        default=0.98,
        metavar="SHARE",
        help="with --backend: recordings on which NPU and CPU must choose the same class (default 0.98)",
    )

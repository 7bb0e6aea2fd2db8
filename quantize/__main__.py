"""`python -m quantize analyze|prune|finetune|qat|check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.options import (
    Parser,
    add_calibration,
    add_checkpoint,
    add_count,
    add_recordings,
    add_settings,
    amount,
    checked,
    points,
    positive,
    share,
)
from console.program import Command, make_program, run_as_main, run_program
from runtime.npu_chips import SNAPDRAGONS

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


def _analyze(parser: Parser) -> None:
    add_checkpoint(parser)
    add_recordings(parser)
    add_calibration(parser, count=64)
    add_count(parser, 32)
    parser.add_argument(
        "--form", choices=("split", "whole"), default="split", help="depthwise convolutions as for XNNPACK, or whole"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write analysis.json and analysis.png there")


def _prune(parser: Parser) -> None:
    add_checkpoint(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="pruned checkpoint, .npz")
    budget = parser.add_argument_group("budget", "one; or --macs, --parameters and --time together")
    budget.add_argument("--macs", type=share, metavar="SHARE", help="share of the multiply-accumulates that stays")
    budget.add_argument("--parameters", type=share, metavar="SHARE", help="share of the parameters that stays")
    budget.add_argument(
        "--time",
        type=share,
        metavar="SHARE",
        help="share of the estimated time that stays: MACs, those of depthwise convolutions twelvefold",
    )
    budget.add_argument("--size-mb", type=amount, metavar="MB", help="largest INT8 TFLite file; exports to measure it")
    budget.add_argument("--latency-ms", type=amount, metavar="MS", help="longest inference of that file, this machine")
    parser.add_argument(
        "--criterion",
        choices=("taylor", "magnitude", "scale"),
        default="taylor",
        help="score of a channel: change of the loss, size of the weights, or norms' factors (default taylor)",
    )
    parser.add_argument(
        "--multiple", type=positive, default=8, metavar="N", help="cut widths to multiples of N (default 8)"
    )
    parser.add_argument(
        "--floor", type=float, default=0.125, metavar="SHARE", help="least share of a width that stays (default 0.125)"
    )
    parser.add_argument(
        "--uniform", action="store_true", help="keep the same share of every width; no sensitivity scan"
    )
    parser.add_argument(
        "--samples", type=positive, metavar="N", help="recordings that score the channels (default 256, paper 32)"
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=1,
        metavar="N",
        help="prune in N steps and fine-tune after each (default 1, no training)",
    )
    _add_training(parser, required=False)


def _finetune(parser: Parser) -> None:
    _add_run(parser, "original (default: the demo that ships)")
    _add_training(parser, required=True)


def _qat(parser: Parser) -> None:
    _add_run(parser, "float model to follow (default: --checkpoint)")
    parser.add_argument(
        "--calibration", type=positive, default=256, metavar="N", help="recordings to calibrate with (default 256)"
    )
    _add_training(parser, required=True)


def _add_run(parser: Parser, teacher: str) -> None:
    add_checkpoint(parser, required=True, help="checkpoint to train")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help=teacher)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")


def _add_training(parser: Parser, *, required: bool) -> None:
    add_recordings(
        parser,
        required=required,
        protocol="x-sub",
        help="recordings" if required else "recordings (default: synthetic ones, cached; training needs your own)",
        protocol_help="split; its training part is used (default x-sub)",
        seed_help="seed of everything random (default 0)",
    )
    add_settings(parser, "training.epochs=5 or distillation.logits=2")


def _check(parser: Parser) -> None:
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
        type=_confidence,
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


def _confidence(text: str) -> float:
    return checked(text, float, lambda value: 0.5 <= value <= 0.9999, "a share from 0.5 to 0.9999, such as 0.95")


COMMANDS = (
    Command(
        "analyze",
        "rank layers by the noise that INT8 adds",
        "quantize.analysis:analyze_command",
        _analyze,
        "Compare the float and the INT8 graph tensor by tensor, and quantize every block alone.",
    ),
    Command(
        "prune",
        "remove channels: a smaller network, an ordinary checkpoint",
        "quantize.prune.prune:prune_command",
        _prune,
        "Remove the channels that matter least until a budget is met. With --steps, prune a little at a time and train "
        "in between.",
    ),
    Command(
        "finetune",
        "train a pruned checkpoint to answer as the original does",
        "quantize.recover.recovery:finetune_command",
        _finetune,
        "Train all of a checkpoint by distillation from the one it was made from (logits and features).",
    ),
    Command(
        "qat",
        "quantization-aware training: a checkpoint that bears INT8 better",
        "quantize.recover.recovery:qat_command",
        _qat,
        "Train a checkpoint with the rounding of INT8 in its graph (tensorflow-model-optimization). The result is an "
        "ordinary checkpoint; export it as any other.",
    ),
    Command(
        "check",
        "accuracy gate: is an INT8 artifact as good as the float one? exit code 1 if not",
        "quantize.gate.check:check_command",
        _check,
        "Run two artifacts on the same recordings. Exit code 0 when the recordings show that INT8 loses no more than "
        "it may, 1 when it loses more or the recordings are too few to decide.",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    return make_program(
        "quantize", "Make the recogniser smaller, and measure the cost of that and of quantization.", COMMANDS
    )


def main(argv: list[str] | None = None) -> int:
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

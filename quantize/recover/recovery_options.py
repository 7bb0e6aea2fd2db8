"""Options of `python -m quantize prune`, `finetune` and `qat`. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.program import add_common_options


def add_prune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `prune`."""
    parser = commands.add_parser(
        "prune",
        help="remove channels: a smaller network, an ordinary checkpoint",
        description="Remove the channels that matter least until a budget is met. With --steps, prune a little at a "
        "time and train in between.",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="pruned checkpoint, .npz")
    budget = parser.add_argument_group("budget", "one; or --macs, --parameters and --time together")
    budget.add_argument("--macs", type=float, metavar="SHARE", help="share of the multiply-accumulates that stays")
    budget.add_argument("--parameters", type=float, metavar="SHARE", help="share of the parameters that stays")
    budget.add_argument(
        "--time",
        type=float,
        metavar="SHARE",
        help="share of the estimated time that stays: MACs, those of depthwise convolutions twelvefold",
    )
    budget.add_argument("--size-mb", type=float, metavar="MB", help="largest INT8 TFLite file; exports to find out")
    budget.add_argument("--latency-ms", type=float, metavar="MS", help="longest inference of that file on this machine")
    parser.add_argument(
        "--criterion",
        choices=("taylor", "magnitude", "scale"),
        default="taylor",
        help="what tells how much a channel matters: change of the loss, weights, or norms' factors (default taylor)",
    )
    parser.add_argument(
        "--multiple", type=int, default=8, metavar="N", help="widths that are cut become multiples of N (8)"
    )
    parser.add_argument(
        "--floor", type=float, default=0.125, metavar="SHARE", help="least share of a width that stays (default 0.125)"
    )
    parser.add_argument(
        "--uniform",
        action="store_true",
        help="the same share of every width stays, and no sensitivity is measured",
    )
    parser.add_argument("--samples", type=int, metavar="N", help="recordings to judge channels by (256, paper 32)")
    parser.add_argument(
        "--steps",
        type=int,
        default=1,
        metavar="N",
        help="prune in N steps and fine-tune after each (default 1, no training)",
    )
    _add_training(parser, data_required=False)


def add_finetune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `finetune`."""
    parser = commands.add_parser(
        "finetune",
        help="train a pruned checkpoint to answer as the original does",
        description="Train all of a checkpoint by distillation from the one it was made from (logits and features).",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint to train")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="original (default: the demo that ships)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    _add_training(parser, data_required=True)


def add_qat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command `qat`."""
    parser = commands.add_parser(
        "qat",
        help="quantization-aware training: a checkpoint that bears INT8 better",
        description="Train a checkpoint with the rounding of INT8 in its graph (tensorflow-model-optimization). The "
        "result is an ordinary checkpoint; export it as any other.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint to train")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="float model to follow (default: --checkpoint)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--calibration", type=int, default=256, metavar="N", help="recordings to calibrate with (256)")
    _add_training(parser, data_required=True)


def _add_training(parser: argparse.ArgumentParser, *, data_required: bool) -> None:
    default = "" if data_required else " (default: synthetic ones, cached; training needs your own)"
    parser.add_argument("--data", type=Path, required=data_required, metavar="DIR", help=f"recordings{default}")
    parser.add_argument("--protocol", default="x-sub", metavar="NAME", help="split; its training part is used (x-sub)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PART.FIELD=VALUE",
        help="constants of training, e.g. training.epochs=5 distillation.features=0; may be repeated",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run that --out holds")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--missing-list", type=Path, metavar="FILE", help="NTU's list of recordings without skeleton")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default 0)")
    add_common_options(parser)
    parser.set_defaults(handler=_run)


def _run(options: argparse.Namespace) -> None:
    from . import recovery_commands

    handlers = {
        "prune": recovery_commands.prune_command,
        "finetune": recovery_commands.finetune_command,
        "qat": recovery_commands.qat_command,
    }
    handlers[options.command](options)

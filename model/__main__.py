"""`python -m model train|evaluate|init`."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.program import add_common_options, make_parser, run_as_main, run_program


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("model", "Train the recogniser on recordings and evaluate it.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_init(commands)
    return parser


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Where recordings come from; shared by every command that reads some."""
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--missing-list", type=Path, metavar="FILE", help="NTU's list of recordings without skeleton")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default 0)")


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "train",
        help="train visual, audio and fusion",
        description="Train the visual stream, the audio stream, then their fusion (paper, appendix B).",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings (NTU or MSR)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--preset", choices=("nano", "paper"), default="paper", help="size of the model")
    _add_architecture(parser)
    parser.add_argument(
        "--inputs",
        choices=("nano", "paper"),
        help="input sizes of another preset: train small first, go on with --init at full size",
    )
    parser.add_argument(
        "--layer-scale",
        type=float,
        metavar="X",
        help="initial LayerScale (default 1e-6 for paper, as published, 0.1 for nano); a short training needs 0.1",
    )
    parser.add_argument(
        "--protocol",
        default="x-sub",
        metavar="NAME",
        help="split: x-sub, x-view, 60/20/20, 60/20/20-subject or all (default x-sub)",
    )
    parser.add_argument(
        "--init",
        default="random",
        metavar="random|imagenet|FILE",
        help="initial weights; of a checkpoint those that fit",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PART.FIELD=VALUE",
        help="change a constant, e.g. visual.epochs=30 (parts: visual, audio, fusion, skeleton_augmentation, "
        "audio_augmentation)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_data_options(parser)
    add_common_options(parser)
    parser.set_defaults(handler=_train)


def _add_architecture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--visual-depth", type=int, choices=(18, 34, 50), default=50, help="depth of the ResNet")
    parser.add_argument("--audio-norm", choices=("layer", "batch"), default="layer", help="ConvNeXt's normalisation")


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="accuracy of a checkpoint on recordings",
        description="Accuracy with its 95 % interval, per class, and the confusion matrix.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings (NTU or MSR)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo)")
    parser.add_argument("--protocol", metavar="NAME", help="evaluate the test part of this split (default: all)")
    parser.add_argument("--stream", choices=("fused", "visual", "audio"), default="fused", help="which classifier")
    parser.add_argument("--drop", choices=("skeleton", "audio"), help="evaluate the fused model without this input")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write evaluation.json and confusion.png there")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="recordings per batch (default 32)")
    add_data_options(parser)
    add_common_options(parser)
    parser.set_defaults(handler=_evaluate)


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "init",
        help="write an untrained checkpoint, to study cost, size and time",
        description="Write a checkpoint with random weights for NTU's 60 classes. Its cost, size and speed are those "
        "of a trained one; its answers carry no meaning.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="checkpoint, .npz")
    parser.add_argument("--preset", choices=("nano", "paper"), default="paper", help="size of the model")
    _add_architecture(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the weights (default 0)")
    add_common_options(parser)
    parser.set_defaults(handler=_init)


def _train(options: argparse.Namespace) -> None:
    from .commands import train_command

    train_command(options)


def _evaluate(options: argparse.Namespace) -> None:
    from .commands import evaluate_command

    evaluate_command(options)


def _init(options: argparse.Namespace) -> None:
    from .commands import init_command

    init_command(options)


def main(argv: list[str] | None = None) -> int:
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

"""`python -m model train|evaluate|init`."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.options import Parser, add_checkpoint, add_recordings, add_settings, amount, seed
from console.program import Command, make_program, run_as_main, run_program


def _initial(text: str) -> str | Path:
    return text if text in ("random", "imagenet") else Path(text)


def _add_network(parser: Parser) -> None:
    parser.add_argument("--preset", choices=("nano", "paper"), default="paper", help="size of the model")
    parser.add_argument("--visual-depth", type=int, choices=(18, 34, 50), default=50, help="depth of the ResNet")
    parser.add_argument("--audio-norm", choices=("layer", "batch"), default="layer", help="ConvNeXt's normalisation")


def _add_train(parser: Parser) -> None:
    add_recordings(
        parser,
        required=True,
        protocol="x-sub",
        help="folder of recordings (NTU or MSR)",
        protocol_help="split: x-sub, x-view, 60/20/20, 60/20/20-subject or all (default x-sub)",
        seed_help="seed of weights, order, augmentation and dropout (default 0)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    _add_network(parser)
    parser.add_argument(
        "--inputs",
        choices=("nano", "paper"),
        help="input sizes of another preset: train small first, continue with --init at full size",
    )
    parser.add_argument(
        "--layer-scale",
        type=amount,
        metavar="X",
        help="initial LayerScale (default 1e-6 for paper, as published, 0.1 for nano); a short training needs 0.1",
    )
    parser.add_argument(
        "--init",
        type=_initial,
        default="random",
        metavar="random|imagenet|FILE",
        help="initial weights; of a checkpoint, all that fit",
    )
    add_settings(parser, "visual.epochs=30")


def _add_evaluate(parser: Parser) -> None:
    add_recordings(
        parser,
        required=True,
        help="folder of recordings (NTU or MSR)",
        protocol_help="evaluate the test part of this split (default: all recordings)",
        seed_help="seed of the split (default 0)",
    )
    add_checkpoint(parser)
    parser.add_argument("--stream", choices=("fused", "visual", "audio"), default="fused", help="which classifier")
    parser.add_argument("--drop", choices=("skeleton", "audio"), help="evaluate the fused model without this input")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write evaluation.json and confusion.png there")


def _add_init(parser: Parser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="checkpoint, .npz")
    _add_network(parser)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the weights (default 0)")


COMMANDS = (
    Command(
        "train",
        "train visual, audio and fusion",
        "model.train:train_command",
        _add_train,
        "Train the visual stream, the audio stream, then their fusion (paper, appendix B).",
    ),
    Command(
        "evaluate",
        "accuracy of a checkpoint on recordings",
        "model.evaluation:evaluate_command",
        _add_evaluate,
        "Accuracy with its 95 % interval, per class, and the confusion matrix.",
    ),
    Command(
        "init",
        "write an untrained checkpoint, to study cost, size and time",
        "model.checkpoint:init_command",
        _add_init,
        "Write a checkpoint with random weights for NTU's 60 classes. Cost, size and speed equal those of trained "
        "weights; its answers carry no meaning.",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    return make_program("model", "Train the recogniser on recordings and evaluate it.", COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

"""`python -m export tflite|onnx|npu`."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.options import Parser, add_calibration, add_checkpoint, add_count, add_recordings, amount, points
from console.program import Command, make_program, run_as_main, run_program
from runtime.npu_chips import CURRENT, SNAPDRAGONS

from .targets import TARGETS

_OF_RANDOM_WEIGHTS = {
    "--preset": (("nano", "paper"), "size of the model"),
    "--audio-norm": (("layer", "batch"), "ConvNeXt's normalisation"),
    "--stride-on": (("3x3", "1x1"), "ResNet's strides; 1x1 as in keras.applications"),
}


def _file(parser: Parser) -> None:
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--int8", action="store_true", help="recipe static_wi8_ai8: integers only (default: float32)"
    )
    precision.add_argument(
        "--recipe", metavar="NAME", help="any precision recipe, e.g. 'static_wi8_ai8+fp32(fusion/*)'"
    )
    precision.add_argument(
        "--max-drop",
        type=points,
        metavar="POINTS",
        help="search for the fastest recipe that loses at most POINTS of accuracy, as `quantize check` judges it; exit "
        "code 1 without one",
    )
    parser.add_argument(
        "--time-limit", type=amount, default=30, metavar="MIN", help="with --max-drop: minutes to search (default 30)"
    )
    parser.add_argument("--target", choices=tuple(TARGETS), help="kind of device (default: xnnpack for TFLite, x86)")
    _network(parser)


def _npu(parser: Parser) -> None:
    parser.add_argument(
        "--soc",
        action="append",
        choices=tuple(SNAPDRAGONS),
        metavar="SOC",
        help=f"processor, may be repeated: {', '.join(SNAPDRAGONS)} (default: {' '.join(CURRENT)})",
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "tflite"),
        help="compile only this file (default: ONNX, and TFLite if Qualcomm's libraries are installed)",
    )
    parser.add_argument(
        "--recipe", metavar="NAME", default="static_wi8_ai8", help="precision recipe (default static_wi8_ai8)"
    )
    parser.add_argument(
        "--require-full", action="store_true", help="exit code 1 unless all of it runs on the NPU, in one piece"
    )
    parser.add_argument(
        "--qairt",
        metavar="DIR",
        help="folder of Qualcomm's libraries for TFLite (default: ai-edge-litert-sdk-qualcomm's); onnxruntime-qnn for "
        "the libraries in that package, with a stand-in for one",
    )
    _network(parser)


def _network(parser: Parser) -> None:
    """Options of every kind of export: weights, recordings, calibration, and the folder of the result."""
    parser.add_argument(
        "--stream",
        choices=("fused", "visual", "audio"),
        default="fused",
        help="both streams and their fusion (default), or one stream with its own classifier",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--init", choices=("random",), help="random weights of --preset, to study cost without training"
    )
    for flag, (choices, text) in _OF_RANDOM_WEIGHTS.items():
        parser.add_argument(flag, choices=choices, help=f"with --init random: {text}")
    add_calibration(parser)
    add_recordings(parser, protocol_help="split: calibrate on its training part, verify on its test part")
    add_count(parser, None, help="recordings to verify on; with --max-drop as many others to choose the recipe on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the artifact (default: artifacts/NAME)")
    parser.add_argument("--force", action="store_true", help="replace the artifact if it exists")


COMMANDS = (
    Command("tflite", "TFLite, for LiteRT and tflite-runtime", "export.command:export_command", _file),
    Command("onnx", "ONNX, for ONNX Runtime", "export.command:export_command", _file),
    Command(
        "npu",
        "compiled for the NPU of Snapdragon processors, with a report of what runs there",
        "export.npu_compile:npu_command",
        _npu,
        "Compile the INT8 model for Hexagon, Snapdragon's NPU, and report which operations run there.",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    return make_program("export", "Turn a checkpoint into a verified model file for a device.", COMMANDS)


def main(argv: list[str] | None = None) -> int:
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

"""`python -m export tflite|onnx|npu`."""

from __future__ import annotations

import argparse
from pathlib import Path

from console.options import add_calibration
from console.program import add_common_options, make_parser, run_as_main, run_program
from runtime.npu.chips import CURRENT, SNAPDRAGONS

from .targets import TARGETS

FORMATS = {"tflite": "TFLite, for LiteRT and tflite-runtime", "onnx": "ONNX, for ONNX Runtime"}


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("export", "Turn a checkpoint into a verified model file for a device.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for file_format, description in FORMATS.items():
        _add_format(commands, file_format, description)
    _add_npu(commands)
    return parser


def _add_format(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], file_format: str, description: str
) -> None:
    parser = commands.add_parser(file_format, help=description, description=f"Export to {description}, and verify.")
    parser.add_argument("--int8", action="store_true", help="recipe static_wi8_ai8: integers only (default: float32)")
    parser.add_argument("--recipe", metavar="NAME", help="any precision recipe, e.g. 'static_wi8_ai8+fp32(fusion/*)'")
    parser.add_argument("--target", choices=tuple(TARGETS), help="kind of device (default: xnnpack for TFLite, x86)")
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="search for the fastest recipe that loses at most so many points of accuracy; exit code 1 without one",
    )
    parser.add_argument(
        "--time-limit", type=float, default=30, metavar="MIN", help="with --max-drop: minutes to search (default 30)"
    )
    _add_model(parser)
    parser.set_defaults(handler=_export, file_format=file_format)


def _add_npu(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "npu",
        help="compiled for the NPU of Snapdragon processors, with a report of what runs there",
        description="Compile the INT8 model for Hexagon, Snapdragon's NPU, and tell what of it runs there.",
    )
    parser.add_argument(
        "--soc",
        action="append",
        choices=tuple(SNAPDRAGONS),
        metavar="SOC",
        help=f"processor, once for each: {', '.join(SNAPDRAGONS)} (default: {' '.join(CURRENT)})",
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "tflite"),
        help="compile this file alone (default: ONNX, and TFLite where Qualcomm's libraries are there)",
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
        "those of that package, with a stand-in for one",
    )
    _add_model(parser)
    parser.set_defaults(handler=_export_npu, int8=False, target=None, max_drop=None, time_limit=0.0)


def _add_model(parser: argparse.ArgumentParser) -> None:
    """What every kind of export needs: weights, recordings, calibration, and where the result goes."""
    parser.add_argument(
        "--stream",
        choices=("fused", "visual", "audio"),
        default="fused",
        help="the whole recogniser (default), or one stream with its own classifier",
    )
    add_calibration(parser)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--preset", choices=("nano", "paper"), help="with --init random: size of the model")
    parser.add_argument(
        "--init", choices=("random",), help="random weights of --preset, to study cost without training"
    )
    parser.add_argument("--audio-norm", choices=("layer", "batch"), help="with --init random: ConvNeXt's normalisation")
    parser.add_argument(
        "--stride-on", choices=("3x3", "1x1"), help="with --init random: ResNet's strides; 1x1 as in keras.applications"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--protocol", metavar="NAME", help="split: calibrate on its training part, verify on its test")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument("--recordings", type=int, metavar="N", help="recordings to verify on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the artefact (default: artifacts/NAME)")
    parser.add_argument("--force", action="store_true", help="replace the artefact if it exists")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice of recordings (default 0)")
    add_common_options(parser)


def _export(options: argparse.Namespace) -> None:
    from .commands import export_command

    export_command(options)


def _export_npu(options: argparse.Namespace) -> None:
    from .npu.npu_command import npu_command

    npu_command(options)


def main(argv: list[str] | None = None) -> int:
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

"""`python -m android_bench`: artifacts on phones and boards."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.__main__ import COMPARE
from console.options import checked
from console.program import Command, make_program, run_as_main, run_program

from .protocol import duration

TOOLS = ("har_run", "benchmark_model", "onnxruntime_perf_test")


def threads(text: str) -> int:
    """Argument type: a number of threads that a phone may have."""
    return checked(text, int, lambda value: 1 <= value <= 64, "a whole number from 1 to 64")


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        nargs="+",
        required=True,
        metavar="DEVICE",
        help="adb://SERIAL (adb:// if one is connected), ssh://USER@HOST or local://; several one after another",
    )
    parser.add_argument(
        "--artifact", type=Path, required=True, metavar="DIR", help="folder that `python -m export` wrote"
    )
    parser.add_argument(
        "--tool", choices=TOOLS, help="program that measures (default: har_run for TFLite, else onnxruntime_perf_test)"
    )
    parser.add_argument(
        "--tool-path",
        type=Path,
        metavar="PATH",
        help="that program for the device, or a folder with programs and libraries such as "
        "android_aarch64_benchmark_model",
    )
    parser.add_argument("--accelerator", choices=("cpu", "gpu", "npu"), default="cpu", help="accelerator (default cpu)")
    parser.add_argument(
        "--threads", type=threads, default=4, metavar="N", help="threads, on the fastest cores (default 4)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="five short processes (default)")
    length.add_argument("--official", action="store_true", help="1,024 samples and 60 s at least, 90th percentile")
    length.add_argument(
        "--sustained", type=duration, metavar="TIME", help="run 30m, say, without a break, with a curve"
    )
    parser.add_argument("--profile", action="store_true", help="time every operation, in an additional process")
    parser.add_argument("--keep", action="store_true", help="leave the files on the device for the next run")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the record there, for `compare`; several: FILE-1, FILE-2 …"
    )


COMMANDS = (
    Command(
        "devices",
        "phones that adb lists: processor, cores, memory, battery, temperature",
        "android_bench.device_table:devices_command",
        description="List the devices that adb knows, with the facts that matter for a benchmark.",
    ),
    Command(
        "run",
        "measure an artifact on devices",
        "android_bench.run:run_on_devices",
        _run_options,
        "Copy an artifact and a tool to each device, measure, and remove them again.",
    ),
    COMPARE,
)


def build_parser() -> argparse.ArgumentParser:
    return make_program("android_bench", "Measure artifacts on phones (adb), boards (ssh) and this machine.", COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

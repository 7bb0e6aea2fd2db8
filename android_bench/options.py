"""Commands and options of `python -m android_bench`. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from benchmarks.options import add_compare
from console.program import finish_command

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
TOOLS = ("har_run", "benchmark_model", "onnxruntime_perf_test")


def add_devices(commands: Commands) -> None:
    """Adds the command `devices`."""
    parser = commands.add_parser(
        "devices",
        help="phones that adb sees: processor, cores, memory, battery, temperature",
        description="List the devices that adb sees, with what matters for a benchmark.",
    )
    finish_command(parser, "android_bench.devices", "devices_command")


def add_run(commands: Commands) -> None:
    """Adds the command `run`."""
    parser = commands.add_parser(
        "run",
        help="measure an artefact on devices",
        description="Copy an artefact and a tool to each device, measure, and remove them again.",
    )
    parser.add_argument(
        "--target",
        nargs="+",
        required=True,
        metavar="DEVICE",
        help="adb://SERIAL (adb:// where one is connected), ssh://USER@HOST or local://; several one after another",
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
    parser.add_argument("--accelerator", choices=("cpu", "gpu", "npu"), default="cpu", help="what is to run it (cpu)")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="threads, on the fastest cores (default 4)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="five short processes (default)")
    length.add_argument("--official", action="store_true", help="1,024 samples and 60 s at least, 90th percentile")
    length.add_argument("--sustained", metavar="TIME", help="without a break for 30m or so, with the curve")
    parser.add_argument("--profile", action="store_true", help="time every operation, in a process of its own")
    parser.add_argument("--keep", action="store_true", help="leave the files on the device for the next run")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the record there, for `compare`; several: FILE-1, FILE-2 …"
    )
    finish_command(parser, "android_bench.run", "run_command")


COMMANDS = (add_devices, add_run, add_compare)

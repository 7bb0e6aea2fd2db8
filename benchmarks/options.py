"""Commands and options of `python -m benchmarks`. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from console.options import add_checkpoint
from console.program import Command, finish_command

from .measure.commands import COMPARE, LATENCY

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Parser: TypeAlias = argparse.ArgumentParser
RESULTS = Path(__file__).parent / "results"


def _add(commands: Commands, command: Command) -> None:
    parser = commands.add_parser(command.name, help=command.help, description=command.description)
    command.options(parser)
    parser.set_defaults(parser=parser)
    finish_command(parser, *command.handler.split(":"))


def add_latency(commands: Commands) -> None:
    """Adds the command `latency`."""
    _add(commands, LATENCY)


def add_compare(commands: Commands) -> None:
    """Adds the command `compare`."""
    _add(commands, COMPARE)


def add_table1(commands: Commands) -> None:
    """Adds the command `table1`."""
    parser = commands.add_parser(
        "table1",
        help="cost, size, memory and latency of all streams and precisions beside the paper's Table 1",
        description="Export every stream in float32, INT8 and pruned INT8, measure them in turn, and show them beside "
        "the paper's Table 1.",
    )
    _add_variants(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the order (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the result there as JSON")
    finish_command(parser, "benchmarks.studies.table1", "table1_command")


def add_table2(commands: Commands) -> None:
    """Adds the command `table2`."""
    parser = commands.add_parser(
        "table2",
        help="accuracy of single streams and of the fused model beside the paper's Table 2",
        description="Run artefacts of single streams and of the fused model on the same recordings.",
    )
    parser.add_argument("artifacts", nargs="+", metavar="[NAME=]DIR", help="artefacts of one data set, one for a row")
    _add_data(parser, RESULTS / "table2.json", "result file")
    finish_command(parser, "benchmarks.studies.table2", "table2_command")


def add_ablation(commands: Commands) -> None:
    """Adds the command `ablation`."""
    parser = commands.add_parser(
        "ablation",
        help="accuracy of every class with both inputs, without sound and without skeleton",
        description="Run an artefact with both inputs and with each sensor failing; confusion matrices are drawn.",
    )
    parser.add_argument("artifacts", nargs=1, metavar="[NAME=]DIR", help="artefact")
    _add_data(parser, RESULTS / "ablation.json", "result file; plots go beside it")
    finish_command(parser, "benchmarks.studies.ablation", "ablation_command")


def add_robustness(commands: Commands) -> None:
    """Adds the command `robustness`."""
    parser = commands.add_parser(
        "robustness",
        help="accuracy under noise, reverberation, lost joints, bad timing and failing sensors",
        description="Run artefacts on the same recordings, clean and corrupted in known ways.",
    )
    parser.add_argument("artifacts", nargs="+", metavar="[NAME=]DIR", help="artefacts; the others against the first")
    _add_data(parser, RESULTS / "robustness.json", "result file; a plot goes beside it")
    finish_command(parser, "benchmarks.studies.robustness", "robustness_command")


def add_peers(commands: Commands) -> None:
    """Adds the command `peers`."""
    parser = commands.add_parser(
        "peers",
        help="our files against what others' tools make of the same network",
        description="Export the same checkpoint with others' tools and compare accuracy, time, size and memory.",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--calibration", type=int, default=256, metavar="N", help="recordings to calibrate with (256)")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="timed rounds (default 50)")
    parser.add_argument("--folder", type=Path, default=Path("runs/peers"), metavar="DIR", help="artefacts (runs/peers)")
    _add_data(parser, RESULTS / "peers.json", "result file")
    finish_command(parser, "benchmarks.studies.peers", "peers_command")


def add_report(commands: Commands) -> None:
    """Adds the command `report`."""
    parser = commands.add_parser(
        "report",
        help="one HTML page: tables, plots, robustness, time and noise by layer",
        description="Measure a checkpoint's files and write one self-contained HTML page with its pictures.",
    )
    _add_variants(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    parser.add_argument("--protocol", metavar="NAME", help="split of --data: its test part is used (default: all)")
    parser.add_argument(
        "--corrupted", type=int, default=300, metavar="N", help="recordings of the robustness curves (default 300)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of orders and corruptions (default 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the page and its pictures")
    finish_command(parser, "benchmarks.report.report", "report_command")


def add_figure(commands: Commands) -> None:
    """Adds the command `figure`."""
    _add(commands, FIGURE)


def _figure_options(parser: Parser) -> None:
    parser.add_argument(
        "--recording",
        default="S003C002P019R001A003",
        metavar="NAME",
        help="name of the recording (default S003C002P019R001A003)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    add_checkpoint(parser)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/figure"), metavar="DIR", help="artifacts, kept for the next time"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PNG file")


FIGURE = Command(
    "figure",
    "picture of one recording: files, model inputs, and answers of each stream alone and of both",
    "benchmarks.studies.figure:figure_command",
    _figure_options,
)
COMMANDS = (
    add_table1,
    add_table2,
    add_ablation,
    add_robustness,
    add_peers,
    add_report,
    add_figure,
    add_latency,
    add_compare,
)


def _add_variants(parser: Parser) -> None:
    """What `benchmarks.studies.variants` reads, and how it is timed."""
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--pruned", type=Path, metavar="FILE", help="the same, pruned (default: pruned here to half)")
    parser.add_argument("--preset", choices=("nano", "paper"), help="random weights of this size, for cost alone")
    parser.add_argument("--audio-norm", choices=("layer", "batch"), default="batch", help="with --preset (batch)")
    parser.add_argument("--calibration", type=int, metavar="N", help="recordings to calibrate with")
    parser.add_argument("--recordings", type=int, metavar="N", help="recordings to verify accuracy on")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/table1"),
        metavar="DIR",
        help="artefacts, kept for the next time (runs/table1)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads (default 1)")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="timed rounds, 10 or more (default 50)")


def _add_data(parser: Parser, out: Path, out_help: str) -> None:
    """What `benchmarks.studies.artifacts.choose_recordings` reads, and where the result goes."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder of the WAVs, where they are not below --data")
    parser.add_argument("--protocol", metavar="NAME", help="split of --data: its test part is used (default: all)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad recording does")
    parser.add_argument("--recordings", type=int, default=500, metavar="N", help="recordings, at most (default 500)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that prepare inputs (default 2)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the choice and of all corruptions (0)"
    )
    parser.add_argument("--out", type=Path, default=out, metavar="FILE", help=f"{out_help} (default {out.name})")

"""`python -m benchmarks`: measurements of artifacts that end as JSON with provenance. Loads nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from console.options import (
    add_calibration,
    add_checkpoint,
    add_count,
    add_recordings,
    add_settings,
    add_timing,
    checked,
    positive,
    rounds,
    seed,
    share,
)
from console.program import Command, make_program, run_as_main, run_program
from runtime.npu_chips import CURRENT, SNAPDRAGONS

Parser = argparse.ArgumentParser
_RESULTS = Path(__file__).parent / "results"
_SEED_HELP = "seed of the choice of recordings, of orders and corruptions (default 0)"


def _add(parser: Parser, flag: str, default: Any, metavar: str, help: str, **more: Any) -> None:
    """An option whose help ends with its default."""
    parser.add_argument(flag, default=default, metavar=metavar, help=f"{help} (default {default})", **more)


def _add_out(parser: Parser, default: str | None, help: str = "result file") -> None:
    path = _RESULTS / default if default else None
    help = f"{help} (default {default})" if default else help
    parser.add_argument("--out", type=Path, default=path, metavar="FILE", help=help)


def _add_folder(parser: Parser, name: str) -> None:
    _add(parser, "--folder", Path("runs") / name, "DIR", "artifacts and intermediate results, kept", type=Path)


def _add_preset(parser: Parser, help: str = "random weights of this size instead of a checkpoint") -> None:
    parser.add_argument("--preset", choices=("nano", "paper"), help=help)


def _artifact_options(nargs: int | str, out: str, out_help: str = "result file") -> Any:
    """Artifacts on recordings: the options of `benchmarks.studies.conditions.ask_under_conditions`."""

    def add(parser: Parser) -> None:
        parser.add_argument("artifacts", nargs=nargs, metavar="[NAME=]DIR", help="folder that `python -m export` wrote")
        add_recordings(parser, seed_help=_SEED_HELP)
        add_count(parser, 500)
        _add_out(parser, out, out_help)

    return add


def _variant_options(parser: Parser) -> None:
    """The options of `benchmarks.studies.paper_tables.make_artifacts`, and of the timing."""
    add_checkpoint(parser)
    parser.add_argument("--pruned", type=Path, metavar="FILE", help="the same, pruned (default: pruned here to half)")
    _add_preset(parser, "random weights of this size, for cost alone")
    _add(parser, "--audio-norm", "batch", "NORM", "with --preset: layer or batch", choices=("layer", "batch"))
    add_calibration(parser)
    add_recordings(parser, seed_help=_SEED_HELP)
    add_count(parser, None, "recordings to verify accuracy on")
    _add_folder(parser, "table1")
    add_timing(parser)


def _table1_options(parser: Parser) -> None:
    _variant_options(parser)
    _add_out(parser, None, "write the result there as JSON")


def _report_options(parser: Parser) -> None:
    _variant_options(parser)
    _add(parser, "--corrupted", 300, "N", "recordings of the robustness curves", type=positive)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the page and its pictures")


def _peers_options(parser: Parser) -> None:
    add_checkpoint(parser)
    add_calibration(parser, count=256)
    add_recordings(parser, seed_help=_SEED_HELP)
    add_count(parser, 500)
    add_timing(parser)
    _add_folder(parser, "peers")
    _add_out(parser, "peers.json")


def _accuracy_options(parser: Parser) -> None:
    add_checkpoint(parser)
    add_calibration(parser)
    add_count(parser, 2000, "recordings")
    _add(parser, "--analyzed", 32, "N", "recordings of the noise analysis", type=positive)
    _add_out(parser, "demo.json")


def _pruning_options(parser: Parser) -> None:
    add_checkpoint(parser)
    add_recordings(
        parser,
        required=True,
        protocol="all",
        help="recordings to train on",
        protocol_help="split; its training part is used (default all)",
        seed_help="seed of training (default 0)",
    )
    _add(parser, "--shares", (0.75, 0.5, 0.35, 0.25, 0.2), "X", "shares of the MACs left", nargs="+", type=share)
    parser.add_argument(
        "--also",
        nargs="+",
        choices=("parameters", "time"),
        default=[],
        metavar="MEASURE",
        help="leave the same shares of the parameters, or of the estimated time, or both (parameters, time)",
    )
    _add(parser, "--multiple", 8, "N", "widths are multiples of N", type=positive)
    add_calibration(parser)
    add_count(parser, 2000, "unseen recordings to verify on")
    add_settings(parser, "training.epochs=5", resume=False)
    add_timing(parser)
    _add_folder(parser, "pruning")
    _add_out(parser, "pruning.json", "result file; a plot goes beside it")


def _qairt(text: str) -> Path | str:
    """Argument type: the libraries of a package, or a folder."""
    return text if text == "onnxruntime-qnn" else Path(text)


def _npu_options(parser: Parser) -> None:
    add_checkpoint(parser)
    _add_preset(parser)
    parser.add_argument("--recipe", action="append", metavar="NAME", help="precision recipe; may be repeated")
    parser.add_argument(
        "--soc", action="append", choices=tuple(SNAPDRAGONS), metavar="SOC", help=f"default: {' '.join(CURRENT)}"
    )
    parser.add_argument("--qairt", type=_qairt, metavar="DIR", help="as for `python -m export npu`")
    add_calibration(parser)
    add_count(parser, 200, "recordings in the emulator")
    _add_out(parser, "npu-demo.json")


def _preprocessing_options(parser: Parser) -> None:
    _add(parser, "--preset", "paper", "NAME", "paper or nano", choices=("paper", "nano"))
    _add(parser, "--runs", 100, "N", "timed runs of each", type=positive)
    parser.add_argument("--library", type=Path, metavar="FILE", help="libpocket_har.so (default: that in build/native)")
    _add(parser, "--seed", 0, "N", "seed of the recording", type=seed)
    _add_out(parser, "preprocessing.json")


def _figure_options(parser: Parser) -> None:
    _add(parser, "--recording", "S003C002P019R001A003", "NAME", "name of the recording")
    parser.add_argument("--data", type=Path, metavar="DIR", help="your recordings (default: synthetic ones, cached)")
    add_checkpoint(parser)
    _add_folder(parser, "figure")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PNG file")


def _readme_options(parser: Parser) -> None:
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 when they differ")


def _slowdown(text: str) -> float:
    """Argument type: a factor, 1 or more."""
    return checked(text, float, lambda value: value >= 1, "1 or more; 1.1 allows 10 % more time")


def _noise(text: str) -> float:
    """Argument type: a share, 0 or more and below 1."""
    return checked(text, float, lambda value: 0 <= value < 1, "a share, 0 or more and below 1")


def _latency_options(parser: Parser) -> None:
    parser.add_argument("artifacts", nargs="+", metavar="[NAME=]DIR", help="folders that `python -m export` wrote")
    parser.add_argument(
        "--runtime",
        nargs="+",
        choices=("litert", "tflite-runtime", "onnxruntime"),
        metavar="NAME",
        help="litert, tflite-runtime, onnxruntime: those that can read the file (default: its first)",
    )
    parser.add_argument("--threads", type=positive, nargs="+", default=[1], metavar="N", help="threads (default 1)")
    _add(parser, "--rounds", 50, "N", "timed rounds, 10 or more", type=rounds)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="recordings to feed (default: the golden ones of the first artifact)"
    )
    _add(parser, "--recordings", 10, "N", "recordings of --data", type=positive)
    _add(parser, "--seed", 0, "N", "seed of order and choice", type=seed)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record there, for `compare`")


def _compare_options(parser: Parser) -> None:
    parser.add_argument("before", type=Path, metavar="BEFORE", help="record that `--out` wrote")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another, of another commit")
    parser.add_argument(
        "--max-slowdown",
        type=_slowdown,
        metavar="X",
        help="exit code 1 when a subject takes, with 95 %% confidence, more than X times as long; 1.1 allows 10 %%",
    )
    _add(parser, "--noise", 0.05, "X", "relative difference between two runs of one file on this machine", type=_noise)


COMPARE = Command(
    "compare",
    "changes between two records of one machine or device, subject by subject",
    "benchmarks.measure.compare:compare_command",
    _compare_options,
)


COMMANDS = (
    Command(
        "table1",
        "cost, size, memory and latency of all streams and precisions beside the paper's Table 1",
        "benchmarks.studies.paper_tables:TABLE_1",
        _table1_options,
    ),
    Command(
        "table2",
        "accuracy of single streams and of the fused model beside the paper's Table 2",
        "benchmarks.studies.paper_tables:TABLE_2",
        _artifact_options("+", "table2.json"),
    ),
    Command(
        "ablation",
        "accuracy of every class with both inputs, without sound and without skeleton",
        "benchmarks.studies.robustness:ABLATION",
        _artifact_options(1, "ablation.json", "result file; plots go beside it"),
    ),
    Command(
        "robustness",
        "accuracy under noise, reverberation, lost joints, bad timing and failing sensors",
        "benchmarks.studies.robustness:ROBUSTNESS",
        _artifact_options("+", "robustness.json", "result file; a plot goes beside it"),
        "Run artifacts on the same recordings, clean and corrupted in known ways; the others against the first.",
    ),
    Command(
        "peers",
        "our files against those of others' tools from the same network",
        "benchmarks.studies.peers:PEERS",
        _peers_options,
    ),
    Command(
        "accuracy",
        "accuracy of a checkpoint and of the artifacts made from it, and the noise of INT8",
        "benchmarks.studies.accuracy:ACCURACY",
        _accuracy_options,
    ),
    Command(
        "pruning",
        "accuracy, size and latency for several shares of MACs left by pruning",
        "benchmarks.studies.pruning:PRUNING",
        _pruning_options,
        "Prune, train and export at several budgets, and compare. A killed run continues in its --folder.",
    ),
    Command(
        "npu",
        "placement and arithmetic on Snapdragon's NPU, by compiler and emulator",
        "benchmarks.studies.npu_accuracy:NPU",
        _npu_options,
    ),
    Command(
        "preprocessing",
        "time of the preprocessing in NumPy, C++ and librosa on one thread",
        "benchmarks.studies.preprocessing:PREPROCESSING",
        _preprocessing_options,
    ),
    Command(
        "report",
        "one self-contained HTML page of a checkpoint's files: tables, plots, robustness, time and noise by layer",
        "benchmarks.report.report:report_command",
        _report_options,
    ),
    Command(
        "figure",
        "picture of one recording: files, model inputs, and answers of each stream alone and of both",
        "benchmarks.studies.figure:figure_command",
        _figure_options,
    ),
    Command(
        "readme",
        "write the tables of the documents from the result files",
        "benchmarks.report.readme:readme_command",
        _readme_options,
    ),
    Command(
        "latency",
        "latency and memory of artifacts side by side, each in its own process",
        "benchmarks.measure.latency:latency_command",
        _latency_options,
    ),
    COMPARE,
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `python -m benchmarks`."""
    return make_program("benchmarks", "Measure artifacts; results are JSON files with their provenance.", COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    return run_program(build_parser(), argv)


if __name__ == "__main__":
    run_as_main(build_parser())

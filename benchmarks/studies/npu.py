"""Snapdragon's NPU without a phone: what of a model runs there on which chip, and what its arithmetic makes of it.

Runs the project's own commands, as a user would, and keeps what they print as JSON. No time is in it: an emulator's
means nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from console.program import make_parser, run_as_main, show, show_json
from console.table import format_table
from runtime.npu.chips import CURRENT, SNAPDRAGONS

from ..commands import call
from ..measure.provenance import provenance
from ..measure.result_files import interval_text, write_result
from .accuracy import RESULTS, SEED

PACKAGES = ("numpy", "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "onnxruntime-qnn")
RECIPES = ("static_wi8_ai8", "static_wi8_ai8+ai16(audio/*,fusion/*)", "static_wi8_ai16")
NOTE = "TFLite compiled with the libraries inside onnxruntime-qnn and a stand-in for libQnnLpai.so"


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "benchmarks.studies.npu", "Placement and arithmetic on Snapdragon's NPU, by compiler and emulator."
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--preset", choices=("nano", "paper"), help="random weights of that size, with batch norm")
    parser.add_argument(
        "--recipe", action="append", metavar="NAME", help=f"once for each (default: {' '.join(RECIPES)})"
    )
    parser.add_argument(
        "--soc", action="append", choices=tuple(SNAPDRAGONS), metavar="SOC", help=f"default: {' '.join(CURRENT)}"
    )
    parser.add_argument("--qairt", metavar="DIR", help="as for `python -m export npu`")
    parser.add_argument("--recordings", type=int, default=200, metavar="N", help="in the emulator (default 200)")
    parser.add_argument("--calibration", type=int, metavar="N", help="recordings to calibrate with")
    parser.add_argument("--out", type=Path, default=RESULTS / "npu-demo.json", metavar="FILE", help="result file")
    parser.add_argument("--json", action="store_true", help="print the result file instead of a table")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    recipes, socs = options.recipe or list(RECIPES), options.soc or list(CURRENT)
    count = str(options.recordings)
    model = ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
    model += ["--preset", options.preset, "--init", "random", "--audio-norm", "batch"] if options.preset else []
    calibrated = ["--calibration", str(options.calibration)] if options.calibration else []
    chips = [word for soc in socs for word in ("--soc", soc)]
    qairt = ["--qairt", options.qairt] if options.qairt else []
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        reference = f"{folder}/float"
        call("export", "onnx", *model, "--recordings", count, "--out", reference)
        exports = {}
        for index, recipe in enumerate(recipes):
            words = [*model, *calibrated, "--recordings", count, "--recipe", recipe, *chips, *qairt]
            exports[recipe] = call("export", "npu", *words, "--out", f"{folder}/{index}", fails=True)
        data = f"{folder}/recordings"
        call("recordings", "synthesize", "--out", data, "--count", count, "--seed", str(SEED))
        compared = [f"{folder}/{index}/onnx" for index in range(len(recipes))]
        fidelity = call(
            "quantize",
            "check",
            "--float",
            reference,
            "--int8",
            *compared,
            "--backend",
            "qnn-htp",
            "--data",
            data,
            "--recordings",
            count,
            fails=True,
        )
    for export in exports.values():
        del export["artifact"]  # where it lay on this machine is no result
    document = {
        "provenance": provenance(_command(options), packages=PACKAGES),
        "seed": SEED,
        "random_weights": bool(options.preset),
        "exports": exports,
        "fidelity": fidelity,
    }
    write_result(document, options.out)
    if options.json:
        show_json(document)
    else:
        show(npu_table(document))


def _command(options: argparse.Namespace) -> str:
    words = ["python -m benchmarks.npu"]
    words += [f"--checkpoint {options.checkpoint.name}"] if options.checkpoint else []
    words += [f"--preset {options.preset}"] if options.preset else []
    words += [f"--recipe '{recipe}'" for recipe in options.recipe or ()]
    words += [f"--soc {soc}" for soc in options.soc or ()]
    words += [f"--qairt {'onnxruntime-qnn' if options.qairt == 'onnxruntime-qnn' else 'DIR'}"] if options.qairt else []
    words += [f"--calibration {options.calibration}"] if options.calibration else []
    return " ".join([*words, f"--recordings {options.recordings}"])


def npu_table(document: dict[str, Any]) -> str:
    """What runs where, then float, CPU and emulator side by side."""
    return f"{placement_table(document)}\n\n{fidelity_table(document)}"


def placement_table(document: dict[str, Any]) -> str:
    """By recipe and chip: operations on the NPU, pieces, the chip that the binary names, its size."""
    rows, stand_in = [], False
    for recipe, export in document["exports"].items():
        stand_in |= export["stand_in_libraries"]
        for own in export["compiled"]:
            placed, binary = own["placement"], own["compiled_for"]
            rows.append(
                [
                    f"{recipe}, {own['format'].replace('onnx', 'ONNX').replace('tflite', 'TFLite')}",
                    f"{own['soc']} ({SNAPDRAGONS[own['soc']].name})",
                    f"{placed['npu_ops']} of {placed['total_ops']}",
                    str(placed["partitions"]),
                    f"{binary['soc']}, v{binary['arch']}",
                    f"{own['size_bytes'] / 1e6:.2f} MB",
                ]
            )
    header = ["recipe and file", "chip", "operations on the NPU", "pieces", "binary says", "size"]
    return format_table(header, rows) + (f"\n{NOTE}" if stand_in else "")


def fidelity_table(document: dict[str, Any]) -> str:
    """Float, and every recipe on the CPU and in the emulator; classes of random weights mean nothing: left out."""
    found, by_class = document["fidelity"], not document["random_weights"]
    rows = [["float", interval_text(found["float"]) if by_class else "random weights", "", "", "", ""]]
    for own in found["models"]:
        hexagon = own["hexagon"]["comparison"]
        between = own["hexagon_against_cpu"]
        entries = (
            ("CPU", own["cpu"], own["cpu"]["drop"], own["cpu"]["agreement"], own["cpu"]["snr_db"], None),
            ("Hexagon", hexagon["int8"], hexagon["drop"], hexagon["agreement"], hexagon["snr_db"], between),
        )
        for where, score, drop, same, level, against in entries:
            rows.append(
                [
                    f"{own['recipe']}, {where}",
                    interval_text(score) if by_class else "",
                    f"{drop['points']:.2f}" if by_class else "",
                    f"{100 * same:.1f} %" if by_class else "",
                    f"{level:.1f} dB",
                    _between(against, by_class=by_class),
                ]
            )
    header = ["recipe", "accuracy [95 % interval]", "points lost", "same class as float", "SNR", "Hexagon against CPU"]
    return format_table(header, rows, title=_title(found))


def _title(found: dict[str, Any]) -> str:
    chip = f"{SNAPDRAGONS[found['soc']].name}, {found['soc']}"
    return f"Hexagon's emulator ({chip}) on {found['recordings']} recordings"


def _between(against: dict[str, float] | None, *, by_class: bool) -> str:
    if against is None:
        return ""
    classes = f"{100 * against['agreement']:.1f} %, " if by_class else ""
    return f"{classes}{against['snr_db']:.1f} dB"


if __name__ == "__main__":
    run_as_main(build_parser())

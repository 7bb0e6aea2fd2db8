"""`python -m benchmarks npu`: placement on Snapdragon's NPU by the compiler, accuracy in the emulator.

It runs the project's own commands, as a user would, and keeps the JSON that they print. There are no times: those of an
emulator mean nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from console.child import run_command
from console.options import forward
from console.table import format_table
from runtime.npu_chips import CURRENT, SNAPDRAGONS

from .accuracy import SEED, synthesized
from .paper_tables import CALIBRATION
from .study import Study, score_of

PACKAGES = ("numpy", "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "onnxruntime-qnn")
RECIPES = ("static_wi8_ai8", "static_wi8_ai8+ai16(audio/*,fusion/*)", "static_wi8_ai16")
_STAND_IN = "TFLite compiled with the libraries inside onnxruntime-qnn and a stand-in for libQnnLpai.so"


def measure_npu(options: argparse.Namespace) -> dict[str, Any]:
    """Compiles every recipe for every chip and asks the emulator. Raises DataError where a command failed."""
    recipes, socs = options.recipe or list(RECIPES), options.soc or list(CURRENT)
    count = ["--recordings", str(options.recordings)]
    model = forward(options, "checkpoint", "preset")
    model += ["--init", "random", "--audio-norm", "batch"] if options.preset else []
    chips = [word for soc in socs for word in ("--soc", soc)]
    words = [*model, *forward(options, *CALIBRATION, "qairt"), *count, *chips]
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        run_command("export", "onnx", *model, *count, "--out", f"{folder}/float")
        exports = {
            recipe: run_command(
                "export", "npu", *words, "--recipe", recipe, "--out", f"{folder}/{index}", may_answer_no=True
            )
            for index, recipe in enumerate(recipes)
        }
        compared = ["--float", f"{folder}/float", "--int8", *(f"{folder}/{i}/onnx" for i in range(len(recipes)))]
        data = ["--data", synthesized(Path(folder), options.recordings)]
        fidelity = run_command(
            "quantize", "check", *compared, "--backend", "qnn-htp", *data, *count, may_answer_no=True
        )
    for export in exports.values():
        del export["artifact"]  # a path of this machine is no result
    return {"seed": SEED, "random_weights": bool(options.preset), "exports": exports, "fidelity": fidelity}


def npu_text(document: dict[str, Any]) -> str:
    """The placement of every file, then float, CPU and emulator side by side."""
    return f"{npu_placement_table(document)}\n\n{fidelity_table(document)}"


def npu_placement_table(document: dict[str, Any]) -> str:
    """By recipe and chip: operations on the NPU, pieces, the chip that the binary names, its size."""
    rows, stand_in = [], False
    for recipe, export in document["exports"].items():
        stand_in |= export["stand_in_libraries"]
        for file in export["compiled"]:
            placement, binary = file["placement"], file["compiled_for"]
            rows.append(
                [
                    f"{recipe}, {file['format'].replace('onnx', 'ONNX').replace('tflite', 'TFLite')}",
                    file["soc"],
                    f"{placement['npu_ops']} of {placement['total_ops']}",
                    str(placement["partitions"]),
                    f"{binary['soc']}, v{binary['arch']}",
                    f"{file['size_bytes'] / 1e6:.2f} MB",
                ]
            )
    header = ["recipe and file", "chip", "on the NPU", "pieces", "binary says", "size"]
    return format_table(header, rows) + (f"\n{_STAND_IN}" if stand_in else "")


def fidelity_table(document: dict[str, Any]) -> str:
    """Float, and every recipe on the CPU and in the emulator; without classes where the weights are random."""
    fidelity, by_class = document["fidelity"], not document["random_weights"]
    rows = [["float", str(score_of(fidelity["float"])) if by_class else "random weights", "", "", ""]]
    for model in fidelity["models"]:
        cpu, emulated = model["cpu"], model["hexagon"]["comparison"]
        between = model["hexagon_against_cpu"]
        same = f"{100 * between['agreement']:.1f} %, " if by_class else ""
        entries = (("CPU", cpu, cpu, ""), ("NPU", emulated["int8"], emulated, f"{same}{between['snr_db']:.1f} dB"))
        for where, score, comparison, against in entries:
            classes = [str(score_of(score)), f"{100 * comparison['agreement']:.1f} %"] if by_class else ["", ""]
            rows.append([f"{model['recipe']}, {where}", *classes, f"{comparison['snr_db']:.1f} dB", against])
    header = ["recipe", "accuracy [95 %]", "agree", "SNR", "as the CPU"]
    chip = f"{SNAPDRAGONS[fidelity['soc']].name}, {fidelity['soc']}"
    title = f"Hexagon's emulator ({chip}) on {fidelity['recordings']} recordings"
    return format_table(header, rows, title=title)


NPU = Study("npu", measure_npu, npu_text, packages=PACKAGES)

"""`python -m benchmarks accuracy` and `npu`: accuracy of a checkpoint's artifacts in runtimes and on Snapdragon's NPU.

Both run the project's own commands, as a user would, and keep the JSON that they print. `accuracy` has the artifacts in
every runtime and the noise of INT8; `npu` has the compiler's placement of each file on each chip and the accuracy of
the NPU's arithmetic in the emulator, but no times: an emulator's mean nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from console.child import run_command
from console.options import forward
from console.table import format_table
from runtime.manifest import file_sha256
from runtime.npu import CURRENT, SNAPDRAGONS

from .paper_tables import CALIBRATION, DEMO
from .study import Study, score_of

# Also the seed of the recordings on which `python -m export` verifies by default.
SEED = 9001
PACKAGES = ("numpy", "tensorflow", "tf-keras", "ai-edge-litert", "tflite-runtime", "onnx", "tf2onnx", "onnxruntime")
NPU_PACKAGES = ("numpy", "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "onnxruntime-qnn")
RECIPES = ("static_wi8_ai8", "static_wi8_ai8+ai16(audio/*,fusion/*)", "static_wi8_ai16")
_STAND_IN = "TFLite compiled with the libraries inside onnxruntime-qnn and a stand-in for libQnnLpai.so"
EVALUATIONS = {
    "fused": ["--stream", "fused"],
    "visual": ["--stream", "visual"],
    "audio": ["--stream", "audio"],
    "fused without sound": ["--drop", "audio"],
    "fused without skeleton": ["--drop", "skeleton"],
}
EXPORTS = {
    "TFLite float32": ["tflite"],
    "TFLite INT8": ["tflite", "--int8"],
    "ONNX float32": ["onnx"],
    "ONNX INT8": ["onnx", "--int8"],
}


def measure_accuracy(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluates, exports and analyses. Raises DataError where a command failed."""
    count = ["--recordings", str(options.recordings)]
    chosen = forward(options, "checkpoint")
    calibrated = [*chosen, *forward(options, *CALIBRATION)]
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        data = synthesized(Path(folder), options.recordings)
        evaluations = {
            name: run_command("model", "evaluate", "--data", data, *chosen, *words)
            for name, words in EVALUATIONS.items()
        }
        exports = {
            name: run_command("export", *words, *calibrated, *count, "--out", f"{folder}/{name}", may_answer_no=True)
            for name, words in EXPORTS.items()
        }
        analysis = run_command("quantize", "analyze", *calibrated, "--recordings", str(options.analyzed))
    # Paths of this machine are no result; the document has the checkpoint's hash.
    for export in exports.values():
        del export["artifact"]
    for evaluation in evaluations.values():
        del evaluation["checkpoint"]
    return {
        "seed": SEED,
        "recordings": options.recordings,
        "checkpoint": _history(options.checkpoint or DEMO),
        "evaluations": evaluations,
        "exports": exports,
        "analysis": {key: analysis[key] for key in ("recordings", "logits_snr_db", "parts", "blocks")},
    }


def synthesized(folder: Path, count: int) -> str:
    """The folder of `count` recordings with which nothing was trained or calibrated."""
    data = str(folder / "recordings")
    run_command("recordings", "synthesize", "--out", data, "--count", str(count), "--seed", str(SEED))
    return data


def _history(checkpoint: Path) -> dict[str, Any]:
    """The hash of a checkpoint and the history of its training."""
    with np.load(checkpoint, allow_pickle=False) as arrays:
        history: dict[str, Any] = json.loads(arrays["history.json"].tobytes().decode())
    known = ("command", "seed", "recordings", "tensorflow")
    return {"sha256": file_sha256(checkpoint), **{key: history[key] for key in known if key in history}}


def accuracy_text(document: dict[str, Any]) -> str:
    """Accuracy of the streams, every artifact in every runtime, and each part's share of the noise of INT8."""
    accuracy = "accuracy [95 %]"
    streams = [[name, str(score_of(entry))] for name, entry in document["evaluations"].items()]
    parts = [[part, f"{100 * share:.1f} %"] for part, share in document["analysis"]["parts"].items()]
    exports = [
        [
            f"{name}, {runtime}",
            f"{export['size_bytes'] / 1e6:.2f} MB",
            str(score_of(entry)),
            f"{100 * entry['agreement']:.1f} %",
            f"{entry['snr_db']:.1f} dB",
        ]
        for name, export in document["exports"].items()
        for runtime, entry in export["verification"]["runtimes"].items()
    ]
    tables = [
        format_table(["float model", accuracy], streams),
        format_table(["artifact", "size", accuracy, "agreement", "logits' SNR"], exports),
        format_table(["quantized alone", "share of the noise"], parts),
    ]
    return "\n\n".join(tables)


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


NPU = Study("npu", measure_npu, npu_text, packages=NPU_PACKAGES)
ACCURACY = Study("accuracy", measure_accuracy, accuracy_text, packages=PACKAGES)

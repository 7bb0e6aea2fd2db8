"""`python -m benchmarks accuracy`: accuracy of a checkpoint and its artifacts in every runtime, and the noise of INT8.

It runs the project's own commands, as a user would, and keeps the JSON that they print.
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

from .paper_tables import CALIBRATION, DEMO
from .study import Study, score_of

# Also the seed of the recordings on which `python -m export` verifies by default.
SEED = 9001
PACKAGES = ("numpy", "tensorflow", "tf-keras", "ai-edge-litert", "tflite-runtime", "onnx", "tf2onnx", "onnxruntime")
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


ACCURACY = Study("accuracy", measure_accuracy, accuracy_text, packages=PACKAGES)

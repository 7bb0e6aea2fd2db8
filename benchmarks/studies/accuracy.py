"""Accuracy of a checkpoint on unseen subjects, of every artefact made from it, and where INT8 adds its noise.

Runs the project's own commands, as a user would, and keeps what they print as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from console.program import make_parser, run_as_main, show, show_json
from console.table import format_table
from runtime.manifest import file_sha256

from ..commands import call
from ..measure.provenance import provenance
from ..measure.result_files import write_result
from .variants import DEMO

RESULTS = Path(__file__).parents[1] / "results"
# Also the seed of the recordings on which `python -m export` verifies when it is given none.
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


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.studies.accuracy", "Accuracy of a checkpoint and of the artefacts made from it.")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--recordings", type=int, default=2000, metavar="N", help="recordings (default 2000)")
    parser.add_argument("--calibration", type=int, metavar="N", help="recordings to calibrate with")
    parser.add_argument("--analyzed", type=int, default=32, metavar="N", help="recordings of the noise analysis (32)")
    parser.add_argument("--out", type=Path, default=RESULTS / "demo.json", metavar="FILE", help="result file")
    parser.add_argument("--json", action="store_true", help="print the result file instead of a table")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    count = str(options.recordings)
    chosen = ["--checkpoint", str(options.checkpoint)] if options.checkpoint else []
    calibrated = ["--calibration", str(options.calibration)] if options.calibration else []
    with tempfile.TemporaryDirectory(prefix="pocket-har-") as folder:
        data = f"{folder}/recordings"
        call("recordings", "synthesize", "--out", data, "--count", count, "--seed", str(SEED))
        evaluations = {name: call("model", "evaluate", "--data", data, *chosen, *w) for name, w in EVALUATIONS.items()}
        exports = {
            name: call(
                "export", *words, *chosen, *calibrated, "--recordings", count, "--out", f"{folder}/{index}", fails=True
            )
            for index, (name, words) in enumerate(EXPORTS.items())
        }
        analysis = call("quantize", "analyze", *chosen, *calibrated, "--recordings", str(options.analyzed))
    # Where files lay on this machine is no result; the document has the checkpoint's hash.
    for export in exports.values():
        del export["artifact"]
    for evaluation in evaluations.values():
        del evaluation["checkpoint"]
    words = [f"python -m benchmarks.accuracy --recordings {count} --analyzed {options.analyzed}"]
    words += [f"--checkpoint {options.checkpoint.name}"] if options.checkpoint else []
    words += calibrated
    document = {
        "provenance": provenance(" ".join(words), packages=PACKAGES),
        "seed": SEED,
        "recordings": options.recordings,
        "checkpoint": _history(options.checkpoint),
        "evaluations": evaluations,
        "exports": exports,
        "analysis": {key: analysis[key] for key in ("recordings", "logits_snr_db", "parts", "blocks")},
    }
    write_result(document, options.out)
    if options.json:
        show_json(document)
    else:
        show(accuracy_table(document))
        show("")
        show(export_table(document))
        show("")
        show(noise_table(document))


def _history(checkpoint: Path | None) -> dict[str, Any]:
    """How the checkpoint was trained, as it says itself."""
    path = checkpoint or DEMO
    with np.load(path, allow_pickle=False) as arrays:
        history: dict[str, Any] = json.loads(arrays["history.json"].tobytes().decode())
    known = ("command", "seed", "recordings", "tensorflow")
    return {"sha256": file_sha256(path), **{key: history[key] for key in known if key in history}}


def accuracy_table(document: dict[str, Any]) -> str:
    """Accuracy of the streams with 95 % intervals."""
    rows = [[name, _accuracy(entry)] for name, entry in document["evaluations"].items()]
    return format_table(["float model", "accuracy [95 % interval]"], rows)


def noise_table(document: dict[str, Any]) -> str:
    """What each part of the network adds to the noise of the INT8 logits."""
    rows = [[part, f"{100 * share:.1f} %"] for part, share in document["analysis"]["parts"].items()]
    return format_table(["quantized alone", "share of the noise"], rows)


def export_table(document: dict[str, Any]) -> str:
    """Every artefact in every runtime."""
    rows = [
        [
            f"{name}, {runtime}",
            f"{export['size_bytes'] / 1e6:.2f} MB",
            _accuracy(entry),
            f"{100 * entry['agreement']:.1f} %",
            f"{entry['snr_db']:.1f} dB",
        ]
        for name, export in document["exports"].items()
        for runtime, entry in export["verification"]["runtimes"].items()
    ]
    return format_table(["artefact", "size", "accuracy [95 % interval]", "agreement with float", "logits' SNR"], rows)


def _accuracy(entry: dict[str, Any]) -> str:
    low, high = entry["interval95"]
    return f"{100 * entry['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    run_as_main(build_parser())

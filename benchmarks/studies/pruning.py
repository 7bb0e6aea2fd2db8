"""`python -m benchmarks pruning`: accuracy, size and latency against the share of MACs that pruning leaves.

A chain of the project's own commands: each point is pruned from the one before and trained to answer as the original
does, then exported in float32 and in INT8 and verified on unseen recordings. A killed run continues in its --folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.child import run_command
from console.options import forward
from console.plot import new_figure, save_png
from console.table import format_table
from runtime.artifact import Artifact
from runtime.manifest import file_sha256

from ..measure.runner import Contender, time_in_turn
from ..measure.statistics import timing_entry
from .paper_tables import CALIBRATION, DEMO, RECORDINGS
from .study import Study, claim_folder, score_of, write_result

PRECISIONS = {"float32": (), "INT8": ("--int8",)}
PACKAGES = ("numpy", "tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert")


def measure_pruning(options: argparse.Namespace) -> dict[str, Any]:
    """Prunes, trains, exports and times.

    Raises:
        UsageError: --folder has results of other options.
        DataError: a command failed, or a file could not be timed.
    """
    origin = file_sha256(options.checkpoint or DEMO)
    effective = (*RECORDINGS, "shares", "also", "multiple", "settings", "set", *CALIBRATION, "recordings")
    claim_folder(options.folder, {"options": forward(options, *effective), "checkpoint": origin})
    points, files = [], []
    previous: Path | None = options.checkpoint
    left: dict[str, float] = {}
    for share in (1.0, *sorted(set(options.shares) - {1.0}, reverse=True)):
        folder = options.folder / f"{share:g}"
        checkpoint = previous if share == 1 else _pruned(options, previous, share, left, folder)
        exports = {name: _exported(options, checkpoint, folder / name, words) for name, words in PRECISIONS.items()}
        points.append({"share": share, "exports": exports})
        files += [Contender(Artifact.open(folder / name, name=f"{share:g} {name}")) for name in PRECISIONS]
        unpruned = points[0]["exports"]["float32"]
        left = {name: exports["float32"][name] / unpruned[name] for name in ("macs", "parameters")}
        previous = checkpoint
    latencies = [inference_ms for _, inference_ms in time_in_turn(files, rounds=options.rounds, seed=0)]
    base = latencies[1]  # the unpruned INT8 file
    for index, point in enumerate(points):
        for offset, name in enumerate(PRECISIONS):
            point["exports"][name]["latency"] = timing_entry(latencies[2 * index + offset], base)
    return {"points": points}


def _pruned(
    options: argparse.Namespace, checkpoint: Path | None, share: float, left: dict[str, float], folder: Path
) -> Path:
    """The checkpoint pruned to `share` of the original, of which it has the shares `left`, and trained."""
    data = forward(options, "data", "audio", "missing_list", "on_error", "workers")
    data += ["--protocol", options.protocol, "--seed", str(options.seed)]
    pruned, run = folder / "pruned.npz", folder / "run"
    result = run / "checkpoint.npz"
    if not pruned.exists():
        start = ["--checkpoint", str(checkpoint)] if checkpoint else []
        widths = ["--multiple", str(options.multiple)]
        # The command's shares are of its checkpoint; the time that is left is not in the results, but near the MACs.
        for name in ("macs", *options.also):
            widths += [f"--{name}", f"{min(1.0, share / left.get(name, left['macs'])):.6f}"]
        run_command("quantize", "prune", *start, *widths, "--out", str(pruned), *data)
    if not result.exists():
        teacher = ["--teacher", str(options.checkpoint)] if options.checkpoint else []
        out = ["--out", str(run), "--resume"]
        settings = forward(options, "settings", "set")
        run_command("quantize", "finetune", "--checkpoint", str(pruned), *teacher, *out, *data, *settings)
    return result


def _exported(
    options: argparse.Namespace, checkpoint: Path | None, out: Path, words: tuple[str, ...]
) -> dict[str, Any]:
    """The results of an export; those of a finished one are read again."""
    known = out.with_suffix(".json")
    if not known.exists():
        start = ["--checkpoint", str(checkpoint)] if checkpoint else []
        start += [*forward(options, *CALIBRATION), "--recordings", str(options.recordings)]
        export = run_command("export", "tflite", *words, *start, "--out", str(out), "--force", may_answer_no=True)
        verification, cost = export["verification"], export["cost"]["fused"]
        litert = verification["runtimes"]["litert"]
        result = {
            "macs": cost["macs"],
            "parameters": cost["parameters"],
            "size_bytes": export["size_bytes"],
            "float_accuracy": verification["float"],
            **{key: litert[key] for key in ("accuracy", "interval95", "agreement", "snr_db", "count")},
        }
        write_result(result, known)
    loaded: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
    return loaded


def pruning_table(document: dict[str, Any]) -> str:
    """A row for every point: cost, size, accuracy and latency; ratios to the unpruned INT8 file."""
    rows = []
    all_macs = document["points"][0]["exports"]["float32"]["macs"]
    for point in document["points"]:
        exact, coarse = (point["exports"][name] for name in PRECISIONS)
        latency = coarse["latency"]
        rows.append(
            [
                f"{exact['macs'] / 1e6:.1f} M ({exact['macs'] / all_macs:.0%})",
                f"{exact['parameters'] / 1e6:.2f} M",
                f"{coarse['size_bytes'] / 1e6:.2f} MB",
                f"{100 * exact['accuracy']:.1f} %",
                str(score_of(coarse)),
                f"{latency['median_ms']:.2f} ms, {1 / latency['ratio']:.2f}×",
            ]
        )
    header = ["MACs", "parameters", "INT8 file", "float accuracy", "INT8 accuracy [95 %]", "INT8 latency, 1 thread"]
    return format_table(header, rows)


def draw_pruning(document: dict[str, Any], path: Path) -> None:
    """PNG: accuracy against MACs, file size and latency, float32 and INT8."""
    figure = new_figure(12, 4)
    measures: dict[str, Callable[[dict[str, Any]], float]] = {
        "MACs, M": lambda export: export["macs"] / 1e6,
        "file, MB": lambda export: export["size_bytes"] / 1e6,
        "latency, ms (1 thread)": lambda export: export["latency"]["median_ms"],
    }
    for axes, (label, value) in zip(figure.subplots(1, 3, sharey=True), measures.items(), strict=True):
        for name, colour in zip(PRECISIONS, ("#6c757d", "#1f77b4"), strict=True):
            exports = [point["exports"][name] for point in document["points"]]
            accuracy = [100 * export["accuracy"] for export in exports]
            bars = [[100 * abs(export["accuracy"] - export["interval95"][i]) for export in exports] for i in (0, 1)]
            places = [value(export) for export in exports]
            axes.errorbar(places, accuracy, bars, marker="o", color=colour, label=name, capsize=3)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy on unseen subjects, %")
    figure.axes[0].legend(frameon=False, loc="lower right")
    save_png(figure, path.with_suffix(".png"))


PRUNING = Study("pruning", measure_pruning, pruning_table, packages=PACKAGES, draw=draw_pruning)

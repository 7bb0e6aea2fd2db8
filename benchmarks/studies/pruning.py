"""Accuracy, size and latency against the share of MACs that pruning leaves: `python -m benchmarks.pruning --data DIR`.

A chain of the project's own commands: each point is pruned from the one before and trained to answer as the original
does, then exported in float32 and in INT8 and verified on unseen recordings. Killed, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.files import atomic_file
from console.plot import require_matplotlib
from console.program import add_common_options, make_parser, run_as_main, show, show_json
from console.table import format_table
from preprocess.errors import UsageError
from runtime.manifest import file_sha256

from ..commands import call
from ..measure.provenance import provenance
from ..measure.result_files import claim_folder, write_result
from ..measure.runner import Contender, time_in_turn
from ..measure.statistics import timing_entry

RESULT = Path(__file__).parents[1] / "results" / "pruning.json"
SHARES = (0.75, 0.5, 0.35, 0.25, 0.2)
PRECISIONS = {"float32": (), "INT8": ("--int8",)}
PACKAGES = ("numpy", "tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert")
SCHEMA_VERSION = 1


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmarks.studies.pruning", "Prune, train and export at several budgets, and compare.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="recordings to train on")
    parser.add_argument("--protocol", default="all", metavar="NAME", help="split of --data (default all)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint (default: the demo that ships)")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, metavar="X", help="shares of the MACs left")
    parser.add_argument(
        "--also",
        nargs="+",
        choices=("parameters", "time"),
        default=[],
        metavar="MEASURE",
        help="leave the same shares of the parameters, or of the estimated time, or both (parameters, time)",
    )
    parser.add_argument("--multiple", type=int, default=8, metavar="N", help="widths are multiples of N (default 8)")
    parser.add_argument("--recordings", type=int, default=2000, metavar="N", help="unseen recordings (default 2000)")
    parser.add_argument("--calibration", type=int, metavar="N", help="recordings to calibrate with")
    parser.add_argument("--set", action="append", default=[], metavar="PART.FIELD=VALUE", help="as for finetune")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of training (default 1)")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="timed rounds (default 50)")
    parser.add_argument("--folder", type=Path, default=Path("runs/pruning"), metavar="DIR", help="intermediate results")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE", help="result file; a plot goes beside it")
    add_common_options(parser)
    parser.set_defaults(handler=_run)
    return parser


def _run(options: argparse.Namespace) -> None:
    require_matplotlib()
    shares = sorted(set(options.shares), reverse=True)
    if not all(0 < share < 1 for share in shares):
        raise UsageError(f"--shares are {shares}; use numbers between 0 and 1")
    origin = file_sha256(options.checkpoint) if options.checkpoint else "demo"
    claim_folder(options.folder, {"command": _command(options, shares), "checkpoint": origin})
    points, files = [], []
    previous: Path | None = options.checkpoint
    before: dict[str, float] = {}
    for share in (1.0, *shares):
        folder = options.folder / f"{share:g}"
        checkpoint = previous if share == 1 else _pruned(options, previous, share, before, folder)
        exports = {name: _exported(options, checkpoint, folder / name, words) for name, words in PRECISIONS.items()}
        points.append({"share": share, "exports": exports})
        files += [Contender(f"{share:g} {name}", folder / name / "model.tflite", "litert") for name in PRECISIONS]
        whole = points[0]["exports"]["float32"]
        before = {name: exports["float32"][name] / whole[name] for name in ("macs", "parameters")}
        previous = checkpoint
    latencies = [times.inference_ms for times in time_in_turn(files, rounds=options.runs, seed=0)]
    base = latencies[1]  # the unpruned INT8 file
    for index, point in enumerate(points):
        for offset, name in enumerate(PRECISIONS):
            point["exports"][name]["latency"] = timing_entry(latencies[2 * index + offset], base)
    document = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "pruning",
        "provenance": provenance(_command(options, shares), packages=PACKAGES),
        "points": points,
    }
    write_result(document, options.out)
    draw(document, options.out.with_suffix(".png"))
    if options.json:
        show_json(document)
    else:
        show(pruning_table(document))


def _pruned(
    options: argparse.Namespace, checkpoint: Path | None, share: float, before: dict[str, float], folder: Path
) -> Path:
    """The checkpoint pruned to `share` of the whole, of which it has the shares `before`, and trained."""
    data = ["--data", str(options.data), "--protocol", options.protocol, "--seed", str(options.seed)]
    pruned, run = folder / "pruned.npz", folder / "run"
    result = run / "checkpoint.npz"
    if not pruned.exists():
        start = ["--checkpoint", str(checkpoint)] if checkpoint else []
        widths = ["--multiple", str(options.multiple)]
        # A command's shares are of what there is; the time that is left is not in the results, but near the MACs.
        for name in ("macs", *options.also):
            widths += [f"--{name}", f"{min(1.0, share / before.get(name, before['macs'])):.6f}"]
        call("quantize", "prune", *start, *widths, "--out", str(pruned), *data)
    if not result.exists():
        teacher = ["--teacher", str(options.checkpoint)] if options.checkpoint else []
        settings = [word for assignment in options.set for word in ("--set", assignment)]
        words = ["--checkpoint", str(pruned), *teacher, "--out", str(run), "--resume", *data, *settings]
        call("quantize", "finetune", *words)
    return result


def _exported(
    options: argparse.Namespace, checkpoint: Path | None, out: Path, words: tuple[str, ...]
) -> dict[str, Any]:
    """What is known of an export; a finished one is read again."""
    known = out.with_suffix(".json")
    if not known.exists():
        start = ["--checkpoint", str(checkpoint)] if checkpoint else []
        start += ["--calibration", str(options.calibration)] if options.calibration else []
        recordings = ["--recordings", str(options.recordings)]
        found = call("export", "tflite", *words, *start, *recordings, "--out", str(out), "--force", fails=True)
        verification = found["verification"]
        litert = verification["runtimes"]["litert"]
        document = {
            "macs": found["cost"]["fused"]["macs"],
            "parameters": found["cost"]["fused"]["parameters"],
            "size_bytes": found["size_bytes"],
            "float_accuracy": verification["float"],
            **{key: litert[key] for key in ("accuracy", "interval95", "agreement", "snr_db", "count")},
        }
        with atomic_file(known) as temporary:
            temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    loaded: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
    return loaded


def _command(options: argparse.Namespace, shares: list[float]) -> str:
    words = [f"python -m benchmarks.pruning --data DIR --shares {' '.join(f'{own:g}' for own in shares)}"]
    words += [f"--checkpoint {options.checkpoint.name}"] if options.checkpoint else []
    words += [f"--protocol {options.protocol}"] if options.protocol != "all" else []
    words += [f"--calibration {options.calibration}"] if options.calibration else []
    words += [f"--also {' '.join(options.also)}"] if options.also else []
    words += [f"--multiple {options.multiple} --recordings {options.recordings} --seed {options.seed}"]
    return " ".join([*words, *(f"--set {assignment}" for assignment in options.set)])


def pruning_table(document: dict[str, Any]) -> str:
    """A row for every point: cost, size, accuracy and latency; ratios to the unpruned INT8 file."""
    rows = []
    whole = document["points"][0]["exports"]["float32"]["macs"]
    for point in document["points"]:
        exact, coarse = (point["exports"][name] for name in PRECISIONS)
        low, high = coarse["interval95"]
        latency = coarse["latency"]
        rows.append(
            [
                f"{exact['macs'] / 1e6:.1f} M ({exact['macs'] / whole:.0%})",
                f"{exact['parameters'] / 1e6:.2f} M",
                f"{coarse['size_bytes'] / 1e6:.2f} MB",
                f"{100 * exact['accuracy']:.1f} %",
                f"{100 * coarse['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
                f"{latency['median_ms']:.2f} ms, {1 / latency['ratio']:.2f}×",
            ]
        )
    header = ["MACs", "parameters", "INT8 file", "float accuracy", "INT8 accuracy [95 %]", "INT8 latency, 1 thread"]
    return format_table(header, rows)


def draw(document: dict[str, Any], path: Path) -> None:
    """PNG: accuracy against MACs, file size and latency, float32 and INT8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    measures: dict[str, Callable[[dict[str, Any]], float]] = {
        "MACs, M": lambda own: own["macs"] / 1e6,
        "file, MB": lambda own: own["size_bytes"] / 1e6,
        "latency, ms (1 thread)": lambda own: own["latency"]["median_ms"],
    }
    for axes, (label, value) in zip(figure.subplots(1, 3, sharey=True), measures.items(), strict=True):
        for name, colour in zip(PRECISIONS, ("#6c757d", "#1f77b4"), strict=True):
            own = [point["exports"][name] for point in document["points"]]
            accuracy = [100 * entry["accuracy"] for entry in own]
            bars = [[100 * abs(entry["accuracy"] - entry["interval95"][i]) for entry in own] for i in (0, 1)]
            axes.errorbar(
                [value(entry) for entry in own], accuracy, bars, marker="o", color=colour, label=name, capsize=3
            )
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy on unseen subjects, %")
    figure.axes[0].legend(frameon=False, loc="lower right")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


if __name__ == "__main__":
    run_as_main(build_parser())

"""`python -m benchmarks table1` and `table2`: the paper's Tables 1 and 2 beside measurements of artifacts.

Table 1: cost, size, memory and time of every stream and precision. Parameters and multiply-accumulates are counted from
each file's own graph and must equal those of the configuration. Table 2: accuracy of single streams (ResNets of three
depths and ConvNeXt, `python -m export tflite --stream`) and of the fused model, all on the same recordings.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any, TypeAlias

from console.child import run_command
from console.options import forward
from console.program import log
from console.table import format_table
from preprocess.errors import DataError, UsageError
from runtime.artifact import Artifact, open_artifacts
from runtime.manifest import MANIFEST_NAME, Manifest, file_sha256
from runtime.paper import PAPER_DATA_SETS, PAPER_TABLE_1, PAPER_TABLE_2

from ..graph.file_cost import GraphCost, graph_cost
from ..measure.latency import PACKAGES
from ..measure.statistics import ratio_of_medians, summarize
from .conditions import CLEAN, ask_under_conditions
from .study import Study, claim_folder, score_of, timed

STREAMS = ("visual", "audio", "fused")
PRECISIONS = ("float32", "INT8", "pruned INT8")
RUNTIME = "litert"
# Title, header and rows: text.
Table: TypeAlias = tuple[str, tuple[str, ...], list[list[str]]]
# What ships: the demo, and the demo pruned to half of its MACs and trained again.
_DEMOS = Path(__file__).resolve().parents[2] / "model" / "demo"
DEMO, PRUNED_DEMO = _DEMOS / "nano.npz", _DEMOS / "nano-pruned.npz"
SHARE = 0.5
CALIBRATION = ("calibration", "calibrate_by", "equalise", "keep_biases")
RECORDINGS = ("data", "audio", "protocol", "missing_list", "on_error", "seed")
_RGB = 3  # channels of the paper's FLOPs
_STEM = "visual/stem"
NOTES = (
    "paper: quoted, on its machine; it calls multiply-accumulates FLOPs and counts a three-channel image. The heatmaps "
    "have more channels, which affects only the first convolution",
    "parameters: as trained, before norms are folded; MACs and arena: from the file's graph; arena: the most memory "
    "that activations alive at one time take",
    "peak RAM: beyond the interpreter with the runtime loaded; mapped: with the weights in a mapped file",
    "faster: than the same stream in float32, in the same rounds",
)
_OTHER_RECORDINGS = (
    "The recordings are not the paper's: rows compare with each other, not with the columns of the paper."
)
_COLUMNS = 100  # of a line of text


def make_artifacts(options: argparse.Namespace) -> dict[tuple[str, str], Artifact]:
    """Every stream in every precision, by both; exports those that are not in --folder yet.

    Raises:
        UsageError: options exclude each other, or the folder has artifacts of other options.
        DataError: an export failed.
    """
    if options.preset and (options.checkpoint or options.pruned):
        raise UsageError("--preset means random weights; leave out --checkpoint and --pruned")
    if options.pruned and not options.checkpoint:
        raise UsageError("--pruned needs --checkpoint, the checkpoint that it was pruned from")
    sources = (options.checkpoint, options.pruned) if options.checkpoint or options.preset else (DEMO, PRUNED_DEMO)
    words = forward(options, *CALIBRATION, "recordings", *RECORDINGS)
    claim_folder(
        options.folder,
        {
            "options": [*forward(options, "preset", "audio_norm"), *words],
            "checkpoints": [file_sha256(path) for path in sources if path],
        },
    )
    unpruned, pruned = _checkpoints(options)
    artifacts = {}
    for precision in PRECISIONS:
        checkpoint = pruned if precision.startswith("pruned") else unpruned
        start = ["--checkpoint", str(checkpoint)] if checkpoint else []
        start += [] if precision == "float32" else ["--int8"]
        for stream in STREAMS:
            name = f"{stream} {precision}"
            folder = options.folder / name.replace(" ", "-")
            if not (folder / MANIFEST_NAME).exists():
                # A file that misses a tolerance is measured all the same; its manifest has the failure.
                out = [*forward(options, "workers"), "--out", str(folder), "--force"]
                run_command("export", "tflite", "--stream", stream, *start, *words, *out, may_answer_no=True)
            artifacts[stream, precision] = Artifact.open(folder, name=name, runtime=RUNTIME)
    return artifacts


def _checkpoints(options: argparse.Namespace) -> tuple[Path | None, Path]:
    """The checkpoint (None for the demo) and the pruned one, made where they do not exist."""
    unpruned, pruned = options.checkpoint, options.pruned
    if options.preset:
        unpruned = options.folder / "random.npz"
        if not unpruned.exists():
            size = ["--preset", options.preset, "--audio-norm", options.audio_norm]
            run_command("model", "init", *size, "--out", str(unpruned))
    if pruned is None and unpruned is None:
        return None, PRUNED_DEMO
    if pruned is None:
        pruned = options.folder / "pruned.npz"
        if not pruned.exists():
            log(f"no --pruned given: {SHARE:.0%} of the MACs, the same share of every width, not trained again")
            rule = ["--macs", str(SHARE), "--uniform", "--criterion", "magnitude"]
            run_command("quantize", "prune", "--checkpoint", str(unpruned), *rule, "--out", str(pruned))
    return unpruned, pruned


def measure_table1(options: argparse.Namespace) -> dict[str, Any]:
    """Makes and measures the artifacts; a row for each and the record with every sample.

    Raises:
        UsageError: as `make_artifacts`.
        DataError: an artifact could not be made or measured, or its graph does not cost as much as its configuration.
    """
    artifacts = make_artifacts(options)
    costs = [checked_cost(artifact) for artifact in artifacts.values()]
    record = timed(list(artifacts.values()), options, packages=PACKAGES)
    measured = dict(zip(artifacts, record.measurements, strict=True))
    rows = []
    for ((stream, precision), artifact), cost in zip(artifacts.items(), costs, strict=True):
        measurement, base = measured[stream, precision], measured[stream, "float32"]
        ratio = ratio_of_medians(measurement.inference.samples_ms, base.inference.samples_ms, paired=True)
        inference = summarize(measurement.inference.samples_ms)
        assert measurement.memory is not None
        assert measurement.preprocessing is not None
        rows.append(
            {
                "stream": stream,
                "precision": precision,
                "parameters": artifact.manifest.cost[stream]["parameters"],
                "deployed_parameters": cost.parameters,
                "macs": cost.macs,
                "macs_three_channels": three_channel_macs(cost, artifact.manifest),
                "size_bytes": artifact.manifest.size_bytes,
                "arena_bytes": cost.arena_bytes,
                "peak_bytes": measurement.memory.peak_bytes,
                "peak_bytes_mapped": measurement.memory.mapped_peak_bytes,
                "preprocessing_ms": summarize(measurement.preprocessing.samples_ms).median_ms,
                "latency_ms": inference.median_ms,
                "latency_p90_ms": inference.p90_ms,
                "fps": inference.fps,
                "time_to_float": ratio.value,
                "time_to_float_interval95": [ratio.low, ratio.high],
                "accuracy": _accuracy(artifact.manifest),
            }
        )
    return {"rows": rows, "record": record.to_dict()}


def checked_cost(artifact: Artifact) -> GraphCost:
    """The cost of the file's own graph.

    Raises:
        DataError: it is not that of the manifest.
    """
    manifest = artifact.manifest
    cost, configured = graph_cost(artifact.path), manifest.cost[manifest.stream]
    # Converters drop biases that are zero, as all are before training.
    trained = manifest.verification["judged_by_class"]
    if cost.macs != configured["macs"] or (trained and cost.parameters != configured.get("deployed_parameters")):
        raise DataError(
            f"{artifact.path} has {cost.macs} MACs and {cost.parameters} parameters, its manifest says "
            f"{configured['macs']} and {configured.get('deployed_parameters')}; export it again"
        )
    return cost


def three_channel_macs(cost: GraphCost, manifest: Manifest) -> int:
    """MACs if the first convolution read an RGB image instead of the heatmaps."""
    stem = sum(layer.macs for layer in cost.layers if layer.name == _STEM)
    return int(cost.macs - stem + stem * _RGB // manifest.spec.skeleton.channels)


def _accuracy(manifest: Manifest) -> dict[str, Any] | None:
    """Of the verification, where classes have a meaning."""
    if not manifest.verification["judged_by_class"]:
        return None
    result = manifest.verification["runtimes"][RUNTIME]
    return {key: result[key] for key in ("accuracy", "interval95", "correct", "count")}


def cost_table(document: dict[str, Any]) -> Table:
    """The cost of files: for every stream the paper's row, then ours."""
    rows = []
    for stream in STREAMS:
        paper = PAPER_TABLE_1[stream]
        size = f"{paper.size_bytes / 1e6:.1f} MB"
        rows.append([f"{stream}, paper", f"{paper.parameters / 1e6:.1f} M", "", f"{paper.macs / 1e9:.1f} G", size, ""])
        rows += [
            [
                f"{stream}, {row['precision']}",
                f"{row['parameters'] / 1e6:.2f} M",
                f"{row['macs'] / 1e9:.3f} G",
                f"{row['macs_three_channels'] / 1e9:.3f} G",
                f"{row['size_bytes'] / 1e6:.2f} MB",
                f"{row['arena_bytes'] / 1e6:.2f} MB",
            ]
            for row in document["rows"]
            if row["stream"] == stream
        ]
    return ("Cost", ("model", "parameters", "MACs", "MACs, 3 channels", "file", "arena"), rows)


def measured_table(document: dict[str, Any]) -> Table:
    """Memory and time of files: for every stream the paper's row, then ours."""
    rows = []
    for stream in STREAMS:
        paper = PAPER_TABLE_1[stream]
        times = [f"{paper.latency_ms:.0f} ms", f"{1e3 / paper.latency_ms:.0f}"]
        rows.append([f"{stream}, paper", f"{paper.peak_bytes / 1e6:.0f} MB", "", *times, "", ""])
        for row in document["rows"]:
            if row["stream"] == stream:
                mapped, accuracy = row["peak_bytes_mapped"], row["accuracy"]
                rows.append(
                    [
                        f"{stream}, {row['precision']}",
                        f"{row['peak_bytes'] / 1e6:.0f} MB",
                        f"{mapped / 1e6:.0f} MB" if mapped else "",
                        f"{row['latency_ms']:.2f} ms",
                        f"{row['fps']:.0f}",
                        f"{1 / row['time_to_float']:.2f}×" if row["precision"] != "float32" else "",
                        f"{100 * accuracy['accuracy']:.1f} %" if accuracy else "",
                    ]
                )
    counts = [row["accuracy"]["count"] for row in document["rows"] if row["accuracy"]]
    accuracy_of = f"accuracy of {counts[0]}" if counts else "accuracy"
    record = document["record"]
    machine, threads = record["environment"]["machine"], record["measurements"][0]["subject"]["threads"]
    title = f"On {machine['cpu']}, LiteRT, threads: {threads}, median of {record['rounds']} rounds"
    return (title, ("model", "peak RAM", "mapped", "latency", "FPS", "faster", accuracy_of), rows)


def table1_text(document: dict[str, Any]) -> str:
    """Two sentences, the two tables and their notes."""
    tables = [cost_table(document), measured_table(document)]
    texts = [format_table(header, rows, title=title) for title, header, rows in tables]
    notes = "\n".join(textwrap.fill(note, _COLUMNS) for note in NOTES)
    return "\n\n".join([textwrap.fill(lead(document), _COLUMNS), *texts, notes])


def lead(document: dict[str, Any]) -> str:
    """The results of the fused model, in two sentences."""
    rows = {row["precision"]: row for row in document["rows"] if row["stream"] == "fused"}
    exact, coarse, pruned = (rows[name] for name in PRECISIONS)
    text = (
        f"The fused model in INT8 is {1 / coarse['time_to_float']:.1f} times as fast as in float32 and "
        f"{exact['size_bytes'] / coarse['size_bytes']:.1f} times smaller; pruned and in INT8, "
        f"{1 / pruned['time_to_float']:.1f} times as fast and {exact['size_bytes'] / pruned['size_bytes']:.1f} times "
        "smaller."
    )
    if exact["accuracy"]:
        values = [100 * row["accuracy"]["accuracy"] for row in (exact, coarse, pruned)]
        text += f" Accuracy: {values[0]:.1f} %, {values[1]:.1f} % and {values[2]:.1f} %."
    return text


def measure_table2(options: argparse.Namespace) -> dict[str, Any]:
    """Asks every artifact. Raises as `open_artifacts` and `ask_under_conditions`."""
    artifacts = open_artifacts(options.artifacts)
    answers, data = ask_under_conditions(options, artifacts, [CLEAN], title="table 2")
    rows = [
        {
            **artifact.to_dict(),
            "preset": artifact.manifest.preset,
            "stream": artifact.manifest.stream,
            "network": network_of(artifact.manifest),
            **answers.score((artifact.name, CLEAN)).to_dict(),
        }
        for artifact in artifacts
    ]
    return {**data, "rows": rows}


def network_of(manifest: Manifest) -> str:
    """The name of the network in the paper's Table 2."""
    return manifest.backbones.get(manifest.stream, manifest.stream)


def table2_text(document: dict[str, Any]) -> str:
    """The table: measured accuracies, and those of the paper."""
    header = ["network", "artifact", "accuracy [95 %]"]
    header += [f"paper {name.removeprefix('NTU ').removesuffix(' Daily')}" for name in PAPER_DATA_SETS]
    rows = []
    for row in document["rows"]:
        quoted = PAPER_TABLE_2.get(row["network"])
        paper = [f"{value:.1f} %" for value in quoted] if quoted else [""] * len(PAPER_DATA_SETS)
        rows.append([row["network"], f"{row['name']} ({row['recipe']})", str(score_of(row)), *paper])
    title = (
        f"Accuracy on {document['recordings']} recordings ({document['data']}); of the paper on MSR Daily, NTU X-Sub, "
        "NTU X-View"
    )
    return f"{textwrap.fill(title, _COLUMNS)}\n{format_table(header, rows)}\n{_OTHER_RECORDINGS}"


TABLE_2 = Study("table2", measure_table2, table2_text)
TABLE_1 = Study("table1", measure_table1, table1_text)

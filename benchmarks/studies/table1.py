"""`python -m benchmarks table1`: cost, size, memory and time of every stream and precision beside the paper's Table 1.

Parameters and multiply-accumulates are counted from each file's own graph and must equal what the configuration gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from console.program import show, show_json, warn
from console.table import format_table
from preprocess.errors import DataError, UsageError
from runtime.manifest import Manifest, read_artifact
from runtime.paper import PAPER_TABLE_1

from ..graph.file_cost import GraphCost, graph_cost
from ..measure.latency import PACKAGES, doubts
from ..measure.provenance import environment
from ..measure.records import Record
from ..measure.result_files import write_result
from ..measure.runner import artifact_contenders, measure_all
from ..measure.statistics import ratio_of_medians, summarize
from .variants import PRECISIONS, STREAMS, Variant, make_variants, variant_words

SCHEMA_VERSION = 1
RUNTIME = "litert"
RGB = 3  # channels that the paper's FLOPs are counted with
STEM = "visual/stem"
NOTES = (
    "c computed (MACs and arena from the file's graph, parameters as trained, before norms are folded away), "
    "m measured, q quoted from the paper (on its own machine)",
    "MACs: multiply-accumulates, which the paper calls FLOPs; FLOPs in the stricter sense are twice as many. The paper "
    "counts a three-channel image; the heatmaps have more, which the first convolution alone feels",
    "faster: than the same stream in float32, in the same rounds",
    "arena: the most that activations alive at one time take, without what a runtime adds",
    "peak RAM beyond the interpreter with the runtime loaded, in brackets with the weights in a mapped file",
)


def table1_command(options: argparse.Namespace) -> None:
    """Makes the artefacts, measures, shows the table.

    Raises:
        UsageError: an option has a value that cannot be.
        DataError: an artefact could not be made or measured, or its graph does not cost what its configuration says.
    """
    check_options(options)
    variants = make_variants(options)
    document = measure_table1(variants, options, command_of(options))
    if options.out:
        write_result(document, options.out)
    for warning in document["record"]["warnings"][:1]:
        warn(f"times are unsteady, leave the machine alone and measure again: {warning}")
    if options.json:
        show_json(document)
    else:
        show(table1_text(document))


def check_options(options: argparse.Namespace) -> None:
    """Raises UsageError for --rounds and --threads that cannot be."""
    if options.rounds < 10:
        raise UsageError(f"--rounds is {options.rounds}; a median needs at least 10")
    if options.threads < 1:
        raise UsageError(f"--threads is {options.threads}; use a positive number")


def command_of(options: argparse.Namespace) -> str:
    """The command that makes the result again."""
    return (
        f"python -m benchmarks table1{variant_words(options)} --threads {options.threads} --rounds {options.rounds} "
        f"--seed {options.seed}"
    )


def measure_table1(variants: Sequence[Variant], options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Measures the variants in turn; the document has a row for each and the record with every sample."""
    costs = [checked_cost(variant) for variant in variants]
    contenders = artifact_contenders(
        [(own.name, own.folder) for own in variants],
        [(RUNTIME,)] * len(variants),
        [options.threads],
        data=None,
        recordings=0,
        seed=options.seed,
    )
    measurements = measure_all(contenders, rounds=options.rounds, seed=options.seed)
    record = Record(
        environment(command, packages=PACKAGES), options.seed, options.rounds, measurements, doubts(measurements)
    )
    rows = []
    for variant, (manifest, cost), own in zip(variants, costs, measurements, strict=True):
        base = next(
            other
            for name, other in zip(variants, measurements, strict=True)
            if (name.stream, name.precision) == (variant.stream, "float32")
        )
        ratio = ratio_of_medians(own.inference.samples_ms, base.inference.samples_ms, paired=True)
        inference = summarize(own.inference.samples_ms)
        assert own.memory is not None
        assert own.preprocessing is not None
        rows.append(
            {
                "stream": variant.stream,
                "precision": variant.precision,
                "parameters": manifest.cost[variant.stream]["parameters"],
                "deployed_parameters": cost.parameters,
                "macs": cost.macs,
                "macs_three_channels": three_channel_macs(cost, manifest),
                "size_bytes": manifest.size_bytes,
                "arena_bytes": cost.arena_bytes,
                "peak_bytes": own.memory.peak_bytes,
                "peak_bytes_mapped": own.memory.mapped_peak_bytes,
                "preprocessing_ms": summarize(own.preprocessing.samples_ms).median_ms,
                "latency_ms": inference.median_ms,
                "latency_p90_ms": inference.p90_ms,
                "fps": inference.fps,
                "time_to_float": ratio.value,
                "time_to_float_interval95": [ratio.low, ratio.high],
                "accuracy": _accuracy(manifest),
            }
        )
    return {"schema_version": SCHEMA_VERSION, "benchmark": "table1", "rows": rows, "record": record.to_dict()}


def checked_cost(variant: Variant) -> tuple[Manifest, GraphCost]:
    """The manifest, and what the file's own graph costs.

    Raises:
        DataError: the two do not agree.
    """
    manifest, model = read_artifact(variant.folder)
    cost, said = graph_cost(model), manifest.cost[manifest.stream]
    # Converters drop biases that are zero, as all are before training.
    trained = manifest.verification["judged_by_class"]
    if cost.macs != said["macs"] or (trained and cost.parameters != said.get("deployed_parameters")):
        raise DataError(
            f"{model} has {cost.macs} MACs and {cost.parameters} parameters, its manifest says {said['macs']} and "
            f"{said.get('deployed_parameters')}; export it again"
        )
    return manifest, cost


def three_channel_macs(cost: GraphCost, manifest: Manifest) -> int:
    """MACs if the first convolution read an RGB image instead of the heatmaps."""
    stem = sum(layer.macs for layer in cost.layers if layer.name == STEM)
    channels = manifest.spec.skeleton.channels
    return int(cost.macs - stem + stem * RGB // channels)


def _accuracy(manifest: Manifest) -> dict[str, Any] | None:
    """Of the verification, where classes have a meaning."""
    if not manifest.verification["judged_by_class"]:
        return None
    found = manifest.verification["runtimes"][RUNTIME]
    return {key: found[key] for key in ("accuracy", "interval95", "correct", "count")}


def table1_rows(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for every stream what the paper says, then ours."""
    channels = "MACs, 3 channels"
    header = [
        "model",
        "parameters",
        "MACs",
        channels,
        "file",
        "arena",
        "peak RAM",
        "latency",
        "FPS",
        "faster",
        "accuracy (of)",
    ]
    rows = []
    for stream in STREAMS:
        paper = PAPER_TABLE_1[stream]
        rows.append(
            [
                f"{stream}, paper",
                f"{paper.parameters / 1e6:.1f} M q",
                "",
                f"{paper.macs / 1e9:.1f} G q",
                f"{paper.size_bytes / 1e6:.1f} MB q",
                "",
                f"{paper.peak_bytes / 1e6:.0f} MB q",
                f"{paper.latency_ms:.0f} ms q",
                f"{1e3 / paper.latency_ms:.0f} q",
                "",
                "",
            ]
        )
        rows += [_row(own) for own in document["rows"] if own["stream"] == stream]
    return header, rows


def _row(own: dict[str, Any]) -> list[str]:
    mapped = f" ({own['peak_bytes_mapped'] / 1e6:.0f})" if own["peak_bytes_mapped"] else ""
    accuracy = own["accuracy"]
    return [
        f"{own['stream']}, {own['precision']}",
        f"{own['parameters'] / 1e6:.2f} M c",
        f"{own['macs'] / 1e9:.3f} G c",
        f"{own['macs_three_channels'] / 1e9:.3f} G c",
        f"{own['size_bytes'] / 1e6:.2f} MB m",
        f"{own['arena_bytes'] / 1e6:.2f} MB c",
        f"{own['peak_bytes'] / 1e6:.0f}{mapped} MB m",
        f"{own['latency_ms']:.2f} ms m",
        f"{own['fps']:.0f} m",
        f"{1 / own['time_to_float']:.2f}×" if own["precision"] != "float32" else "",
        f"{100 * accuracy['accuracy']:.1f} % m ({accuracy['count']})" if accuracy else "",
    ]


def table1_text(document: dict[str, Any]) -> str:
    """The table as text, with its notes."""
    return "\n".join([format_table(*table1_rows(document), title=title_of(document)), *NOTES])


def lead(document: dict[str, Any]) -> str:
    """What the table says of the fused model, in two sentences."""
    rows = {own["precision"]: own for own in document["rows"] if own["stream"] == "fused"}
    whole, coarse, pruned = (rows[name] for name in PRECISIONS)
    words = (
        f"The fused model in INT8 is {1 / coarse['time_to_float']:.1f} times as fast as in float32 and "
        f"{whole['size_bytes'] / coarse['size_bytes']:.1f} times smaller; pruned and in INT8, "
        f"{1 / pruned['time_to_float']:.1f} times as fast and {whole['size_bytes'] / pruned['size_bytes']:.1f} times "
        "smaller."
    )
    if whole["accuracy"]:
        values = [100 * own["accuracy"]["accuracy"] for own in (whole, coarse, pruned)]
        words += f" Accuracy: {values[0]:.1f} %, {values[1]:.1f} % and {values[2]:.1f} %."
    return words


def title_of(document: dict[str, Any]) -> str:
    """Where and how it was measured."""
    record = document["record"]
    machine, threads = record["environment"]["machine"], record["measurements"][0]["subject"]["threads"]
    return f"Table 1 on {machine['cpu']}, LiteRT, threads: {threads}, median of {record['rounds']} rounds"

"""`python -m benchmarks report`: everything about a checkpoint's files on one page that needs no network.

Each part is one of the project's own commands; the page is made of the JSON and PNG files that they write beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from console.child import run_command
from console.files import atomic_file
from console.options import forward
from console.plot import new_figure, require_matplotlib, save_png, style
from console.program import log, show, show_json
from runtime.artifact import Artifact
from runtime.blocks import block_of

from ..graph.layer_time import LayerTime, layer_times
from ..studies.paper_tables import (
    CALIBRATION,
    NOTES,
    PRECISIONS,
    RECORDINGS,
    STREAMS,
    TABLE_1,
    cost_table,
    lead,
    make_artifacts,
    measured_table,
)
from ..studies.pruning import PRUNING
from ..studies.robustness import ABLATION, ROBUSTNESS
from ..studies.study import RESULTS, write_result
from .page import code, html_page, html_table, notes, paragraph, picture, row_of_pictures

PAGE = "index.html"
_PARTS = ("visual", "audio", "fusion")
_ANALYZED = {"nano": 32, "paper": 4}  # recordings of the noise analysis, which runs the model once for every block


def report_command(options: argparse.Namespace) -> None:
    """Handler: makes the artifacts that are not in --folder, measures, writes the page.

    Raises:
        UsageError, DataError, MissingComponentError: as `table1`, `robustness` and `ablation`.
    """
    require_matplotlib()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    costs = TABLE_1.document(options)
    write_result(costs, out / "table1.json")
    artifacts = make_artifacts(options)  # they are there now
    fused = {precision: artifacts["fused", precision] for precision in PRECISIONS}
    times = {name: layer_times(artifact.path) for name, artifact in fused.items()}
    write_result({name: [asdict(layer) for layer in layers] for name, layers in times.items()}, out / "layers.json")
    judged = costs["rows"][0]["accuracy"] is not None
    answers = _answers(options, fused, out) if judged else {}
    page = _page(options, costs, times, answers, out)
    with atomic_file(out / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if options.json:
        show_json({"page": str(out / PAGE), "table1": costs, **answers})
    else:
        show(f"report: {out / PAGE}")


def _answers(options: argparse.Namespace, fused: Mapping[str, Artifact], out: Path) -> dict[str, Any]:
    """The measurements that need trained weights: robustness, ablation, noise."""
    data = forward(options, *RECORDINGS, "workers")
    words = [*data, "--recordings", str(options.corrupted)]
    named = [f"{name}={artifact.folder}" for name, artifact in fused.items()]
    (int8,) = (word for word in named if word.startswith("INT8="))
    analyzed = ["--recordings", str(_ANALYZED[fused["INT8"].manifest.preset])]
    calibrated = forward(options, "checkpoint", *CALIBRATION)
    return {
        "robustness": run_command("benchmarks", "robustness", *named, *words, "--out", str(out / "robustness.json")),
        "ablation": run_command("benchmarks", "ablation", int8, *words, "--out", str(out / "ablation.json")),
        "noise": run_command("quantize", "analyze", *calibrated, *data, *analyzed, "--out", str(out / "noise")),
    }


def _page(
    options: argparse.Namespace,
    costs: dict[str, Any],
    times: dict[str, list[LayerTime]],
    answers: dict[str, Any],
    out: Path,
) -> str:
    machine, noise = costs["record"]["environment"]["machine"], answers.get("noise")
    tables = [html_table(header, rows, title) for title, header, rows in (cost_table(costs), measured_table(costs))]
    sections = [("Table 1: cost, size, memory, time", [*tables, notes(NOTES)])]
    if answers:
        draw_pareto(costs["rows"], out / "pareto.png")
        pareto = picture(
            out / "pareto.png",
            "Accuracy against latency and against file size, for every stream and precision",
            f"Accuracy on the recordings of the verification, with 95 % intervals; latency on {machine['cpu']}.",
        )
        sections += [("Accuracy against time and size", [pareto]), *_answer_sections(answers, out)]
    draw_blocks(times, noise, out / "blocks.png")
    blocks = picture(
        out / "blocks.png",
        f"Inference time{' and share of the quantization noise' if noise else ''} by block",
        "Time of every block by LiteRT's own profiler, one thread."
        + (" Noise: the block's addition to the logits' noise when it alone is quantized." if noise else ""),
    )
    heading = "Where the time and the noise are" if noise else "Where the time is"
    sections.append((heading, [blocks, _block_table(times, noise)]))
    if not (options.checkpoint or options.preset):
        sections.append(_pruning_section())
    sections.append(("How these numbers came about", _origin(costs["record"])))
    return html_page("From the paper's recogniser to a phone", lead(costs), sections)


def _origin(record: dict[str, Any]) -> list[str]:
    environment = record["environment"]
    machine = environment["machine"]
    versions = [[name, version or "not installed"] for name, version in environment["versions"].items()]
    return [
        code(environment["command"]),
        paragraph(
            f"{environment['date']}, commit {environment['commit'] or 'unknown'}, on {machine['cpu']} with "
            f"{machine['cores']} cores ({machine['architecture']}, {machine['system']}; 8-bit instructions: "
            f"{', '.join(machine['instructions'] or ()) or 'none known'})."
        ),
        html_table(["package", "version"], versions),
        notes(record["warnings"]),
        paragraph("The folder of this page has every number as JSON: table1.json with all samples, layers.json, …"),
    ]


def _answer_sections(answers: dict[str, Any], out: Path) -> list[tuple[str, list[str]]]:
    robustness = picture(
        out / "robustness.png",
        "Accuracy under noise, reverberation, hidden joints, misalignment and failing sensors",
        "All files answer on the same corrupted recordings.",
    )
    bars = picture(out / "ablation.png", "Accuracy of every class with both inputs, without sound, without skeleton")
    matrices = row_of_pictures(
        [
            (out / f"ablation-{condition.replace(' ', '-')}.png", f"Confusion matrix, {condition}")
            for condition in answers["ablation"]["conditions"]
        ]
    )
    return [
        ("Bad microphones, rooms and views", [robustness, code(ROBUSTNESS.table(answers["robustness"]))]),
        ("The worth of each input", [bars, code(ABLATION.table(answers["ablation"])), matrices]),
    ]


def _block_table(times: dict[str, list[LayerTime]], noise: dict[str, Any] | None) -> str:
    shares = {name: block_shares(layers) for name, layers in times.items()}
    noises = {block["name"]: block for block in noise["blocks"]} if noise else {}
    rows = []
    for name in sorted(shares["INT8"], key=lambda name: -shares["INT8"][name][0]):
        row = [name]
        for blocks in shares.values():
            us, share = blocks.get(name, (0.0, 0.0))
            row.append(f"{us / 1e3:.3f} ms ({share:.1%})")
        if noise:
            block = noises.get(name)
            row.append(f"{block['logits_snr_db']:.1f} dB ({block['share']:.1%})" if block else "")
        rows.append(row)
    header = ["block", *(f"time, {name}" for name in times), *(["logits' SNR (share of the noise)"] if noise else [])]
    return html_table(header, rows, "Blocks of the fused model, slowest in INT8 first")


def _pruning_section() -> tuple[str, list[str]]:
    """The committed pruning curve of the demo, with its provenance."""
    document = json.loads((RESULTS / "pruning.json").read_text(encoding="utf-8"))
    cpu, date = document["provenance"]["machine"]["cpu"], document["provenance"]["date"][:10]
    log(f"the pruning curve is that of {date}")
    content = [
        picture(RESULTS / "pruning.png", "Accuracy against MACs, file size and latency for several shares of pruning"),
        code(PRUNING.table(document)),
        paragraph(f"Measured on {cpu}, {date}; not measured again for this page."),
    ]
    return "Smaller and smaller", content


def block_shares(layers: Sequence[LayerTime]) -> dict[str, tuple[float, float]]:
    """Microseconds and share of the inference by block."""
    shares: dict[str, tuple[float, float]] = {}
    for layer in layers:
        us, share = shares.get(block_of(layer.name), (0.0, 0.0))
        shares[block_of(layer.name)] = us + layer.median_us, share + layer.share
    return shares


def draw_pareto(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """PNG: accuracy with 95 % intervals against latency and file size; colours by stream, markers by precision."""
    from matplotlib import ticker

    figure = new_figure(11, 4.6)
    measures = {"latency, ms": ("latency_ms", 1), "file, MB": ("size_bytes", 1e6)}
    for axes, (label, (key, unit)) in zip(figure.subplots(1, 2, sharey=True), measures.items(), strict=True):
        for index, stream in enumerate(STREAMS):
            files = [row for row in rows if row["stream"] == stream]
            x = [row[key] / unit for row in files]
            y = [100 * row["accuracy"]["accuracy"] for row in files]
            axes.plot(x, y, color=style(index).colour, linestyle=style(index).line, linewidth=1)
            for row, at, accuracy in zip(files, x, y, strict=True):
                low, high = row["accuracy"]["interval95"]
                axes.errorbar(
                    [at],
                    [accuracy],
                    [[accuracy - 100 * low], [100 * high - accuracy]],
                    color=style(index).colour,
                    marker=style(PRECISIONS.index(row["precision"])).marker,
                    markersize=7,
                    capsize=3,
                    linestyle="none",
                    label=f"{stream}, {row['precision']}",
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    save_png(figure, path)


def draw_blocks(times: dict[str, list[LayerTime]], noise: dict[str, Any] | None, path: Path) -> None:
    """PNG: bars of every block's time in each precision, and its share of the noise."""
    shares = {name: block_shares(layers) for name, layers in times.items()}
    names = dict.fromkeys(name for blocks in shares.values() for name in blocks)
    order = sorted(names, key=lambda name: _PARTS.index(name.split("/")[0]))
    figure = new_figure(11, 0.34 * len(order) + 1.2)
    panels = figure.subplots(1, 2 if noise else 1, sharey=True, squeeze=False)[0]
    height = 0.8 / len(times)
    for index, (precision, blocks) in enumerate(shares.items()):
        places = [row + height * (index - (len(times) - 1) / 2) for row in range(len(order))]
        values = [blocks.get(name, (0.0, 0.0))[0] / 1e3 for name in order]
        panels[0].barh(places, values, height, color=style(index).colour, label=precision)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    panels[0].set_ylim(len(order) - 0.4, -0.6)
    panels[0].set_xlabel("time, ms")
    panels[0].legend(frameon=False, loc="lower right")
    if noise:
        by_name = {block["name"]: 100 * block["share"] for block in noise["blocks"]}
        panels[1].barh(range(len(order)), [by_name.get(name, 0) for name in order], 0.6, color=style(2).colour)
        panels[1].set_xlabel("share of the quantization noise, %")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    save_png(figure, path)

"""The plots of the report that have no command of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from console.plot import new_figure, save_png, style
from runtime.blocks import block_of

from ..graph.layer_time import LayerTime
from ..studies.variants import PRECISIONS, STREAMS

_PARTS = ("visual", "audio", "fusion")


def block_shares(rows: Sequence[LayerTime]) -> dict[str, tuple[float, float]]:
    """Microseconds and share of the whole inference by block."""
    out: dict[str, tuple[float, float]] = {}
    for own in rows:
        us, share = out.get(block_of(own.name), (0.0, 0.0))
        out[block_of(own.name)] = us + own.median_us, share + own.share
    return out


def draw_pareto(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """PNG: accuracy with 95 % intervals against latency and file size; colours by stream, markers by precision."""
    from matplotlib import ticker

    figure = new_figure(11, 4.6)
    measures = {"latency, ms": "latency_ms", "file, MB": "size_bytes"}
    for axes, (label, key) in zip(figure.subplots(1, 2, sharey=True), measures.items(), strict=True):
        for index, stream in enumerate(STREAMS):
            own = [row for row in rows if row["stream"] == stream]
            x = [row[key] / (1e6 if key == "size_bytes" else 1) for row in own]
            y = [100 * row["accuracy"]["accuracy"] for row in own]
            axes.plot(x, y, color=style(index).colour, linestyle=style(index).line, linewidth=1)
            for row, at, accuracy in zip(own, x, y, strict=True):
                low, high = row["accuracy"]["interval95"]
                precision = PRECISIONS.index(row["precision"])
                axes.errorbar(
                    [at],
                    [accuracy],
                    [[accuracy - 100 * low], [100 * high - accuracy]],
                    color=style(index).colour,
                    marker=style(precision).marker,
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
    shares = {name: block_shares(rows) for name, rows in times.items()}
    found = dict.fromkeys(block for own in shares.values() for block in own)
    blocks = sorted(found, key=lambda block: _PARTS.index(block.split("/")[0]))
    figure = new_figure(11, 0.34 * len(blocks) + 1.2)
    panels = figure.subplots(1, 2 if noise else 1, sharey=True, squeeze=False)[0]
    height = 0.8 / len(times)
    for index, (name, own) in enumerate(shares.items()):
        places = [row + height * (index - (len(times) - 1) / 2) for row in range(len(blocks))]
        values = [own.get(block, (0.0, 0.0))[0] / 1e3 for block in blocks]
        panels[0].barh(places, values, height, color=style(index).colour, label=name)
    panels[0].set_yticks(range(len(blocks)), blocks, fontsize=8)
    panels[0].set_ylim(len(blocks) - 0.4, -0.6)
    panels[0].set_xlabel("time, ms")
    panels[0].legend(frameon=False, loc="lower right")
    if noise:
        by_name = {own["name"]: 100 * own["share"] for own in noise["blocks"]}
        panels[1].barh(range(len(blocks)), [by_name.get(block, 0) for block in blocks], 0.6, color=style(2).colour)
        panels[1].set_xlabel("share of the quantization noise, %")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
    save_png(figure, path)

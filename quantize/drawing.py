"""A picture of where quantization adds noise."""

from __future__ import annotations

from pathlib import Path

from console.files import atomic_file
from preprocess.errors import MissingComponentError

from .analysis import PARTS, Analysis, part_of

_COLOURS = dict(zip(PARTS, ("#1f77b4", "#d1495b", "#2a9d8f", "#6c757d"), strict=True))
_BLOCKS_DRAWN = 20


def draw_analysis(analysis: Analysis, path: Path) -> None:
    """PNG: above, SNR of every tensor in the order of computation; below, the share of noise by block.

    Raises:
        MissingComponentError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingComponentError('drawing needs matplotlib; run `pip install -e ".[plots]"`') from error
    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.3))
    for name, colour in _COLOURS.items():
        chosen = [(i, own.snr_db) for i, own in enumerate(analysis.tensors) if part_of(own.block) == name]
        # Tensors of constants have no noise; a cap keeps the others apart.
        above.plot([i for i, _ in chosen], [min(snr, 80) for _, snr in chosen], ".", color=colour, label=name)
    above.set_xlabel("tensor, in the order of computation")
    above.set_ylabel("SNR, dB (INT8 against float)")
    above.set_title(f"All quantized: logits' SNR {analysis.logits_snr_db:.1f} dB over {analysis.recordings} recordings")
    above.legend(ncols=4, frameon=False)
    shown = analysis.blocks[:_BLOCKS_DRAWN][::-1]
    below.barh([own.name for own in shown], [100 * own.share for own in shown], color=[_COLOURS[o.part] for o in shown])
    below.set_xlabel("share of the noise in the logits, %, every block quantized alone")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)

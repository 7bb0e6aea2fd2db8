"""A picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .files import atomic_file


def draw_confusion_matrix(counts: npt.NDArray[np.int64], names: Sequence[str], path: Path, *, title: str) -> None:
    """Writes a confusion matrix, in per cent of each true class, as a PNG.

    Args:
        counts: [classes, classes], rows are the true classes (`runtime.metrics.confusion_matrix`).
        names: of the classes.
        path: the file, replaced if it exists.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(5.0, 0.42 * len(names) + 2.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
        colour = "white" if share[row, column] > 55 else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")

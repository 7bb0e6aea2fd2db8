"""Pictures without a display: figures, styles that colour-blind readers can tell apart, and confusion matrices."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from preprocess.errors import MissingComponentError

from .files import atomic_file


class Style(NamedTuple):
    """How a series is drawn: markers, lines and hatches distinguish series where colours do not."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, int]]
    hatch: str


# Colours of Okabe and Ito (2008), which people with colour blindness can tell apart; neighbours differ in lightness.
_STYLES = (
    Style("#000000", "o", "-", ""),
    Style("#e69f00", "s", "--", "///"),
    Style("#0072b2", "^", "-.", "..."),
    Style("#009e73", "D", ":", "xxx"),
    Style("#cc79a7", "v", (0, (5, 1)), "\\\\\\"),
    Style("#56b4e9", "P", (0, (1, 1)), "++"),
)


def style(index: int) -> Style:
    """The style of series `index`; styles repeat after six."""
    return _STYLES[index % len(_STYLES)]


def require_matplotlib() -> None:
    """Raises MissingComponentError where matplotlib is not installed; call before a long measurement with a plot."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingComponentError('plots need matplotlib; run `pip install -e ".[plots]"`')


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty matplotlib figure, in inches. Raises as `require_matplotlib`."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: Path, *, dpi: int = 110) -> None:
    """Writes the figure, completely or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def draw_confusion_matrix(counts: npt.NDArray[np.int64], names: Sequence[str], path: Path, *, title: str) -> None:
    """Writes a confusion matrix, in per cent of each true class, as a PNG.

    `counts` is [classes, classes], with the true classes as rows (`runtime.metrics.confusion_matrix`).
    """
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(5.0, 0.42 * len(names) + 2.5)
    figure = new_figure(side, side)
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
    save_png(figure, path, dpi=120)

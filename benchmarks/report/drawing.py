"""What the benchmarks' plots have in common."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from console.files import atomic_file
from preprocess.errors import MissingComponentError


class Style(NamedTuple):
    """How a series is drawn: the markers, lines and hatches tell series apart where colours do not."""

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
    """The style of series `index`; they repeat after six."""
    return _STYLES[index % len(_STYLES)]


def require_matplotlib() -> None:
    """Raises MissingComponentError before a long measurement whose plot could not be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingComponentError('the plot needs matplotlib; run `pip install -e ".[plots]"`')


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty matplotlib figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: Path) -> None:
    """Writes the figure, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)

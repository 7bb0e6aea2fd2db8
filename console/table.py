"""Plain-text tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> str:
    """A table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]
    lines = [title] if title else []
    for row in (header, ["-" * width for width in widths], *rows):
        spaces = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        others = [space + cell for space, cell in zip(spaces[1:], row[1:], strict=True)]
        lines.append("  ".join([row[0] + spaces[0], *others]).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 1 for c in text)

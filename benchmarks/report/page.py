"""A self-contained HTML page of headings, paragraphs, tables and pictures: no script, no font, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #59636e; --paper: #fff; --line: #d1d9e0; --band: #f6f8fa;
  --good: #116329; --bad: #a40e26; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9198a1; --paper: #0d1117; --line: #3d444d;
  --band: #151b23; --good: #57d364; --bad: #ff8182; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
p, figcaption, .notes { max-width: 46rem; }
figcaption, caption, .notes, .dim { color: var(--dim); font-size: .875rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
a { color: var(--link); }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
thead th { background: var(--band); border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; }
thead th:first-child { background: var(--band); }
.quoted { color: var(--dim); font-style: italic; }
.good { color: var(--good); } .bad { color: var(--bad); }
tbody th { font-weight: 500; }
figure { margin: 1rem 0; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: .375rem; }
pre { overflow-x: auto; background: var(--band); padding: .75rem; border-radius: .375rem; font-size: .8125rem; }
@media screen and (max-width: 48rem) { figure img { max-width: none; width: 44rem; } .row img { width: 34rem; } }
@media print { :root { --ink: #000; --dim: #444; --paper: #fff; --line: #bbb; --band: #eee; } body { max-width: none; }
  nav { display: none; } h2 { break-after: avoid; } figure, tr, pre { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: .65rem; } th, td { padding: .15rem .3rem; white-space: normal; } img { max-height: 22cm; }
  pre { font-size: 6pt; overflow: visible; white-space: pre-wrap; } .row { grid-template-columns: repeat(3, 1fr); } }
"""


class Page:
    """Collects sections; `html` is the whole document.

    Args:
        title: heading of the page, plain text as every text here.
        lead: a paragraph below it.
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title, self._lead = title, lead
        self._sections: list[tuple[str, list[str]]] = []

    def section(self, title: str) -> None:
        self._sections.append((title, []))

    def text(self, text: str) -> None:
        self._add(f"<p>{escape(text)}</p>")

    def notes(self, lines: Sequence[str]) -> None:
        if lines:
            self._add(f'<div class="notes">{"<br>".join(map(escape, lines))}</div>')

    def code(self, text: str) -> None:
        self._add(f"<pre>{escape(text)}</pre>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str | Cell]], caption: str = "") -> None:
        """The first column holds the names of the rows."""
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
        body = "".join(f"<tr>{''.join(_cell(cell, first=not i) for i, cell in enumerate(row))}</tr>" for row in rows)
        above = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._add(
            f'<div class="scroll" tabindex="0"><table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            "</table></div>"
        )

    def picture(self, path: Path, alt: str, caption: str = "") -> None:
        """Puts the PNG file into the page itself."""
        self._add(_figure(path, alt, caption))

    def row(self, pictures: Sequence[tuple[Path, str]]) -> None:
        """PNG files with their descriptions side by side, where there is room."""
        self._add(f'<div class="row">{"".join(_figure(path, alt, "") for path, alt in pictures)}</div>')

    def _add(self, html: str) -> None:
        self._sections[-1][1].append(html)

    @property
    def html(self) -> str:
        links = "".join(f'<li><a href="#s{i}">{escape(title)}</a></li>' for i, (title, _) in enumerate(self._sections))
        sections = "".join(
            f'<section id="s{i}"><h2>{escape(title)}</h2>{"".join(content)}</section>'
            for i, (title, content) in enumerate(self._sections)
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head><body>"
            f"<header><h1>{escape(self._title)}</h1><p>{escape(self._lead)}</p></header>"
            f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{sections}</main></body></html>\n'
        )


class Cell(NamedTuple):
    """A cell of a table with a class of the style sheet: `quoted`, `good` or `bad`."""

    text: str
    kind: str


def _figure(path: Path, alt: str, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    return f'<figure><div class="scroll" tabindex="0">{image}</div>{below}</figure>'


def _cell(cell: str | Cell, *, first: bool) -> str:
    if first:
        return f'<th scope="row">{escape(str(cell))}</th>'
    if isinstance(cell, Cell):
        return f'<td class="{escape(cell.kind)}">{escape(cell.text)}</td>'
    return f"<td>{escape(cell)}</td>"

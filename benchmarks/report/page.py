"""A self-contained HTML page of headings, paragraphs, tables and pictures: no script, no font, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #59636e; --paper: #fff; --line: #d1d9e0; --band: #f6f8fa;
  --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9198a1; --paper: #0d1117; --line: #3d444d;
  --band: #151b23; --link: #79b8ff; } }
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
.quoted td { color: var(--dim); font-style: italic; }
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


def html_page(title: str, lead: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The complete document.

    Args:
        title: heading of the page, plain text as every text of this module.
        lead: a paragraph below it.
        sections: their headings and contents, which the other functions return.
    """
    links = "".join(f'<li><a href="#s{i}">{escape(heading)}</a></li>' for i, (heading, _) in enumerate(sections))
    main = "".join(
        f'<section id="s{i}"><h2>{escape(heading)}</h2>{"".join(content)}</section>'
        for i, (heading, content) in enumerate(sections)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><p>{escape(lead)}</p></header>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{main}</main></body></html>\n'
    )


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def notes(lines: Sequence[str]) -> str:
    return f'<div class="notes">{"<br>".join(map(escape, lines))}</div>' if lines else ""


def code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """The first column holds the names of the rows; a name that ends in `, paper` marks its row as quoted."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = ""
    for name, *cells in rows:
        kind = ' class="quoted"' if name.endswith(", paper") else ""
        columns = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        body += f'<tr{kind}><th scope="row">{escape(name)}</th>{columns}</tr>'
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def picture(path: Path, alt: str, caption: str = "") -> str:
    """The PNG file in the page itself."""
    data = base64.b64encode(path.read_bytes()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    return f'<figure><div class="scroll" tabindex="0">{image}</div>{below}</figure>'


def row_of_pictures(pictures: Sequence[tuple[Path, str]]) -> str:
    """PNG files with their descriptions side by side, where there is room."""
    return f'<div class="row">{"".join(picture(path, alt) for path, alt in pictures)}</div>'

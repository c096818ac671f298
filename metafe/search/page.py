"""A page of HTML that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from metafe.search.pictures import Picture

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --line: #c9ccd1; --soft: #f2f4f7; --link: #0058a3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181d; --line: #444a54; --soft: #23272f; --link: #7cc0ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
a { color: var(--link); }
.verdict { font-size: 1.1rem; padding: 1rem; background: var(--soft); border-left: 4px solid #0072B2; }
.scroll { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; min-width: 30rem; padding-bottom: .4rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th.number, td.number { text-align: right; } td.number { white-space: nowrap; } td { min-width: 4rem; }
img { max-width: 100%; height: auto; }
pre { padding: 1rem; background: var(--soft); overflow-x: auto; font: .875rem/1.5 ui-monospace, monospace; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 1rem; }
"""


def page(title: str, sections: Sequence[tuple[str, str]], lead: str) -> str:
    """Return a page with headings that it lists in front.

    Parameters
    ----------
    title : str
    sections : sequence of (str, str)
        Heading, and HTML below it.
    lead : str
        HTML between title and list.
    """
    names = [heading.lower().replace(" ", "-") for heading, _ in sections]
    links = " · ".join(f'<a href="#{name}">{escape(h)}</a>' for name, (h, _) in zip(names, sections, strict=True))
    body = "\n".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>\n{content}</section>'
        for name, (heading, content) in zip(names, sections, strict=True)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">Skip to the content</a>\n'
        f'<main id="content">\n<h1>{escape(title)}</h1>\n{lead}\n<nav aria-label="Contents">{links}</nav>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>\n' if kind else f"<p>{escape(text)}</p>\n"


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 2) -> str:
    """Return a table of plain text.

    Parameters
    ----------
    caption : str
    columns : sequence of str
    rows : sequence of sequence of str
    n_text : int, default=2
        The first columns, which are text; the others are numbers.
    """
    kinds = ["" if i < n_text else ' class="number"' for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind}>{escape(c)}</th>' for kind, c in zip(kinds, columns, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
    )


def image(picture: Picture, light: bytes) -> str:
    """Return a picture with its text, and another for dark surroundings."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data(picture.png("dark"))}">'
        f'<img src="{_data(light)}" alt="{escape(picture.alt)}"></picture>\n'
    )


def code(text: str) -> str:
    """Return a block of code."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>\n'


def details(summary: str, text: str) -> str:
    """Return code that is shown when asked for."""
    return f"<details><summary>{escape(summary)}</summary>{code(text)}</details>\n"


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"

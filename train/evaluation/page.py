"""A report's blocks as one page of HTML that needs nothing else: no request, no script.

Figures are in it as data; their colours follow the reader's choice of light or dark.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from train.evaluation.document import Block, Bullets, Heading, Picture, Table, Text
from train.evaluation.style import adaptive_svg, svg_width

#: Points of width from which a figure is scrolled on a phone, not made smaller.
PHONE = 500

_CSS = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --soft: #57606a;
  --line: #d5dae0; --shade: #f5f7f9; --accent: #0b5c94; --bad: #a53d00; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181d; --ink: #e6e9ed;
  --soft: #a3adb8; --line: #343c46; --shade: #1c2229; --accent: #6cc1f2; --bad: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
ul { padding-left: 1.25rem; } li { margin: .3rem 0; }
ul.bad { list-style: none; padding: .4rem 1rem; border-left: 4px solid var(--bad);
  background: var(--shade); }
nav { font-size: .9rem; color: var(--soft); }
nav a { color: var(--accent); margin-right: 1rem; white-space: nowrap; }
.scroll { overflow-x: auto; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; line-height: 1.3; }
th:first-child, td:first-child, table.words th, table.words td { text-align: left; }
table.words td { white-space: normal; overflow-wrap: anywhere; }
th:first-child, td:first-child { padding-left: 0; }
tr.strong td { font-weight: 650; background: var(--shade); }
tr.strong td:first-child { padding-left: .4rem; }
figure { margin: 1.25rem 0 1.75rem; }
figure img { display: block; max-width: 100%; height: auto; }
figure.wide img { min-width: 40rem; }
figcaption, .caption { font-size: .875rem; color: var(--soft); max-width: 46rem;
  margin: .4rem 0 0; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media print { details > * { display: block; } }
"""


def to_page(title: str, blocks: Sequence[Block], files: Mapping[str, bytes]) -> str:
    """``files``: the content of every picture by its name."""
    sections = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = " ".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in sections)
    body, after_title = [], False
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2 and not after_title:
            body.append(f"<nav>{links}</nav>")
            after_title = True
        body.append(_block(block, files))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _block(block: Block, files: Mapping[str, bytes]) -> str:
    if isinstance(block, Heading):
        level = f"h{block.level}"
        mark = f' id="{_anchor(block.text)}"' if block.level == 2 else ""
        return f"<{level}{mark}>{html.escape(block.text)}</{level}>"
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Bullets):
        items = "\n".join(f"<li>{html.escape(item)}</li>" for item in block.items)
        mark = ' class="bad"' if block.bad else ""
        return f"<ul{mark}>\n{items}\n</ul>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        return _picture(block, files)
    inside = "\n".join(_block(inner, files) for inner in block.blocks)
    return f"<details>\n<summary>{html.escape(block.title)}</summary>\n{inside}\n</details>"


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in table.heads)
    rows = []
    for i, cells in enumerate(table.rows):
        mark = ' class="strong"' if i in table.strong else ""
        inside = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f"<tr{mark}>{inside}</tr>")
    mark = "" if table.numbers else ' class="words"'
    return (
        f'<div class="scroll" tabindex="0"><table{mark}>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + f'\n</tbody></table></div>\n<p class="caption">{html.escape(table.caption)}</p>'
    )


def _picture(picture: Picture, files: Mapping[str, bytes]) -> str:
    content, drawn = files[picture.file], PurePath(picture.file).suffix == ".svg"
    kind = "image/svg+xml" if drawn else "image/png"
    data = base64.b64encode(adaptive_svg(content) if drawn else content).decode()
    alt, caption = html.escape(picture.alt, quote=True), html.escape(picture.caption)
    image = f'<img src="data:{kind};base64,{data}" alt="{alt}">'
    mark = ' class="wide"' if drawn and svg_width(content) > PHONE else ""
    return (
        f'<figure{mark}><div class="scroll" tabindex="0">{image}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _anchor(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())

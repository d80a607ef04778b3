"""A report's blocks as Markdown; figures are files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from train.evaluation.document import Block, Bullets, Heading, Picture, Table, Text

#: Characters that Markdown would read as its own.
_SPECIAL = re.compile(r"([\\`*_<>\[\]|])")


def to_markdown(blocks: Sequence[Block]) -> str:
    """All blocks, an empty line between two."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def escaped(text: str) -> str:
    """``text`` such that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escaped(block.text)}"
    if isinstance(block, Text):
        return escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {escaped(item)}" for item in block.items)
    if isinstance(block, Picture):
        return f"![{escaped(block.alt)}](<{block.file}>)\n\n{escaped(block.caption)}"
    if isinstance(block, Table):
        return _table(block)
    return "\n\n".join([f"**{escaped(block.title)}**", *map(_block, block.blocks)])


def _table(table: Table) -> str:
    sides = ["---" if i == 0 or not table.numbers else "---:" for i in range(len(table.heads))]
    lines = [_line(table.heads), f"| {' | '.join(sides)} |"]
    for i, row in enumerate(table.rows):
        cells = [escaped(cell) for cell in row]
        if i in table.strong:
            cells = [f"**{cell}**" if cell else cell for cell in cells]
        lines.append(_joined(cells))
    return "\n".join([*lines, "", escaped(table.caption)])


def _line(cells: Sequence[str]) -> str:
    return _joined([escaped(cell) for cell in cells])


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""A report as blocks, written once and rendered as Markdown and as a page: text is plain text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Heading:
    """``level`` 1 for the title, 2 for a section, 3 below it."""

    text: str
    level: int


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A list; ``bad``: of things to worry about."""

    items: tuple[str, ...]
    bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """``rows`` of cells under ``heads``; the first column is words, the others are numbers.

    ``strong``: indices of rows that sum up others. ``numbers`` False: all columns are words.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    strong: frozenset[int] = frozenset()
    numbers: bool = True


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A file beside the report; ``alt`` says what is in it to who cannot see it."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Blocks that a page shows when asked."""

    title: str
    blocks: tuple[Block, ...]


Block = Heading | Text | Bullets | Table | Picture | Fold

"""Blocks as Markdown and as a page, and figures that follow light and dark."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.dom import minidom

import numpy as np

from model.image import InputSpec, decode
from train.evaluation import contact_sheet, figures
from train.evaluation.contact_sheet import COLUMNS, GAP, ROWS
from train.evaluation.document import Block, Bullets, Fold, Heading, Picture, Table, Text
from train.evaluation.judging import GATE, JudgedSet
from train.evaluation.markdown import to_markdown
from train.evaluation.measure import Side
from train.evaluation.page import to_page
from train.evaluation.style import DARK, adaptive_svg, blank, styled, svg_width, to_svg
from train.images import Images

HOSTILE = '<script>alert("1")</script> | *a* _b_ [c](d) `e` $x$ & more'


class Words(HTMLParser):
    """Tags, and the words between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def everything(name: str) -> list[Block]:
    table = Table(heads=("what", name), rows=((name, "1"), ("sum", "2")), caption=name)
    return [
        Heading(text=name, level=1),
        Heading(text=name, level=2),
        Text(text=name),
        Bullets(items=(name,), bad=True),
        table,
        Fold(title=name, blocks=(Picture(file="a.png", alt=name, caption=name),)),
    ]


def test_a_page_shows_words_as_they_are() -> None:
    found = Words(to_page(HOSTILE, everything(HOSTILE), {"a.png": b"png"}))
    assert "script" not in found.tags
    # title, both headings, link, text, bullet, head, cell, two captions, summary
    assert found.words.count(HOSTILE) == 11


def test_an_alternative_text_stays_in_its_quotes() -> None:
    page = to_page("t", [Picture(file="a.png", alt='a "b" <c>', caption="")], {"a.png": b"png"})
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in page


def test_markdown_shows_words_as_they_are() -> None:
    text = to_markdown(everything(HOSTILE))
    escaped = r"\<script\>alert("
    assert text.count(escaped) == text.count("script>alert(") + text.count(escaped)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}


def test_sums_are_strong_and_words_are_to_the_left() -> None:
    table = Table(
        heads=("a", "b"), rows=(("x", "1"), ("y", "")), caption="c", strong=frozenset({1})
    )
    assert to_markdown([table]).splitlines()[:4] == [
        "| a | b |",
        "| --- | ---: |",
        "| x | 1 |",
        "| **y** |  |",
    ]


def judged(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> JudgedSet:
    return JudgedSet(scores={GATE: scores}, p_values={}, decisions=None, not_finite=0)  # type: ignore[arg-type]


def side(count: int, shape: tuple[int, int, int]) -> Side:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, *shape), np.uint8)
    images = Images(
        ids=tuple(map(str, range(count))),
        pixels=pixels,
        labels=np.full(count, -1),
        digests=np.zeros((count, 32), np.uint8),
    )
    return Side(name="some $set", images=images, judged=judged(np.arange(float(count))))


def test_a_drawing_in_light_and_dark() -> None:
    known, odd = side(60, (1, 8, 8)), side(30, (1, 8, 8))
    with styled():
        drawn = to_svg(figures.scores(known.judged, [odd]))
        again = to_svg(figures.scores(known.judged, [odd]))
    assert drawn == again
    assert svg_width(drawn) > 0
    adaptive = adaptive_svg(drawn).decode()
    minidom.parseString(adaptive)
    assert "prefers-color-scheme:dark" in adaptive
    outside = adaptive.split("</style>", 1)[1]
    assert not any(color in outside for color in DARK)
    assert re.search(r"(fill|stroke): var\(--c\d", outside)


def test_colours_of_a_drawing_are_told_apart_without_hue() -> None:
    """Blue and orange, and their partners on a dark ground, differ from it and each other."""

    def lightness(color: str) -> float:
        red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return float(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)

    for ground, colors in (("#ffffff", list(DARK)), (DARK["#fefefe"], list(DARK.values()))):
        for color in (colors[i] for i in (1, 2, 4, 5, 6, 7)):  # words and lines, not grids
            pair = sorted([lightness(ground), lightness(color)])
            assert (pair[1] + 0.05) / (pair[0] + 0.05) > 3, (ground, color)


def test_scores_without_end_are_drawn() -> None:
    known, odd = side(60, (1, 8, 8)).judged, side(4, (1, 8, 8))
    wild = Side(name="wild", images=odd.images, judged=judged(np.full(4, np.inf)))
    with styled():
        assert to_svg(figures.scores(known, [wild]))
        assert to_svg(figures.roc(known, [wild], {GATE: "gate"}))


def test_a_sheet_is_in_order() -> None:
    for typical, first in ((True, 0), (False, 59)):
        content = contact_sheet.sheet(side(60, (1, 8, 8)), typical=typical)
        shape = (ROWS * (64 + GAP) + GAP, COLUMNS * (64 + GAP) + GAP)
        pixels = decode(content, InputSpec(shape=(1, *shape)))[0]
        step = 1 if typical else -1
        places = [(0, 0), (0, 1), (1, 0), (4, 9)]
        found = [pixels[GAP + y * (64 + GAP), GAP + x * (64 + GAP)] for y, x in places]
        assert found == [first + step * n for n in (0, 1, 10, 49)]


def test_a_sheet_of_few_large_colour_images() -> None:
    content = contact_sheet.sheet(side(3, (3, 100, 200)), typical=True)
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (COLUMNS * (64 + GAP) + GAP, 32 + 2 * GAP)


def test_a_page_holds_its_figures() -> None:
    with styled():
        drawn = to_svg(blank(3, 2))
    picture = Picture(file="a.svg", alt="a", caption="b")
    page = to_page("t", [picture], {"a.svg": drawn})
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert found
    assert base64.b64decode(found[1]) == adaptive_svg(drawn)
    assert b"<metadata>" not in adaptive_svg(drawn)

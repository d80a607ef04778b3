"""What a job says at its end: every number is there, and no stranger's text does anything."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from calibration.calibration import Calibration
from service.batch.contact_sheet import contact_sheet
from service.batch.p_values import Histogram
from service.batch.report import told, write_report
from service.batch.summary import Summary, summarise
from service.batch.words import judged
from tests.calibration.tables import fit, rows
from tests.service.batch.verdicts import LABELS, verdicts

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\u202e&amp;"
VOID = {"meta", "img"}


class Parsed(HTMLParser):
    """Tags in their order and all texts; refuses one that is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(rows())


@pytest.fixture(scope="module")
def summary(calibration: Calibration) -> Summary:
    return summarise([verdicts(calibration, 400, broken=(1, 2))], calibration, LABELS)


def files_of(summary: Summary, sheet: bytes | None = None) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    write_report(files.__setitem__, summary, sheet)
    return files


def page_of(summary: Summary, sheet: bytes | None = None) -> Parsed:
    return Parsed(files_of(summary, sheet)["report.html"].decode())


def test_three_files(summary: Summary) -> None:
    sheet = contact_sheet([(None, "a")])
    files = files_of(summary, sheet)
    assert list(files) == ["summary.json", "most_atypical.png", "report.html"]
    assert json.loads(files["summary.json"]) == json.loads(json.dumps(summary.to_dict()))
    assert files["most_atypical.png"] == sheet
    assert list(files_of(summary)) == ["summary.json", "report.html"]


def test_the_page_needs_nothing_else(summary: Summary) -> None:
    page = page_of(summary, contact_sheet([(None, "a")]))
    sources = [image["src"] or "" for image in page.named("img")]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    assert not page.named("script")
    assert not page.named("link")
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    assert "http" not in files_of(summary)["report.html"].decode().replace("http-equiv", "")
    assert not page_of(summary).named("img")


def test_the_page_has_every_part(summary: Summary) -> None:
    page = page_of(summary)
    for title in (
        *("Decisions", "p-values", "Most atypical", "Change", "Against the labels"),
        *("Predicted classes", "Scores", "Errors"),
    ):
        assert title in page.text
    assert len(page.named("svg")) == 2
    bars = [found for found in page.named("rect") if (found["class"] or "").startswith("bar")]
    assert len(bars) == len([r for r in page.named("rect") if r["class"] == "band"]) == 20
    assert summary.labelled is not None
    assert len(page.named("circle")) == len(summary.labelled.bins)
    for one in summary.atypical:
        assert one.id in page.text
    for name in ("accept", "abstain", "reject"):
        assert f"{summary.outcomes.decisions[name]:,}" in page.text


def test_a_bar_is_as_high_as_its_count(summary: Summary) -> None:
    found = summary.p_values
    assert found is not None
    rects = [r for r in page_of(summary).named("rect") if (r["class"] or "").startswith("bar")]
    heights = np.array([float(r["height"] or "nan") for r in rects])
    counts = np.array(found.counts)
    np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=0.002)


def test_hostile_texts_are_texts(calibration: Calibration) -> None:
    table = verdicts(calibration, 3, broken=(2,))
    for name, values in (
        ("id", [HOSTILE] * 3),
        ("class_label", [HOSTILE] * 2 + [None]),
        ("error", [None, None, HOSTILE]),
        ("model_name", [HOSTILE] * 3),
        ("model_version", ["</title></style>" + HOSTILE] * 3),
    ):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(values, pa.string()))
    found = summarise([table], calibration, [HOSTILE + str(k) for k in range(4)])
    page = page_of(found)
    assert not page.named("script")
    assert not page.named("img")
    raw = files_of(found)["report.html"].decode()
    assert "\x1b" not in raw
    assert "\u202e" not in raw
    shown = HOSTILE.replace("\x1b", "?").replace("\u202e", "?")
    assert page.text.count(shown) >= 6
    assert html.escape(shown) in raw
    for line in told(found).splitlines():
        assert line.isprintable()


def test_the_terminal_gets_a_dozen_lines(summary: Summary) -> None:
    text = told(summary)
    lines = text.splitlines()
    assert 10 <= len(lines) <= 14
    assert all(len(line) <= 171 for line in lines)
    assert lines[0].startswith("rows       400 by pets 1: ")
    rejected = summary.outcomes.rejected
    assert rejected is not None
    assert f"{rejected.share:.2%} [{rejected.low:.2%}, {rejected.high:.2%}] at 99%" in text
    assert "at most 0.05 with confidence 0.95" in text
    assert "no alarm in 398 scores (one false alarm in 30 days at 100 images/s)" in text
    assert re.search(r"moved +score 0\.\d{3} \(\d\.\d x chance\); most: ", text)
    assert "error      2 x N bytes that are not an image" in text


def test_an_alarm_is_told(calibration: Calibration) -> None:
    found = summarise([verdicts(calibration, 400, shift=4.0)], calibration, LABELS)
    assert found.change is not None
    assert found.change.alarm is not None
    said = f"ALARM at row {found.change.alarm.row:,} (id '{found.change.alarm.id}')"
    assert said in told(found)
    assert said in page_of(found).text
    assert "too many from 0 to 0." in told(found)
    page = page_of(found)
    assert any(rect["class"] == "bar out" for rect in page.named("rect"))


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_tell_is_no_fault(calibration: Calibration, count: int) -> None:
    for known in (calibration, None):
        table = verdicts(known, count, broken=tuple(range(count)))
        found = summarise([table], known, LABELS)
        assert told(found).startswith(f"rows       {count} by ")
        assert page_of(found, contact_sheet([])).text


def test_a_model_without_calibration(calibration: Calibration) -> None:
    found = summarise([verdicts(None, 60)], None, LABELS)
    assert "60 scored (100.0%)" in told(found)
    page = page_of(found)
    assert "Scores" in page.text
    assert "Most atypical" not in page.text
    assert not page.named("svg")


def test_bins_side_by_side_are_one_span() -> None:
    counts = (9, 9, 1, 0, *[1] * 15, 9)
    found = Histogram(counts=counts, low=(1,) * 20, high=(2,) * 20, level=0.99)
    assert judged(found) == (
        "4 of 20 bins outside of the band of typical images: too many from 0 to 0.1 and from 0.95 "
        "to 1, too few from 0.15 to 0.2"
    )

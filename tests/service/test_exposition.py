"""Totals as scrapers read them: text, and OpenMetrics with exemplars."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from service import metrics
from service.exposition import MAX_ID, exposition
from service.tally import Tally
from tests.service.faces.asking import over_http

ACCEPT = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _buckets(text: bytes) -> list[Any]:
    return [
        sample
        for family in open_metrics(text.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.name == "oodgate_request_seconds_bucket"
    ]


def test_the_format_is_what_is_accepted() -> None:
    tally = Tally()
    tally.count(metrics.REQUESTS, "http", "ok", by=3)
    for accept, kind, parse in (
        ("", "text/plain", plain),
        ("text/html", "text/plain", plain),
        ("text/plain;version=x", "text/plain", plain),
        ("application/openmetrics-text;version=abc", "text/plain", plain),
        (ACCEPT, "application/openmetrics-text", open_metrics),
    ):
        text, content_type = exposition(tally, accept)
        assert content_type.startswith(kind)
        found = {s.name: s.value for family in parse(text.decode()) for s in family.samples}
        assert found["oodgate_requests_total"] == 3


def test_each_bucket_names_its_latest_request() -> None:
    first, second = Tally(), Tally()
    first.observe(metrics.REQUEST_SECONDS, 0.02, "http", id="one")
    first.observe(metrics.REQUEST_SECONDS, 0.3, "http", id="slow")
    second.observe(metrics.REQUEST_SECONDS, 0.021, "http", id="two")
    second.observe(metrics.REQUEST_SECONDS, 0.022, "http")
    first.merge(second)
    shown = {
        s.exemplar.labels["request_id"]: s
        for s in _buckets(exposition(first, ACCEPT)[0])
        if s.exemplar
    }
    assert set(shown) == {"two", "slow"}
    slow = shown["slow"]
    assert (slow.labels["le"], slow.exemplar.value) == ("0.5", 0.3)
    assert float(slow.exemplar.timestamp) > 1.7e9
    assert b"slow" not in exposition(first, "")[0]  # the plain format has no room for it


@pytest.mark.parametrize(
    ("id", "shown"),
    [
        ("x" * MAX_ID, True),
        ("x" * (MAX_ID + 1), False),
        ('a"b', False),
        ("a\n", False),
        ("ü", False),
    ],
)
def test_an_id_that_is_long_or_not_plain_is_left_out(id: str, shown: bool) -> None:
    tally = Tally()
    tally.observe(metrics.REQUEST_SECONDS, 0.02, "http", id=id)
    found = _buckets(exposition(tally, ACCEPT)[0])
    assert any(sample.exemplar for sample in found) is shown
    assert [sample.value for sample in found][-1] == 1


def test_accept_reaches_the_monitor() -> None:
    response = over_http(lambda c: c.get("/metrics", headers={"accept": "x/y"}))
    assert response.text == "# x/y\n"
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

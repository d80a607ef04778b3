"""What the framework answers by itself has our form too: paths, verbs, HEAD, operations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service import http_api
from tests.service.faces.asking import client, over_http, refused
from tests.service.faces.fakes import bench


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/admin/nowhere", 404, "not_found"),
        ("GET", "/v2/", 404, "not_found"),
        ("POST", "/v1/classify/", 404, "not_found"),
        ("GET", "/v1/classify", 405, "method_not_allowed"),
        ("GET", "/v2/models/fake/infer", 405, "method_not_allowed"),
        ("BREW", "/v1/classify", 405, "method_not_allowed"),
    ],
)
def test_the_frameworks_own_errors(method: str, path: str, status: int, code: str) -> None:
    response = over_http(lambda c: c.request(method, path))
    assert refused(response) == (status, code)
    assert response.headers.get("allow") == ("POST" if status == 405 else None)


def test_a_path_is_named_as_it_was_asked() -> None:
    response = over_http(lambda c: c.get("/a%0Ab"))
    assert response.json()["error"] == "no such path: /a\nb; see /docs"


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/v2",
        "/v2/health/live",
        "/v2/models/fake",
    ],
)
def test_head_is_answered_as_get(path: str) -> None:
    head, get = (over_http(lambda c, m=m: c.request(m, path)) for m in ("HEAD", "GET"))  # type: ignore[misc]
    assert head.status_code == get.status_code == 200
    assert head.headers == get.headers


def test_head_of_what_is_not_there_is_not_there() -> None:
    assert over_http(lambda c: c.head("/nowhere")).status_code == 404
    assert over_http(lambda c: c.head("/v1/classify")).status_code == 405


def test_metrics_without_a_monitor_are_not_ready_and_name_no_address() -> None:
    async def run() -> Any:
        async def unreachable(accept: str = "") -> Any:
            raise ConnectionError("10.0.0.7 refused")

        at = bench()
        app = http_api.create_app(at.engine, at.doors, unreachable, unreachable)
        async with client(app) as asking:
            return [
                await asking.get(path)
                for path in ("/metrics", "/v2/models/stats", "/v2/models/fake/stats")
            ]

    for response in asyncio.run(run()):
        assert refused(response) == (503, "not_ready")
        assert response.headers["retry-after"] == "1"
        assert "10.0.0.7" not in response.text

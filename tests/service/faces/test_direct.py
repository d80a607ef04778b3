"""Routes that FastAPI's layers are left out of: reached past them, guarded and answered as all."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import BadParameterError
from service.http_direct import DirectRoute, GuardedApp
from service.http_errors import add_handlers
from tests.service.faces.asking import client, refused


class _Seen:
    """A guard that notes what passes it."""

    def __init__(self, app: ASGIApp, paths: list[str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._paths.append(scope["path"])
        if scope["path"] == "/breaks the guard":
            raise ArithmeticError("secret")
        await self._app(scope, receive, send)


def _app(seen: list[str]) -> FastAPI:
    app = GuardedApp([Middleware(_Seen, paths=seen)])
    add_handlers(app)

    async def direct(request: Request) -> Response:
        wish = (await request.body()).decode()
        if wish == "refuse":
            raise BadParameterError("not this")
        if wish == "break":
            raise ArithmeticError("secret")
        return Response(f"{request.path_params['name']}: {wish}")

    app.router.add_api_route(
        "/direct/{name}", direct, methods=["POST"], route_class_override=DirectRoute
    )

    @app.get("/other")
    async def other() -> dict[str, bool]:
        return {"other": True}

    return app


def _asked(seen: list[str], method: str, path: str, body: bytes = b"") -> httpx.Response:
    async def run() -> httpx.Response:
        async with client(_app(seen), raising=True) as asking:
            return await asking.request(method, path, content=body)

    return asyncio.run(run())


def test_a_direct_route_is_reached_past_the_search_and_behind_the_guards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def searched(*anything: Any) -> None:
        raise AssertionError("the router was asked")

    monkeypatch.setattr(DirectRoute, "handle", searched)
    seen: list[str] = []
    response = _asked(seen, "POST", "/direct/a%20b", b"hello")
    assert (response.status_code, response.text) == (200, "a b: hello")
    assert seen == ["/direct/a b"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"refuse", 400, "bad_parameter"), (b"break", 500, "internal"), (b"\xff", 500, "internal")],
)
def test_whatever_a_direct_route_raises_is_answered(body: bytes, status: int, code: str) -> None:
    response = _asked([], "POST", "/direct/x", body)
    assert refused(response) == (status, code)
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/other", 200),
        ("GET", "/direct/x", 405),
        ("POST", "/direct/x/y", 404),
        ("POST", "/direct/", 404),
    ],
)
def test_all_else_goes_the_ordinary_way(method: str, path: str, status: int) -> None:
    seen: list[str] = []
    assert _asked(seen, method, path).status_code == status
    assert seen == [path]


def test_whatever_a_guard_raises_is_answered() -> None:
    response = _asked([], "GET", "/breaks%20the%20guard")
    assert refused(response) == (500, "internal")
    assert "secret" not in response.text

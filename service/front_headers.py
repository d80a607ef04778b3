"""Headers by which a client could steer Ray Serve itself, taken off at the door of its servers.

Serve 2.60 decodes some headers as UTF-8 without a net, lets a client turn off the watch for clients
that hang up, and answers its own timeout header with plain text. None of that is offered here:
deadlines are the protocols' own. Serve calls ``middlewares`` where its HTTP servers start, by the
path in ``CALLBACK``.
"""

from __future__ import annotations

import re

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

#: Environment variable that Serve reads, and what it is set to.
CALLBACK = ("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "service.front_headers.middlewares")

#: With "_" for "-": Serve takes some of them with either.
_OF_SERVE = frozenset(
    {
        b"x_request_disconnect_disabled",
        b"x_request_timeout_seconds",
        b"x_session_id",
        b"serve_multiplexed_model_id",
    }
)
_PLAIN = re.compile(rb"[!-~]{1,256}")


class FrontHeaders:
    """ASGI middleware: drops Serve's own headers, and a request id that is no plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            kept = [(name, value) for name, value in scope["headers"] if _may_pass(name, value)]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Serve puts around its HTTP servers."""
    return [Middleware(FrontHeaders)]


def _may_pass(name: bytes, value: bytes) -> bool:
    if name == b"x-request-id":
        return _PLAIN.fullmatch(value) is not None
    return name.lower().replace(b"-", b"_") not in _OF_SERVE

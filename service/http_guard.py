"""Who may ask over HTTP: the Host that was asked for, and the key; before any body is read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from service import try_page
from service.engine import Engine
from service.errors import BadHostError, ClientGoneError, ServiceError, UnauthenticatedError
from service.http_body import ENVELOPE_BYTES, drain
from service.http_errors import respond
from service.keys import Keys, presented

#: What probes ask: without a key, and by whatever address they know.
PROBE_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})

#: What scrapers and people who look for help may ask without a key as well.
OPEN_PATHS = PROBE_PATHS | {"/", "/metrics", "/docs", "/openapi.json", *try_page.FILES}

#: Deploying has keys of its own.
ADMIN_PREFIX = "/admin/"


class HeadAsGet:
    """HEAD is answered as GET is; the server leaves the body away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class HostGuard:
    """Refuses a Host that is not this service's, as a page that was rebound by DNS would send.

    ``allowed``: names without ports, ``*.example.org`` for all below one; empty for any.
    """

    def __init__(self, app: ASGIApp, engine: Engine, allowed: Sequence[str]) -> None:
        self._app = app
        self._engine = engine
        self._allowed = [name.lower() for name in allowed]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not self._may(scope):
            await _refuse(self._engine, BadHostError(), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        if not self._allowed or scope["path"] in PROBE_PATHS:
            return True
        return self._known(_header(scope, b"host"))

    def _known(self, host: str) -> bool:
        name = host.lower()
        end = name.rfind("]") + 1  # an address of IPv6 stands in brackets
        name = name[: name.find(":", end)] if ":" in name[end:] else name
        return any(
            name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:]))
            for allowed in self._allowed
        )


class KeyGuard:
    """Refuses requests without a known key, but for the open paths; without keys all are open."""

    def __init__(self, app: ASGIApp, engine: Engine, keys: Keys) -> None:
        self._app = app
        self._engine = engine
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not self._may(scope):
            await _refuse(self._engine, UnauthenticatedError(), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        path = scope["path"]
        if not self._keys or path in OPEN_PATHS or path.startswith(ADMIN_PREFIX):
            return True
        return self._keys.accepts(key_in(scope))


def key_in(scope: Scope) -> str:
    """The key that a request presents; empty where there is none."""
    names = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return presented(names)


def request_id(scope: Scope) -> str:
    """The caller's X-Request-ID, or the one that Serve has put there."""
    return _header(scope, b"x-request-id")[:256]


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


async def _refuse(
    engine: Engine, error: ServiceError, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer once the body is through, or cut off at a bound."""
    fault = engine.refuse("http", error, request_id(scope))
    with contextlib.suppress(ClientGoneError):
        await drain(receive, ENVELOPE_BYTES)
    await respond(fault)(scope, receive, send)

"""Routes that read their requests themselves, and the application that goes straight to them.

What FastAPI and Starlette put around a route (some ten layers, and a search through all routes)
costs as much as all that this service does with a small request itself. These routes need none of
it: they take the request, return the response, and whatever they raise is answered here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import fault_of
from service.http_errors import respond


class DirectRoute(APIRoute):
    """A route whose function takes the request and returns the response: nothing is read for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


class GuardedApp(FastAPI):
    """FastAPI behind ``guards`` (the first one sees a request first), with a way around its layers.

    The guards are outermost, so that nothing passes them by.
    """

    def __init__(self, guards: Sequence[Middleware], **options: Any) -> None:
        super().__init__(**options)
        self._guards = guards

    def build_middleware_stack(self) -> ASGIApp:
        """Called by Starlette once, at the first request."""
        direct = [route for route in self.routes if isinstance(route, DirectRoute)]
        app: ASGIApp = _Shortcut(super().build_middleware_stack(), direct)
        for guard in reversed(self._guards):
            app = guard.cls(app, *guard.args, **guard.kwargs)
        return _Answering(app)


class _Answering:
    """Outside of all guards: what one of them raises is answered in the service's own words."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            await respond(fault_of(error))(scope, receive, send)


class _Shortcut:
    """Calls direct routes; all else goes on as it came."""

    def __init__(self, app: ASGIApp, routes: Sequence[DirectRoute]) -> None:
        self._app = app
        self._routes = [
            (route.path_regex, route.methods or set(), route.endpoint) for route in routes
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        endpoint, scope["path_params"] = found
        try:
            response = await endpoint(Request(scope, receive))
        except Exception as error:
            response = respond(fault_of(error))
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Callable[[Request], Any], dict[str, str]] | None:
        for pattern, methods, endpoint in self._routes:
            match = pattern.match(scope["path"])
            if match and scope["method"] in methods:
                return endpoint, match.groupdict()
        return None

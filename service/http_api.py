"""The HTTP application of one replica: its faces, its doors, and what operators ask of it.

``create_app`` puts the parts together. Each route reads a request into an ``Ask``, hands it to the
engine and writes the answer or the fault; none words an error itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service.admin import Admin
from service.answer import ErrorResponse
from service.docs_page import docs_page
from service.engine import Engine
from service.errors import NotReadyError, fault_of
from service.http_admin import add_admin
from service.http_classify import add_classify
from service.http_direct import GuardedApp
from service.http_errors import add_handlers
from service.http_explain import add_explain
from service.http_guard import HeadAsGet, HostGuard, KeyGuard
from service.keys import Keys
from service.oip.rest import Statistics, add_inference
from service.status_page import add_status_page
from service.try_page import add_try_page

#: The text of all metrics and its Content-Type, as the header Accept asks for.
Exposition = Callable[[str], Awaitable[tuple[bytes, str]]]

DESCRIPTION = """
Classifies an image and says whether it belongs to the training distribution at all. Every answer
carries a calibrated posterior, a p-value and a decision: `accept`, `abstain` or `reject`. A
rejected image is an answer (200), not an error. The paths below `/v2` are the Open Inference
Protocol. Where the service has API keys, they go into the header `Authorization: Bearer KEY` or
`X-API-Key: KEY`.
"""


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Who may ask for what."""

    keys: Keys
    admin: Admin | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()


def create_app(
    engine: Engine, doors: Doors, exposition: Exposition, statistics: Statistics
) -> FastAPI:
    """The application; ``exposition`` and ``statistics`` speak of all replicas."""
    app = GuardedApp(
        _guards(engine, doors),
        title="oodgate",
        summary="An image-classification service that can say no.",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    add_handlers(app)
    add_classify(app, engine)
    add_inference(app, engine, statistics)
    add_explain(app, engine)
    if doors.admin is not None:
        add_admin(app, doors.admin)
    _add_operations(app, exposition)
    add_status_page(app)
    add_try_page(app)
    return app


def _guards(engine: Engine, doors: Doors) -> list[Middleware]:
    """What sees a request before any route does, in this order."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=doors.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["Inference-Header-Content-Length", "Retry-After"],
    )
    return [
        Middleware(HostGuard, engine=engine, allowed=doors.allowed_hosts),
        *([cors] if doors.cors_origins else []),
        Middleware(KeyGuard, engine=engine, keys=doors.keys),
        Middleware(HeadAsGet),
    ]


def _add_operations(app: FastAPI, exposition: Exposition) -> None:
    @app.get("/healthz", summary="The process lives", tags=["operations"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="The model is loaded and warm",
        description="Answered by a replica, and a replica is reachable only once it is warm; "
        "before that the ingress answers with an error.",
        tags=["operations"],
    )
    async def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.get(
        "/metrics",
        summary="Metrics of the whole service",
        description="In the text format of Prometheus or, where Accept asks for it, OpenMetrics, "
        "with the id of a request beside each bucket of its latency.",
        responses={
            200: {
                "content": {
                    kind: {"schema": {"type": "string"}}
                    for kind in ("text/plain", "application/openmetrics-text")
                }
            },
            503: {"model": ErrorResponse, "description": "the monitor is not reachable"},
        },
        response_class=Response,
        tags=["operations"],
    )
    async def metrics(request: Request) -> Response:
        try:
            text, content_type = await exposition(request.headers.get("accept", ""))
        except Exception as error:
            raise fault_of(NotReadyError("the monitor is not reachable; try again")) from error
        return Response(text, headers={"Content-Type": content_type})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

"""The HTTP face: envelopes only.

``create_app`` gives the ASGI application of one replica. It reads a request into an ``Ask``, hands
it to the engine and writes the answer or the fault; it never words an error itself. Every failure,
the framework's own included, is ``{"error": ..., "code": ...}``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.answer import ClassifyResponse, ErrorResponse
from service.docs_page import docs_page
from service.engine import Ask, Engine
from service.errors import (
    TABLE,
    BadParameterError,
    BodyTooLargeError,
    ClientGoneError,
    Fault,
    MethodNotAllowedError,
    NotFoundError,
    NotReadyError,
    Status,
    fault_of,
)
from service.parameters import ask

#: Room for the boundaries, headers and small fields of a multipart body.
ENVELOPE_BYTES = 64 * 1024

#: How long a client may go on sending what is over the limit before it is answered.
DRAIN_S = 5.0

Value = TypeVar("Value")

DESCRIPTION = """
Classifies an image and says whether it belongs to the training distribution at all. Every answer
carries a calibrated posterior, a p-value and a decision: `accept`, `abstain` or `reject`. A
rejected image is an answer (200), not an error.
"""

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "alpha": {
        "description": "rate of false rejections to be held; the bundle's own when left out",
        "schema": {
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        },
    },
    "id": {"description": "echoed in the answer", "schema": {"type": "string", "maxLength": 256}},
    "top_k": {
        "description": "how many classes of the posterior to return",
        "schema": {"type": "integer", "minimum": 1},
    },
}
_REQUEST = {
    "parameters": [{"name": n, "in": "query", **p} for n, p in _PARAMETERS.items()],
    "requestBody": {
        "required": True,
        "description": "The encoded image itself, with any Content-Type or none; or a form with a "
        "file field `image` beside optional fields of the parameters' names.",
        "content": {
            "image/*": _IMAGE,
            "application/octet-stream": _IMAGE,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        **{n: p["schema"] for n, p in _PARAMETERS.items()},
                    },
                }
            },
        },
    },
}


def create_app(engine: Engine, exposition: Callable[[], Awaitable[bytes]]) -> FastAPI:
    """The application of one replica; ``exposition`` gives the metrics of all of them."""
    app = FastAPI(
        title="oodgate",
        summary="An image-classification service that can say no.",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(_HeadAsGet)
    app.add_exception_handler(Fault, _on_fault)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_exception)
    _add_classify(app, engine)
    _add_operations(app, exposition)
    return app


class _HeadAsGet:
    """HEAD is answered as GET is; the server leaves the body away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _add_classify(app: FastAPI, engine: Engine) -> None:
    @app.post(
        "/v1/classify",
        summary="Classify one image, or reject it",
        response_model=ClassifyResponse,
        responses=_error_responses(),
        openapi_extra=_REQUEST,
        tags=["classification"],
    )
    async def classify(request: Request) -> Response:
        response = await engine.answer("http", lambda: _read(request, engine.limits.max_body_bytes))
        return Response(response.model_dump_json(by_alias=True), media_type="application/json")


def _add_operations(app: FastAPI, exposition: Callable[[], Awaitable[bytes]]) -> None:
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
        summary="Metrics of the whole service, in the Prometheus text format",
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            503: {"model": ErrorResponse, "description": "the monitor is not reachable"},
        },
        response_class=Response,
        tags=["operations"],
    )
    async def metrics() -> Response:
        try:
            text = await exposition()
        except Exception as error:
            raise fault_of(NotReadyError("the monitor is not reachable; try again")) from error
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))


async def _read(request: Request, limit: int) -> Ask:
    query = request.query_params.multi_items()
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return ask(await _body(request, limit, limit), _single(query))
    body = await _body(request, limit + ENVELOPE_BYTES, limit)
    form = await _form(request.headers, body)
    try:
        fields = _single(form.multi_items())
        image = fields.pop("image", None)
        if not isinstance(image, UploadFile):
            raise BadParameterError("the form has no file field `image`: expected the image there")
        texts = [(name, value) for name, value in fields.items() if isinstance(value, str)]
        return ask(await image.read(), _single([*query, *texts]))
    finally:
        await form.close()


def _single(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Refuse a parameter that is given twice: which one is meant cannot be known."""
    values: dict[str, Value] = {}
    for name, value in pairs:
        if name in values:
            raise BadParameterError(f"the parameter {name[:40]!r} is given more than once")
        values[name] = value
    return values


async def _body(request: Request, bound: int, limit: int) -> bytes:
    """The body, up to ``bound`` bytes; the message of a longer one names ``limit``.

    A client that asks first (``Expect: 100-continue``) is refused before it sends.
    """
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > bound
    if too_large and "expect" in request.headers:
        raise BodyTooLargeError(limit)
    stream = request.stream()
    try:
        body = None if too_large else await _collect(stream, bound)
        if body is None:
            await _drain(stream, 4 * bound)
            raise BodyTooLargeError(limit)
        return body
    except ClientDisconnect:
        raise ClientGoneError from None


async def _collect(stream: AsyncIterator[bytes], bound: int) -> bytes | None:
    """All of it, or None as soon as it is more than ``bound`` bytes."""
    chunks: list[bytes] = []
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > bound:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def _drain(stream: AsyncIterator[bytes], bound: int) -> None:
    """Drop what still comes, within bounds: many clients look for an answer only after sending."""
    received = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for chunk in stream:
                received += len(chunk)
                if received > bound:
                    return


async def _form(headers: Headers, body: bytes) -> FormData:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = MultiPartParser(headers, stream(), max_files=1, max_fields=8)
        return await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError):
        raise BadParameterError(
            "the multipart body cannot be read: expected one file field `image` and at most 8 "
            "other fields"
        ) from None


def _error_responses() -> dict[int | str, dict[str, Any]]:
    """One OpenAPI response a status, naming its codes."""
    codes: dict[int | str, list[str]] = {}
    for _, status in TABLE:
        if status.code not in ("not_found", "method_not_allowed", "cancelled"):
            codes.setdefault(status.http, []).append(status.code)
    codes[500] = ["internal"]
    return {
        http: {"model": ErrorResponse, "description": "`code`: " + ", ".join(names)}
        for http, names in codes.items()
    }


def _respond(status: Status, message: str) -> Response:
    headers = {}
    if status.retry_after_s is not None:
        headers["Retry-After"] = str(status.retry_after_s)
    if status.http in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not worth reading
    body = ErrorResponse(error=message, code=status.code).model_dump_json()
    return Response(body, status.http, headers, media_type="application/json")


async def _on_fault(request: Request, error: Exception) -> Response:
    fault = fault_of(error)
    return _respond(fault.status, fault.message)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else  # noqa: S101
    path = request.scope["path"][:100]
    if error.status_code == 404:
        return await _on_fault(request, NotFoundError(f"no such path: {path}; see /docs"))
    if error.status_code == 405:
        message = f"{path} does not take {request.method}; see /docs"
        response = await _on_fault(request, MethodNotAllowedError(message))
        response.headers.update(error.headers or {})  # which verbs it takes
        return response
    return await _on_fault(request, BadParameterError("the request cannot be read"))


async def _on_exception(request: Request, error: Exception) -> Response:
    return await _on_fault(request, error)

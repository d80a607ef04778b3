"""How every failure looks over HTTP: ``{"error": ..., "code": ...}``, worded by the one table."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service.answer import ErrorResponse
from service.errors import (
    TABLE,
    BadParameterError,
    Fault,
    MethodNotAllowedError,
    NotFoundError,
    fault_of,
)

#: Codes that no caller of a documented path can meet, or that are documented where they can.
_ELSEWHERE = ("not_found", "method_not_allowed", "cancelled", "unsupported", "deploy_refused")


def respond(fault: Fault) -> Response:
    """The response of a fault."""
    status = fault.status
    headers = {}
    if status.retry_after_s is not None:
        headers["Retry-After"] = str(status.retry_after_s)
    if status.http == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status.http in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not worth reading
    body = ErrorResponse(error=fault.message, code=status.code).model_dump_json()
    return Response(body, status.http, headers, media_type="application/json")


def add_handlers(app: FastAPI) -> None:
    """Whatever is raised in the application, by it or by its framework."""
    app.add_exception_handler(Fault, _on_exception)
    for kind, _ in TABLE:
        app.add_exception_handler(kind, _on_exception)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_exception)


def responses(*more: str) -> dict[int | str, dict[str, Any]]:
    """One OpenAPI response a status, naming its codes; ``more``: codes that are left out else."""
    codes: dict[int | str, list[str]] = {}
    for _, status in TABLE:
        if status.code not in _ELSEWHERE or status.code in more:
            codes.setdefault(status.http, []).append(status.code)
    codes[500] = ["internal"]
    return {
        http: {"model": ErrorResponse, "description": "`code`: " + ", ".join(names)}
        for http, names in codes.items()
    }


async def _on_exception(request: Request, error: Exception) -> Response:
    return respond(fault_of(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else  # noqa: S101
    path = request.scope["path"][:100]
    if error.status_code == 404:
        return respond(fault_of(NotFoundError(f"no such path: {path}; see /docs")))
    if error.status_code == 405:
        message = f"{path} does not take {request.method}; see /docs"
        response = respond(fault_of(MethodNotAllowedError(message)))
        response.headers.update(error.headers or {})  # which verbs it takes
        return response
    return respond(fault_of(BadParameterError("the request cannot be read")))

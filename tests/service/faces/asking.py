"""How a service is asked in this process: over ASGI, and by gRPC's methods over their bytes."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
import httpx
from fastapi import FastAPI

from service.grpc_api import add_classifier_to_server
from service.oip.rpc import add_inference_to_server
from tests.service.faces.fakes import Bench, Face, bench


def short(value: object) -> str | None:
    """The id of a case: what is long or binary is not its own name."""
    if isinstance(value, bytes | str) and (isinstance(value, bytes) or len(value) > 40):
        return f"{len(value)} long"
    return None


def client(app: FastAPI, *, raising: bool = False) -> httpx.AsyncClient:
    """``raising``: an exception that leaves the application is one here."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=raising)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def over_http(ask: Ask, at: Bench | None = None) -> httpx.Response:
    """Without a bench of its own a request goes to one that others ask as well."""

    async def run() -> httpx.Response:
        async with client(_shared_app() if at is None else at.app()) as asking:
            return await ask(asking)

    return asyncio.run(run())


@functools.cache
def _shared_app() -> FastAPI:
    return bench().app()


def refused(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a failure; every failure has the same two fields."""
    found = response.json()
    assert set(found) == {"error", "code"}
    assert isinstance(found["error"], str)
    assert found["error"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, found["code"]


class Context:
    """What a gRPC call is told, and tells."""

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]] = ()) -> None:
        self._metadata = tuple(metadata)
        self.code: grpc.StatusCode | None = None
        self.details: str | None = None

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


def methods(face: Face) -> Mapping[str, Any]:
    """Registered methods by their path, as a server looks them up."""
    found: dict[str, Any] = {}

    class Server:
        def add_generic_rpc_handlers(self, added: Any) -> None:
            for handler in added:
                found.update(handler._method_handlers)

    add_classifier_to_server(face, Server())
    add_inference_to_server(face, Server())
    return found


async def call(face: Face, path: str, request: Any, context: Context) -> Any:
    """One unary call over its bytes, with the context where the method takes one, as Serve does."""
    method = methods(face)[path]
    data = request if isinstance(request, bytes) else request.SerializeToString()
    takes_context = "grpc_context" in inspect.signature(method.unary_unary).parameters
    extra = (context,) if takes_context else ()
    answer = await method.unary_unary(method.request_deserializer(data), *extra)
    assert method.response_serializer(answer) == answer.SerializeToString()
    return answer


def over_grpc(
    path: str, request: Any, at: Bench | None = None, context: Context | None = None
) -> tuple[Any, Context]:
    """Answer and context of one call."""
    context = context or Context()
    return asyncio.run(call((at or bench()).face(), path, request, context)), context


async def stream(face: Face, requests: AsyncIterator[Any], context: Context) -> list[Any]:
    """All answers of one stream; requests pass as bytes."""
    method = methods(face)["/inference.GRPCInferenceService/ModelStreamInfer"]

    async def arriving() -> AsyncIterator[Any]:
        async for request in requests:
            data = request if isinstance(request, bytes) else request.SerializeToString()
            yield method.request_deserializer(data)

    return [answer async for answer in method.stream_stream(arriving(), context)]

"""The Open Inference Protocol over HTTP: its paths; what an inference request is, ``rest_call``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from service.engine import Engine
from service.errors import NotReadyError, UnsupportedError
from service.http_direct import DirectRoute
from service.http_errors import responses
from service.http_guard import request_id
from service.oip import documents, metadata
from service.oip.rest_call import InferCall
from service.served import ServedModel

#: Statistics of each version over all replicas.
Statistics = Callable[[], Awaitable[metadata.Values]]

_TAGS: Any = ["open inference protocol"]

#: A model in the version that is served, or in the one that is named.
_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")

#: What Triton offers beyond this protocol's core, and this service does not.
_UNSUPPORTED = (
    "/v2/repository/models/{rest:path}",
    "/v2/systemsharedmemory/{rest:path}",
    "/v2/cudasharedmemory/{rest:path}",
    "/v2/trace/setting",
    "/v2/models/{model}/trace/setting",
    "/v2/logging",
)


def add_inference(app: FastAPI, engine: Engine, statistics: Statistics) -> None:
    """All routes below ``/v2``."""
    for prefix in _MODELS:  # first, since Ray Serve looks through all routes at each request
        _add_infer(app, engine, prefix)
    _add_server(app, engine, statistics)
    for prefix in _MODELS:
        _add_model(app, engine, statistics, prefix)
    _add_unsupported(app)


def _add_server(app: FastAPI, engine: Engine, statistics: Statistics) -> None:
    @app.get("/v2/health/live", summary="The process lives", tags=_TAGS)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="All models are loaded and warm", tags=_TAGS)
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/v2", summary="The server and its extensions", responses=responses(), tags=_TAGS)
    async def server() -> dict[str, Any]:
        return metadata.server_metadata()

    @app.post("/v2/repository/index", summary="What is served", responses=responses(), tags=_TAGS)
    async def index() -> list[dict[str, str]]:
        return metadata.repository_index(engine.models)

    @app.get(
        "/v2/models/stats", summary="Statistics of all models", responses=responses(), tags=_TAGS
    )
    async def all_statistics() -> dict[str, Any]:
        return metadata.model_statistics(engine.models, await _values(statistics))


def _add_infer(app: FastAPI, engine: Engine, prefix: str) -> None:
    async def infer(request: Request) -> Response:
        call = InferCall(request, engine)
        return await engine.answer("oip_http", call.read, call.render, request_id(request.scope))

    app.router.add_api_route(
        f"{prefix}/infer",
        infer,
        methods=["POST"],
        summary="Classify images",
        responses=responses("not_found"),
        tags=_TAGS,
        openapi_extra=documents.infer_operation(documents.path_parameters(prefix)),
        route_class_override=DirectRoute,
    )


def _add_model(app: FastAPI, engine: Engine, statistics: Statistics, prefix: str) -> None:
    def find(request: Request) -> ServedModel:
        names = request.path_params
        return engine.models.find(names["model"], names.get("version", ""))

    described: dict[str, Any] = {
        "responses": responses("not_found"),
        "tags": _TAGS,
        "openapi_extra": {"parameters": documents.path_parameters(prefix)},
    }

    @app.get(prefix, summary="Tensors of a model", **described)
    async def model_metadata(request: Request) -> dict[str, Any]:
        return metadata.model_metadata(find(request))

    @app.get(f"{prefix}/ready", summary="Whether a model may be asked", **described)
    async def model_ready(request: Request) -> dict[str, Any]:
        return {"name": find(request).name.name, "ready": True}

    @app.get(f"{prefix}/config", summary="Triton's configuration of a model", **described)
    async def model_config(request: Request) -> dict[str, Any]:
        return metadata.model_config(find(request))

    @app.get(f"{prefix}/stats", summary="Statistics of a model", **described)
    async def model_statistics(request: Request) -> dict[str, Any]:
        return metadata.model_statistics([find(request)], await _values(statistics))


def _add_unsupported(app: FastAPI) -> None:
    async def unsupported(request: Request) -> Response:
        path = request.scope["path"][:100]
        raise UnsupportedError(
            f"{path} is not offered: what is served changes by `oodgate deploy`, and tensors "
            "travel in the request"
        )

    for path in _UNSUPPORTED:
        app.add_api_route(path, unsupported, methods=["GET", "POST"], include_in_schema=False)


async def _values(statistics: Statistics) -> metadata.Values:
    try:
        return await statistics()
    except Exception as error:
        raise NotReadyError("the monitor is not reachable; try again") from error

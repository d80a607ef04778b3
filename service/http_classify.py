"""``POST /v1/classify``: one encoded image in, one verdict out."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from service.answer import ClassifyResponse, answer
from service.ask import Ask, Reply
from service.engine import Engine
from service.http_direct import DirectRoute
from service.http_errors import responses
from service.http_guard import request_id
from service.http_image import PARAMETERS, described, read_image
from service.parameters import ask_of


def add_classify(app: FastAPI, engine: Engine) -> None:
    """The route of our own face."""

    async def classify(request: Request) -> Response:
        limit = engine.limits.max_body_bytes
        text = await engine.answer(
            "http", lambda: read_image(request, limit, ask_of), _render, request_id(request.scope)
        )
        return Response(text, media_type="application/json")

    app.router.add_api_route(
        "/v1/classify",
        classify,
        methods=["POST"],
        summary="Classify one image, or reject it",
        response_model=ClassifyResponse,
        responses=responses(),
        openapi_extra=described(PARAMETERS),
        tags=["classification"],
        route_class_override=DirectRoute,
    )


def _render(ask: Ask, reply: Reply) -> str:
    (verdict,) = reply.verdicts
    response = answer(verdict, reply.labels, reply.model, reply.id, ask.top_k)
    return response.model_dump_json(by_alias=True)

"""``POST /v1/classify``: one encoded image in, one verdict out."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.datastructures import UploadFile

from service.answer import ClassifyResponse, answer
from service.ask import Ask, Reply
from service.engine import Engine
from service.errors import BadParameterError
from service.http_body import ENVELOPE_BYTES, body_of, form_of, single
from service.http_direct import DirectRoute
from service.http_errors import responses
from service.http_guard import request_id
from service.parameters import ask_of

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
    "model": {
        "description": "which of several models; the first one that is served when left out",
        "schema": {"type": "string"},
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


def add_classify(app: FastAPI, engine: Engine) -> None:
    """The route of our own face."""

    async def classify(request: Request) -> Response:
        limit = engine.limits.max_body_bytes
        text = await engine.answer(
            "http", lambda: _read(request, limit), _render, request_id(request.scope)
        )
        return Response(text, media_type="application/json")

    app.router.add_api_route(
        "/v1/classify",
        classify,
        methods=["POST"],
        summary="Classify one image, or reject it",
        response_model=ClassifyResponse,
        responses=responses(),
        openapi_extra=_REQUEST,
        tags=["classification"],
        route_class_override=DirectRoute,
    )


def _render(ask: Ask, reply: Reply) -> str:
    (verdict,) = reply.verdicts
    response = answer(verdict, reply.labels, reply.model, reply.id, ask.top_k)
    return response.model_dump_json(by_alias=True)


async def _read(request: Request, limit: int) -> Ask:
    query = request.query_params.multi_items() if request.scope["query_string"] else []
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return ask_of(await body_of(request, limit, limit), single(query))
    body = await body_of(request, limit + ENVELOPE_BYTES, limit)
    form = await form_of(request.headers, body)
    try:
        fields = single(form.multi_items())
        image = fields.pop("image", None)
        if not isinstance(image, UploadFile):
            raise BadParameterError("the form has no file field `image`: expected the image there")
        texts = [(name, value) for name, value in fields.items() if isinstance(value, str)]
        return ask_of(await image.read(), single([*query, *texts]))
    finally:
        await form.close()

"""``POST /v1/explain``: a verdict with its reasons; ``GET /v1/samples``: what the model draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response

from service.ask import HEATMAPS, MAX_CONTRAST, MAX_HEATMAPS, MIN_CONTRAST, Ask, Reply, Sample
from service.engine import Engine
from service.errors import BadParameterError
from service.explain_answer import (
    ExplainResponse,
    SamplesResponse,
    explanation,
    samples,
)
from service.http_body import single
from service.http_direct import DirectRoute
from service.http_errors import responses
from service.http_guard import request_id
from service.http_image import PARAMETERS, described, read_image
from service.parameters import check_names, whole_of, wish_of

_WISHES: dict[str, dict[str, Any]] = {
    "heatmaps": {
        "description": "classes with a heatmap, most probable first",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_HEATMAPS, "default": HEATMAPS},
    },
    "png": {
        "description": "how many of the heatmaps come as a picture, too",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_HEATMAPS, "default": 1},
    },
    "contrast": {
        "description": "how sharply heatmaps hold a class against the most probable ones",
        "schema": {
            "type": "number",
            "minimum": MIN_CONTRAST,
            "maximum": MAX_CONTRAST,
            "default": 1,
        },
    },
}

#: Images drawn at once: unless asked otherwise, and at most.
SAMPLES, MOST_SAMPLES = 8, 32
#: Seeds are below it.
MOST_SEED = 2**31
_SAMPLING: dict[str, dict[str, Any]] = {
    "count": {
        "description": "how many images, of the classes in turn",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLES, "default": SAMPLES},
    },
    "seed": {
        "description": "another seed draws other images",
        "schema": {"type": "integer", "minimum": 0, "maximum": MOST_SEED - 1, "default": 0},
    },
    "model": PARAMETERS["model"],
}


def add_explain(app: FastAPI, engine: Engine) -> None:
    """The two routes."""
    _add_explain(app, engine)
    _add_samples(app, engine)


def _add_explain(app: FastAPI, engine: Engine) -> None:
    async def explain(request: Request) -> Response:
        limit = engine.limits.max_body_bytes
        text = await engine.answer(
            "http", lambda: read_image(request, limit, wish_of), _render, request_id(request.scope)
        )
        return Response(text, media_type="application/json")

    app.router.add_api_route(
        "/v1/explain",
        explain,
        methods=["POST"],
        summary="Classify one image, or reject it, and say why",
        description="Computed beside the batches of classification, and not counted among "
        "decisions or watched for drift.",
        response_model=ExplainResponse,
        responses=responses(),
        openapi_extra=described(PARAMETERS | _WISHES),
        tags=["explanation"],
        route_class_override=DirectRoute,
    )


def _add_samples(app: FastAPI, engine: Engine) -> None:
    async def draw(request: Request) -> Response:
        query = request.query_params
        model, drawn = await engine.draw(
            lambda: _sample(single(query.multi_items())), request_id(request.scope)
        )
        text = samples(model.name, list(drawn)).model_dump_json()
        return Response(text, media_type="application/json")

    app.router.add_api_route(
        "/v1/samples",
        draw,
        methods=["GET"],
        summary="Images that the model draws itself",
        description="The most typical of several draws from p(image | class).",
        response_model=SamplesResponse,
        responses=responses(),
        openapi_extra={
            "parameters": [{"name": n, "in": "query", **p} for n, p in _SAMPLING.items()]
        },
        tags=["explanation"],
        route_class_override=DirectRoute,
    )


def _sample(texts: Mapping[str, str]) -> Sample:
    check_names(texts, tuple(_SAMPLING))
    return Sample(
        model=texts.get("model", ""),
        count=_bounded(texts, "count", SAMPLES, 1, MOST_SAMPLES),
        seed=_bounded(texts, "seed", 0, 0, MOST_SEED - 1),
    )


def _bounded(texts: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    found = whole_of(texts, name, default, f"from {least} to {most}")
    if not least <= found <= most:
        shown = str(found)[:40]
        raise BadParameterError(f"{name} is {shown}: expected an integer from {least} to {most}")
    return found


def _render(ask: Ask, reply: Reply) -> str:
    return explanation(ask, reply).model_dump_json(by_alias=True)

"""A request with one encoded image: the body itself, or a form; parameters in either place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from service.ask import Ask
from service.errors import BadParameterError
from service.http_body import ENVELOPE_BYTES, body_of, form_of, single

#: An image and the texts beside it, as the engine takes them.
Parse = Callable[[bytes, Mapping[str, str]], Ask]

_IMAGE = {"schema": {"type": "string", "format": "binary"}}
PARAMETERS: dict[str, dict[str, Any]] = {
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


def described(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What OpenAPI says of a request of that kind."""
    return {
        "parameters": [{"name": n, "in": "query", **p} for n, p in parameters.items()],
        "requestBody": {
            "required": True,
            "description": "The encoded image itself, with any Content-Type or none; or a form "
            "with a file field `image` beside optional fields of the parameters' names.",
            "content": {
                "image/*": _IMAGE,
                "application/octet-stream": _IMAGE,
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {
                            "image": {"type": "string", "format": "binary"},
                            **{n: p["schema"] for n, p in parameters.items()},
                        },
                    }
                },
            },
        },
    }


async def read_image(request: Request, limit: int, parse: Parse) -> Ask:
    """Read it, as far as ``limit`` bytes of image; raises what the error table names."""
    query = request.query_params.multi_items() if request.scope["query_string"] else []
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return parse(await body_of(request, limit, limit), single(query))
    body = await body_of(request, limit + ENVELOPE_BYTES, limit)
    form = await form_of(request.headers, body)
    try:
        fields = single(form.multi_items())
        image = fields.pop("image", None)
        if not isinstance(image, UploadFile):
            raise BadParameterError("the form has no file field `image`: expected the image there")
        texts = [(name, value) for name, value in fields.items() if isinstance(value, str)]
        return parse(await image.read(), single([*query, *texts]))
    finally:
        await form.close()

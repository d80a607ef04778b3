"""The OpenAPI description of what is read by hand: paths and inference requests."""

from __future__ import annotations

from typing import Any

from service.oip.outputs import EXPLAINED, OUTPUTS
from service.oip.tensors import INPUTS

_BINARY = {"type": "string", "format": "binary"}

_SCALARS = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": kind} for kind in ("string", "number", "integer", "boolean")]
    },
}

_INPUT = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "enum": list(INPUTS)},
        "datatype": {"type": "string", "enum": sorted(set(INPUTS.values()))},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {
            "type": "array",
            "items": {},
            "description": "flat or nested: whole numbers from 0 to 255 for `pixels`, encoded "
            "images as base64 text for `image`",
        },
        "parameters": {
            **_SCALARS,
            "description": "`binary_data_size`: the tensor follows the JSON, raw",
        },
    },
}

_REQUESTED = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "enum": [*OUTPUTS, *EXPLAINED]},
        "parameters": {
            **_SCALARS,
            "description": "`binary_data`; `classification`: the best so many classes of "
            "`posterior` as text",
        },
    },
}

INFER_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "inputs": {"type": "array", "items": _INPUT, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": _REQUESTED},
        "parameters": {
            **_SCALARS,
            "description": "`alpha`; `timeout` in microseconds; `binary_data_output`",
        },
    },
}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """Model, and version where the path has one."""
    texts = {
        "model": "name of a model that is served",
        "version": "its version: first 12 hex digits of the manifest's SHA-256",
    }
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string"},
        }
        for name, text in texts.items()
        if f"{{{name}}}" in path
    ]


def infer_operation(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """Body and headers of an inference request; its answer is binary where that was asked for."""
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "bytes of JSON before raw tensors; 0: the body is one encoded image",
        "schema": {"type": "integer", "minimum": 0},
    }
    return {
        "parameters": [*parameters, length],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": INFER_REQUEST},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": {"200": {"content": {"application/octet-stream": {"schema": _BINARY}}}},
    }

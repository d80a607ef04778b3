"""A client of the Open Inference Protocol in a few lines, written from the protocol's text.

It shares nothing with the service, so that a misreading cannot hide in both.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

LENGTH = "Inference-Header-Content-Length"

#: numpy's name of each datatype of a fixed size; little-endian.
TYPES = {"INT64": "<i8", "FP32": "<f4", "FP64": "<f8", "BOOL": "|b1", "UINT8": "|u1"}


@dataclass(frozen=True)
class Body:
    """What goes onto the wire."""

    content: bytes
    headers: dict[str, str]


def elements(values: Sequence[bytes]) -> bytes:
    """A raw BYTES tensor."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def body(document: dict[str, Any], *blobs: bytes) -> Body:
    """JSON, and raw tensors behind it."""
    head = json.dumps(document).encode()
    headers = {LENGTH: str(len(head))} if blobs else {}
    return Body(head + b"".join(blobs), headers)


def image_json(images: Sequence[bytes], **more: Any) -> Body:
    """Encoded images as base64."""
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "data": data}
    return body({"inputs": [tensor], **more})


def image_binary(images: Sequence[bytes], **more: Any) -> Body:
    """Encoded images behind the JSON."""
    raw = elements(images)
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(images)],
        "parameters": {"binary_data_size": len(raw)},
    }
    return body({"inputs": [tensor], **more}, raw)


def pixels_json(pixels: np.ndarray[Any, Any], *, nested: bool = False, **more: Any) -> Body:
    data = pixels.tolist() if nested else pixels.ravel().tolist()
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape), "data": data}
    return body({"inputs": [tensor], **more})


def pixels_binary(pixels: np.ndarray[Any, Any], **more: Any) -> Body:
    raw = pixels.tobytes()
    tensor = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": list(pixels.shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    return body({"inputs": [tensor], **more}, raw)


@dataclass(frozen=True)
class Reply:
    """JSON of a reply and its tensors: arrays, or lists of bytes; ``binary``: which came raw."""

    document: dict[str, Any]
    tensors: dict[str, Any]
    binary: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [output["name"] for output in self.document["outputs"]]


def read(response: httpx.Response) -> Reply:
    """A good reply, by its headers; httpx has unpacked it already."""
    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    assert response.headers["content-type"] == (
        "application/json" if length is None else "application/octet-stream"
    )
    content = response.content
    head = len(content) if length is None else int(length)
    document = json.loads(content[:head], parse_constant=_no_constant)
    at, tensors, binary = head, {}, []
    for output in document["outputs"]:
        parameters = output.get("parameters", {})
        if "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            assert "data" not in output
            tensors[output["name"]] = tensor(output, content[at : at + size])
            binary.append(output["name"])
            at += size
        else:
            tensors[output["name"]] = _listed(output)
    assert at == len(content)
    return Reply(document, tensors, tuple(binary))


def tensor(output: dict[str, Any], raw: bytes) -> Any:
    """One raw tensor."""
    if output["datatype"] != "BYTES":
        return np.frombuffer(raw, TYPES[output["datatype"]]).reshape(output["shape"])
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack("<I", raw[at : at + 4])
        found.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    assert at == len(raw)
    assert len(found) == np.prod(output["shape"])
    return found


def _listed(output: dict[str, Any]) -> Any:
    if output["datatype"] == "BYTES":
        assert len(output["data"]) == np.prod(output["shape"])
        return [text.encode() for text in output["data"]]
    data = [float("nan") if value is None else value for value in output["data"]]
    return np.array(data, TYPES[output["datatype"]]).reshape(output["shape"])


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} in JSON")


def packed(content: bytes, encoding: str) -> bytes:
    """As a Content-Encoding says, the same at any time of day."""
    return gzip.compress(content, mtime=0) if encoding == "gzip" else zlib.compress(content)

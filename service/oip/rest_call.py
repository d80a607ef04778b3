"""One inference request over HTTP: read from JSON and raw tensors, answered as it asks.

A body is JSON alone, JSON followed by raw tensors (the header ``Inference-Header-Content-Length``
says where they begin), or, with that header at 0, one encoded image. Content-Type says nothing:
stock clients leave it out or send anything.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request, Response

from service.ask import Ask, Reply
from service.engine import Engine
from service.errors import BadRequestError
from service.http_body import ENVELOPE_BYTES, WINDOW, body_of, unpacked
from service.oip.outputs import (
    OutputTensor,
    WantedOutput,
    checked_wanted,
    outputs_of,
    response_parameters,
    wanted_output,
    wish_in,
)
from service.oip.tensors import InputTensor, ask_of, refuse_shared_memory

LENGTH_HEADER = "inference-header-content-length"

#: Larger bodies are unpacked and read in a thread: the loop has other requests to answer.
_LARGE = 256 * 1024
#: What Python's parser of JSON, which lets nothing else run meanwhile, is given at most: commas and
#: colons, and opened lists and objects. More than this takes longer than a batch of images.
_MAX_VALUES, _MAX_NESTS = 1_000_000, 300_000
#: Smaller answers are not worth compressing.
_COMPRESSED_FROM = 4 * 1024


class InferCall:
    """One inference request: what it wants is kept from reading it to answering it."""

    def __init__(self, request: Request, engine: Engine) -> None:
        self._request = request
        self._engine = engine
        self._wanted: Sequence[WantedOutput] = ()
        self._all_binary = False
        self._id = ""

    async def read(self) -> Ask:
        """The request as the engine takes it."""
        limit = self._engine.limits.max_body_bytes
        bound = limit + ENVELOPE_BYTES
        body = await body_of(self._request, bound, limit)
        encoding = self._request.headers.get("content-encoding", "")
        if len(body) > _LARGE or encoding:
            return await asyncio.to_thread(
                lambda: self._parse(unpacked(body, encoding, bound, limit))
            )
        return self._parse(body)

    def _parse(self, body: bytes) -> Ask:
        names = self._request.path_params
        model, version = names["model"], names.get("version", "")
        length = _header_length(self._request.headers.get(LENGTH_HEADER), len(body))
        if length == 0 and body:
            self._all_binary = True
            return Ask(images=(body,), model=model, version=version)
        envelope = _envelope(body[:length])
        self._id = _text(envelope, "id")
        parameters = _object(envelope, "parameters")
        self._all_binary = parameters.get("binary_data_output") is True
        self._wanted = checked_wanted(
            [_wanted(entry, self._all_binary) for entry in _list(envelope, "outputs")]
        )
        inputs = _inputs(_list(envelope, "inputs"), memoryview(body)[length:])
        return ask_of(
            inputs,
            parameters,
            self._engine.limits.max_images,
            model=model,
            version=version,
            request_id=self._id,
            explain=wish_in(self._wanted),
        )

    def render(self, ask: Ask, reply: Reply) -> Response:
        """JSON, then the tensors that were wanted raw; compressed where the client takes that."""
        binary = self._all_binary and not self._wanted
        tensors = [(tensor, tensor.binary or binary) for tensor in outputs_of(reply, self._wanted)]
        blobs = [tensor.raw() for tensor, raw in tensors if raw]
        sizes = iter(map(len, blobs))
        envelope = {
            "model_name": reply.model.name,
            "model_version": reply.model.version,
            "id": self._id or reply.id,
            "parameters": response_parameters(reply),
            "outputs": [_shown(tensor, next(sizes) if raw else None) for tensor, raw in tensors],
        }
        head = json.dumps(envelope, allow_nan=False).encode()
        headers = {LENGTH_HEADER: str(len(head))} if blobs else {}
        kind = "application/octet-stream" if blobs else "application/json"
        return self._packed(b"".join([head, *blobs]), headers, kind)

    def _packed(self, content: bytes, headers: dict[str, str], kind: str) -> Response:
        encoding = _accepted(self._request.headers.get("accept-encoding", ""))
        if encoding and len(content) >= _COMPRESSED_FROM:
            packer = zlib.compressobj(1, zlib.DEFLATED, WINDOW[encoding])
            content = packer.compress(content) + packer.flush()
            headers = {**headers, "Content-Encoding": encoding, "Vary": "Accept-Encoding"}
        return Response(content, headers=headers, media_type=kind)


def _header_length(value: str | None, size: int) -> int:
    """Bytes of JSON in the body: all of it without the header."""
    if value is None:
        return size
    if not (value.isascii() and value.isdigit() and int(value[:12]) <= size and len(value) <= 12):
        raise BadRequestError(
            f"Inference-Header-Content-Length is {value[:40]!r}: expected the bytes of JSON in a "
            f"body of {size}"
        )
    return int(value)


def _envelope(content: bytes) -> Mapping[str, Any]:
    values = content.count(b",") + content.count(b":")
    if values > _MAX_VALUES or content.count(b"[") + content.count(b"{") > _MAX_NESTS:
        raise BadRequestError(
            f"the JSON has too many values: expected at most {_MAX_VALUES:,} in {_MAX_NESTS:,} "
            "lists and objects; send tensors as binary data"
        )
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is no JSON: expected an inference request") from None
    if not isinstance(found, dict):
        raise BadRequestError("the body is no JSON object: expected an inference request")
    return found


def _inputs(entries: Sequence[Any], rest: memoryview) -> list[InputTensor]:
    inputs = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise BadRequestError("an input is no JSON object: expected name, datatype and shape")
        parameters = _object(entry, "parameters")
        refuse_shared_memory(parameters)
        name = _text(entry, "name")
        data: Any = entry.get("data")
        if "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            if type(size) is not int or not 0 <= size <= len(rest) or data is not None:
                raise BadRequestError(
                    f"binary_data_size of input {name[:40]!r} does not fit: expected its bytes "
                    f"among the {len(rest)} that are left, and no data"
                )
            data, rest = rest[:size], rest[size:]
        elif not isinstance(data, list):
            raise BadRequestError(
                f"input {name[:40]!r} has no data: expected a list, or binary_data_size"
            )
        shape = _shape(entry)
        inputs.append(
            InputTensor(name=name, datatype=_text(entry, "datatype"), shape=shape, data=data)
        )
    if len(rest):
        raise BadRequestError(f"{len(rest)} bytes are left behind the inputs: expected none")
    return inputs


def _wanted(entry: Any, binary: bool) -> WantedOutput:
    if not isinstance(entry, dict):
        raise BadRequestError("an output is no JSON object: expected a name")
    return wanted_output(_text(entry, "name"), _object(entry, "parameters"), binary=binary)


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    shape = _list(entry, "shape")
    if not all(type(size) is int for size in shape):
        raise BadRequestError("a shape holds something else than whole numbers")
    return tuple(shape)


def _or_absent(entry: Mapping[str, Any], name: str, absent: Any) -> Any:
    """A field; many writers of JSON put null where there is none."""
    value = entry.get(name)
    return absent if value is None else value


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = _or_absent(entry, name, "")
    if not isinstance(value, str):
        raise BadRequestError(f"{name} is of type {type(value).__name__}: expected text")
    return value


def _list(entry: Mapping[str, Any], name: str) -> list[Any]:
    value = _or_absent(entry, name, [])
    if not isinstance(value, list):
        raise BadRequestError(f"{name} is of type {type(value).__name__}: expected a list")
    return value


def _object(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = _or_absent(entry, name, {})
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} is of type {type(value).__name__}: expected an object")
    return value


def _shown(tensor: OutputTensor, size: int | None) -> dict[str, Any]:
    shown = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if size is None:
        return {**shown, "data": tensor.listed()}
    return {**shown, "parameters": {"binary_data_size": size}}


def _accepted(header: str) -> str:
    """gzip or deflate where the client takes one of them; empty otherwise."""
    for entry in header.lower().split(","):
        name, _, quality = entry.partition(";")
        if name.strip() in WINDOW and quality.replace(" ", "").rstrip("0.") != "q=":
            return name.strip()
    return ""

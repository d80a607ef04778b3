"""Reading a request's body within limits: bytes, time, and what a compressed one may unpack to."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

from fastapi import Request
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive

from service.errors import (
    BadParameterError,
    BadRequestError,
    BodyTooLargeError,
    ClientGoneError,
    SlowBodyError,
)

#: Room for the envelope around images: boundaries and small fields, or JSON beside tensors.
ENVELOPE_BYTES = 64 * 1024

#: How long a client may send nothing at all while its body is awaited.
STALL_S = 10.0

#: How long a client may go on sending what is over the limit before it is answered.
DRAIN_S = 5.0

Value = TypeVar("Value")

#: Window sizes by which zlib tells the two formats apart.
WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def body_of(request: Request, bound: int, limit: int) -> bytes:
    """The body, up to ``bound`` bytes; the message of a longer one names ``limit``.

    A client that asks first (``Expect: 100-continue``) is refused before it sends.
    """
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and (len(declared) > 18 or int(declared) > bound)
    if too_large and "expect" in request.headers:
        raise BodyTooLargeError(limit)
    body, more = (None, True) if too_large else await _collect(request.receive, bound)
    if body is None:
        if more:  # after the end of a body nothing comes that could be waited for
            await drain(request.receive, 4 * bound)
        raise BodyTooLargeError(limit)
    return body


async def _collect(receive: Receive, bound: int) -> tuple[bytes | None, bool]:
    """All of it, or None as soon as it is more than ``bound`` bytes; and whether more follows."""
    chunks: list[bytes] = []
    received, more = 0, True
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(STALL_S) as patience:
            while more:
                chunk, more = await _chunk(receive)
                patience.reschedule(now() + STALL_S)
                received += len(chunk)
                if received > bound:
                    return None, more
                chunks.append(chunk)
    except TimeoutError:
        raise SlowBodyError(STALL_S) from None
    return b"".join(chunks), False


async def drain(receive: Receive, bound: int) -> None:
    """Drop what still comes, within bounds: many clients look for an answer only after sending."""
    received, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while more and received <= bound:
                chunk, more = await _chunk(receive)
                received += len(chunk)


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    """The next part of a body, and whether more follows."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message.get("body", b""), message.get("more_body", False)


def unpacked(body: bytes, encoding: str, bound: int, limit: int) -> bytes:
    """A body as its Content-Encoding says, never more than ``bound`` bytes of it."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in WINDOW:
        raise BadRequestError(f"Content-Encoding is {name[:40]!r}: expected gzip, deflate or none")
    unpacker = zlib.decompressobj(WINDOW[name])
    try:
        content = unpacker.decompress(body, bound + 1)
    except zlib.error:
        raise BadRequestError(f"the body is not {name} as its Content-Encoding says") from None
    if len(content) > bound:
        raise BodyTooLargeError(limit)
    if not unpacker.eof:
        raise BadRequestError(f"the {name} body is cut off: send all of it")
    if unpacker.unused_data:
        raise BadRequestError(f"bytes follow the end of the {name} body: expected one stream of it")
    return content


def single(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Refuse a parameter that is given twice: which one is meant cannot be known."""
    values: dict[str, Value] = {}
    for name, value in pairs:
        if name in values:
            raise BadParameterError(f"the parameter {name[:40]!r} is given more than once")
        values[name] = value
    return values


async def form_of(headers: Headers, body: bytes) -> FormData:
    """A multipart body: one file and a few small fields."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = MultiPartParser(headers, stream(), max_files=1, max_fields=8)
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError):  # the client names the charset: any codec's
        raise BadParameterError(
            "the multipart body cannot be read: expected one file field `image` and at most 8 "
            "other fields"
        ) from None

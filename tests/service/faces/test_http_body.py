"""Bodies over HTTP within bounds: their length, how they arrive, and what they unpack to."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from service import http_body
from service.errors import BadParameterError, BadRequestError, BodyTooLargeError
from service.http_body import drain, single, unpacked
from tests.service.faces.asking import over_http, refused, short
from tests.service.faces.fakes import LIMITS, bench, png

LIMIT = LIMITS.max_body_bytes


def test_a_body_without_a_length_is_counted_while_it_arrives() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield bytes(1000)

    response = over_http(lambda c: c.post("/v1/classify", content=endless()))
    assert refused(response) == (413, "body_too_large")
    assert response.headers["connection"] == "close"
    assert sent <= 6 * LIMIT  # the limit, and what is drained behind it


@pytest.mark.parametrize("length", ["20001", "9" * 30, "9" * 5000])
def test_what_is_announced_as_too_large_is_not_asked_for(length: str) -> None:
    """A client that waits for permission to send gets the answer in its place."""

    async def unasked() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {"content-length": length, "expect": "100-continue"}
    response = over_http(lambda c: c.post("/v1/classify", content=unasked(), headers=headers))
    assert refused(response) == (413, "body_too_large")


@pytest.mark.parametrize("length", ["-1", "", "x", "1.5", "0x10", "\u00b2"])
def test_a_length_that_is_no_number_does_not_count(length: str) -> None:
    """Servers refuse it before the application; here the body itself is counted."""
    headers = {b"content-length": length.encode("latin-1")}
    response = over_http(lambda c: c.post("/v1/classify", content=png(), headers=headers))
    assert response.status_code == 200


def test_a_stalled_upload_of_too_much_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "DRAIN_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield bytes(1000)
        await asyncio.Event().wait()

    headers = {"content-length": str(LIMIT + 1)}
    response = over_http(lambda c: c.post("/v1/classify", content=stalled(), headers=headers))
    assert refused(response) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/fake/infer"])
def test_a_stalled_upload_within_the_limit_is_slow(path: str) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    at = bench(replace(LIMITS, read_timeout_s=0.01))
    response = over_http(lambda c: c.post(path, content=stalled()), at)
    assert refused(response) == (408, "slow_body")
    assert response.headers["connection"] == "close"


def test_a_client_that_goes_away_is_no_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    at = bench()
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        """Nobody is left."""

    scope = {"type": "http", "method": "POST", "path": "/v1/classify", "query_string": b""}
    asyncio.run(at.app()({**scope, "headers": []}, receive, send))
    assert at.counted("http", "cancelled") == 1
    assert not caplog.records


@pytest.mark.parametrize("sizes", [[LIMIT + 1], [LIMIT, 1], [LIMIT - 1, 1, 1]])
def test_after_the_end_of_too_large_a_body_nothing_is_awaited(sizes: list[int]) -> None:
    """A server's ``receive`` would wait then until the client hangs up."""
    parts = [(bytes(size), i < len(sizes) - 1) for i, size in enumerate(sizes)]
    left = iter(parts)

    async def receive() -> Any:
        body, more = next(left, (None, False))
        assert body is not None, "something was awaited after the end"
        return {"type": "http.request", "body": body, "more_body": more}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/classify", "query_string": b""}
    asyncio.run(bench().app()({**scope, "headers": []}, receive, send))
    assert sent[0]["status"] == 413


def test_draining_ends_at_its_bound() -> None:
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        taken += 10
        return {"type": "http.request", "body": bytes(10), "more_body": True}

    asyncio.run(drain(endless, 95))
    assert taken == 100


@pytest.mark.parametrize("encoding", ["gzip", "deflate", " GZIP ", "Deflate"])
@pytest.mark.parametrize("content", [b"", b"x", bytes(1000)])
def test_a_packed_body_is_unpacked(encoding: str, content: bytes) -> None:
    pack = gzip.compress if "gzip" in encoding.lower() else zlib.compress
    assert unpacked(pack(content), encoding, 1000, 1000) == content


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_plain_body_is_left_alone(encoding: str) -> None:
    assert unpacked(b"x", encoding, 1000, 1000) == b"x"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_bomb_is_never_unpacked_beyond_the_bound(pack: Any) -> None:
    name = "gzip" if pack is gzip.compress else "deflate"
    bomb = pack(bytes(1001))
    with pytest.raises(BodyTooLargeError, match="777 bytes"):
        unpacked(bomb, name, 1000, 777)
    assert unpacked(pack(bytes(1000)), name, 1000, 777) == bytes(1000)


@pytest.mark.parametrize(
    ("body", "encoding", "message"),
    [
        (gzip.compress(b"abc")[:-1], "gzip", "cut off"),
        (gzip.compress(b"abc")[:5], "gzip", "cut off"),
        (b"", "gzip", "cut off"),
        (zlib.compress(b"abc")[:-1], "deflate", "cut off"),
        (b"abc", "gzip", "not gzip"),
        (b"abc", "deflate", "not deflate"),
        (zlib.compress(b"abc"), "gzip", "not gzip"),
        (gzip.compress(b"abc"), "deflate", "not deflate"),
        (zlib.compress(b"abc")[2:-4], "deflate", "not deflate"),  # without zlib's frame
        (gzip.compress(b"abc")[:-8] + bytes(8), "gzip", "not gzip"),  # another checksum
        (gzip.compress(b"a") + gzip.compress(b"b"), "gzip", "follow"),
        (zlib.compress(b"a") + b"b", "deflate", "follow"),
        (b"abc", "br", "'br'"),
        (b"abc", "gzip, gzip", "'gzip, gzip'"),
        (b"abc", "x" * 1000, "'" + "x" * 40 + "'"),
    ],
    ids=short,
)
def test_a_body_that_is_not_what_its_encoding_says(
    body: bytes, encoding: str, message: str
) -> None:
    with pytest.raises(BadRequestError, match=message) as refusal:
        unpacked(body, encoding, 1000, 1000)
    assert len(str(refusal.value)) < 200


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    assert single([("a", "1"), ("b", "2")]) == {"a": "1", "b": "2"}
    with pytest.raises(BadParameterError, match="'a' is given more than once"):
        single([("a", "1"), ("b", "2"), ("a", "1")])


def test_an_upload_that_stalls_is_ended_long_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_body, "STALL_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.Event().wait()

    response = over_http(lambda c: c.post("/v1/classify", content=stalled()))
    assert (response.status_code, response.json()["code"]) == (408, "slow_body")

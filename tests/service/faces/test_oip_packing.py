"""Content-Encoding of inference over HTTP, both ways, and the headers of replies."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from dataclasses import replace

import httpx
import pytest

from tests.service.faces import oip
from tests.service.faces.asking import client, over_http, refused, short
from tests.service.faces.fakes import LIMITS, bench, png

INFER = "/v2/models/fake/infer"
BODIES = {
    "JSON": oip.image_json([png(5)]),
    "binary": oip.image_binary([png(5)]),
    "raw": oip.Body(png(5), {oip.LENGTH: "0"}),
}
#: Enough images that an answer is worth packing.
MANY = range(30)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("kind", BODIES)
def test_a_packed_request_is_read_as_the_plain_one(kind: str, encoding: str) -> None:
    """The length of the JSON is that of the unpacked one."""
    body = BODIES[kind]
    headers = {**body.headers, "content-encoding": encoding}
    content = oip.packed(body.content, encoding)
    reply = oip.read(over_http(lambda c: c.post(INFER, content=content, headers=headers)))
    assert reply.tensors["class_index"].tolist() == [5]


@pytest.mark.parametrize(
    ("content", "encoding", "status", "code"),
    [
        (gzip.compress(bytes(10_000_000)), "gzip", 413, "body_too_large"),
        (zlib.compress(bytes(10_000_000)), "deflate", 413, "body_too_large"),
        (gzip.compress(b"{}")[:-2], "gzip", 400, "bad_request"),
        (b"{}", "gzip", 400, "bad_request"),
        (gzip.compress(b"{}"), "deflate", 400, "bad_request"),
        (b"{}", "br", 400, "bad_request"),
        (b"{}", "zstd", 400, "bad_request"),
    ],
    ids=short,
)
def test_a_bad_packing_is_refused(content: bytes, encoding: str, status: int, code: str) -> None:
    assert len(content) < LIMITS.max_body_bytes
    headers = {"content-encoding": encoding}
    response = over_http(lambda c: c.post(INFER, content=content, headers=headers))
    assert refused(response) == (status, code)


async def _ask(accept: str, body: oip.Body) -> httpx.Response:
    async with client(bench(replace(LIMITS, max_images=30)).app()) as asking:
        headers = {**body.headers, "accept-encoding": accept}
        return await asking.post(INFER, content=body.content, headers=headers)


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.000, deflate; q=0.1", "deflate"),
        ("gzip; q=0", None),
        ("br", None),
        ("identity", None),
        ("", None),
        ("*", None),
        (",;,;q=", None),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_an_answer_is_packed_as_the_client_takes_it(
    accept: str, encoding: str | None, binary: bool
) -> None:
    body = oip.image_binary([png(v) for v in MANY], parameters={"binary_data_output": binary})
    response = asyncio.run(_ask(accept, body))
    assert response.headers.get("content-encoding") == encoding
    assert response.headers.get("vary") == (None if encoding is None else "Accept-Encoding")
    plain = asyncio.run(_ask("", body))
    assert oip.read(response).tensors["class_index"].tolist() == list(MANY)
    if binary:  # the length of the JSON is that of the unpacked one
        assert abs(int(response.headers[oip.LENGTH]) - int(plain.headers[oip.LENGTH])) < 3


def test_nothing_else_is_packed() -> None:
    async def run() -> None:
        async with client(bench().app()) as asking:
            headers = {"accept-encoding": "gzip, deflate"}
            for path in ("/v2", "/v2/models/fake", "/v2/models/stats", "/openapi.json", "/docs"):
                response = await asking.get(path, headers=headers)
                assert "content-encoding" not in response.headers
            refusal = await asking.post(INFER, content=b"x" * 6000, headers=headers)
            assert refused(refusal) == (400, "bad_request")
            assert "content-encoding" not in refusal.headers
            ours = await asking.post("/v1/classify", content=png(5), headers=headers)
            assert "content-encoding" not in ours.headers
            short = await asking.post(INFER, content=png(5), headers={**headers, oip.LENGTH: "0"})
            assert "content-encoding" not in short.headers

    asyncio.run(run())


def test_types_and_lengths_of_replies_are_what_stock_clients_look_for() -> None:
    """kserve reads an error only under exactly this type, and tensors by this length."""
    plain = asyncio.run(_ask("", oip.image_binary([png(5)])))
    assert plain.headers["content-type"] == "application/json"
    assert oip.LENGTH not in plain.headers
    raw = asyncio.run(_ask("", oip.Body(png(5), {oip.LENGTH: "0"})))
    assert raw.headers["content-type"] == "application/octet-stream"
    assert 0 < int(raw.headers[oip.LENGTH]) < int(raw.headers["content-length"])
    refusal = asyncio.run(_ask("", oip.Body(b"{}", {})))
    assert refusal.headers["content-type"] == "application/json"
    assert isinstance(refusal.json()["error"], str)

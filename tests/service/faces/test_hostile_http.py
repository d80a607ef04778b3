"""Requests over HTTP made wrong at random: always an answer in our form, never a fault of ours."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from model.image import UInt8Array
from service.verdict import Verdict
from tests.service.faces import oip
from tests.service.faces.asking import client
from tests.service.faces.fakes import FakePredictor, bench, png, verdict_of
from tests.service.faces.mutations import HEADERS, ODD, changed, flipped, text

#: Requests of one test; every so many a good one is among them.
CASES, GOOD_EVERY = 300, 25


class Sturdy(FakePredictor):
    """Judges whatever has been decoded."""

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        return [verdict_of(int(x[0, 0, 0]), a) for x, a in zip(images, alphas, strict=True)]


PIXELS = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
OUTPUTS = [
    {"name": "posterior", "parameters": {"classification": 2}},
    {"name": "score", "parameters": {"binary_data": True}},
]
#: JSON without the raw tensors, and those.
BODIES: tuple[tuple[Any, bytes], ...] = tuple(
    (json.loads(body.content[:length]), body.content[length:])
    for body in (
        oip.image_json([png(5)], id="a"),
        oip.image_json([png(5), png(6)], outputs=OUTPUTS, parameters={"alpha": 0.1}),
        oip.image_binary([png(5), png(6), png(7)], parameters={"timeout": 60_000_000}),
        oip.image_binary([png(5)], outputs=OUTPUTS, parameters={"binary_data_output": True}),
        oip.pixels_json(PIXELS, nested=True),
        oip.pixels_binary(PIXELS, outputs=OUTPUTS),
    )
    for length in [int(body.headers.get(oip.LENGTH, len(body.content)))]
)
LENGTH = oip.LENGTH.lower().encode()
NAMES = (b"content-encoding", b"content-type", b"accept-encoding", b"x-request-id", b"expect")


def infer(rng: random.Random) -> httpx.Request:
    """A request for inference with something wrong about it."""
    document, raw = rng.choice(BODIES)
    if rng.random() < 0.7:
        document = changed(rng, document)
    if raw and rng.random() < 0.4:
        raw = flipped(rng, raw)
    head = text(rng, document)
    headers = {LENGTH: str(len(head)).encode()} if raw else {}
    content = head + raw
    if rng.random() < 0.3:
        content = flipped(rng, content)
    encoding = rng.choice(("", "", "", "", "gzip", "deflate"))
    if encoding:
        content, headers[b"content-encoding"] = oip.packed(content, encoding), encoding.encode()
        content = flipped(rng, content) if rng.random() < 0.3 else content
    if rng.random() < 0.2:
        headers[rng.choice((LENGTH, *NAMES))] = rng.choice(HEADERS)
    path = "/v2/models/fake/infer"
    if rng.random() < 0.05:
        path = f"/v2/models/{quote(rng.randbytes(4))}/infer"
    return httpx.Request("POST", f"http://test{path}", content=content, headers=headers)


def form(rng: random.Random) -> tuple[bytes, dict[bytes, bytes]]:
    """A multipart body."""
    fields = {"alpha": b"0.1", "id": b"a", "top_k": b"3"}
    parts = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields.items()
    ]
    disposition = b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    parts.append(disposition + png(5) + b"\r\n")
    rng.shuffle(parts)
    charset = rng.choice(("", "", "; charset=utf-7", "; charset=punycode", "; charset=idna"))
    kind = f"multipart/form-data; boundary=b{charset}".encode()
    return flipped(rng, b"".join(parts) + b"--b--\r\n"), {b"content-type": kind}


def classify(rng: random.Random) -> httpx.Request:
    """A request of our own face with something wrong about it."""
    content, headers = (png(5), dict[bytes, bytes]()) if rng.random() < 0.5 else form(rng)
    content = flipped(rng, content) if rng.random() < 0.5 else content
    names = ("alpha", "id", "top_k", "model", "x", "\u00e9")
    query = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        value = rng.choice((rng.randbytes(3), str(rng.choice(ODD_TEXTS)).encode()))
        query.append(f"{quote(rng.choice(names))}={quote(value)}")
    if rng.random() < 0.2:
        headers[rng.choice((b"content-length", *NAMES))] = rng.choice(HEADERS)
    url = f"http://test/v1/classify?{'&'.join(query)}"
    return httpx.Request("POST", url, content=content, headers=headers)


ODD_TEXTS = [json.dumps(value)[:300] for value in ODD if len(json.dumps(value)) < 5000]


def check(response: httpx.Response) -> None:
    """An answer, or a refusal that names the fault; too late is what the caller asked for."""
    if response.status_code == 200:
        assert response.content
        return
    found = response.json()
    assert set(found) == {"error", "code"}
    assert found["error"]
    assert len(found["error"]) < 1000
    assert 400 <= response.status_code < 500 or found["code"] == "deadline_exceeded"
    assert response.headers["content-type"] == "application/json"
    assert "content-encoding" not in response.headers


@pytest.mark.filterwarnings("ignore::UserWarning")  # a decoder's, on damaged metadata
@pytest.mark.parametrize("make", [infer, classify])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_is_answered_and_the_next_one_too(
    make: Callable[[random.Random], httpx.Request], seed: int
) -> None:
    async def run() -> None:
        at = bench(predictor=Sturdy())
        statuses = set()
        async with client(at.app(), raising=True) as asking:
            for number in range(CASES):
                request = make(random.Random(1000 * seed + number))
                response = await asking.send(request)
                try:
                    check(response)
                except Exception as error:
                    error.add_note(f"case {number}: {request.headers} {request.content[:2000]!r}")
                    raise
                statuses.add(response.status_code)
                if number % GOOD_EVERY == 0:
                    good = await asking.post("/v1/classify", content=png(5))
                    assert good.json()["class"]["index"] == 5
        assert {200, 400} <= statuses

    asyncio.run(run())

"""A stream of inferences over gRPC: order, errors on the way, and its ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from service.http_api import Doors
from service.oip import rpc
from tests.service.faces.asking import Context, stream
from tests.service.faces.fakes import BROKEN, LIMITS, Bench, Face, bench, keys, png
from tests.service.faces.messages import request, tensors

KEY = "0123456789abcdef-api"


async def each(*requests: Any) -> AsyncIterator[Any]:
    for message in requests:
        yield message


def streamed(*requests: Any, at: Bench | None = None, context: Context | None = None) -> list[Any]:
    return asyncio.run(stream((at or bench()).face(), each(*requests), context or Context()))


def test_answers_come_in_the_order_of_the_requests() -> None:
    values = (5, 28, 0, 9)
    answers = streamed(*(request(png(v), id=str(v)) for v in values))
    assert [answer.infer_response.id for answer in answers] == [str(v) for v in values]
    assert not any(answer.error_message for answer in answers)
    found = [tensors(answer.infer_response)["class_index"].tolist() for answer in answers]
    assert found == [[v] for v in values]


def test_a_request_that_fails_does_not_end_the_stream() -> None:
    context, at = Context(), bench()
    bad = [
        request(b"hello", id="a"),
        request(png(), model_name="nobody", id="b"),
        b"\xff" * 9,
        request(png(BROKEN), id="c"),
    ]
    answers = streamed(*bad, request(png(5), id="last"), at=at, context=context)
    assert [answer.infer_response.id for answer in answers] == ["a", "b", "", "c", "last"]
    errors = [answer.error_message for answer in answers]
    assert all(errors[:-1])
    assert not errors[-1]
    assert "nobody" in errors[1]
    assert "cannot be read" in errors[2]
    assert "secret" not in errors[3]
    assert context.code is None
    for code in ("not_an_image", "unknown_model", "bad_request", "internal", "ok"):
        assert at.counted("oip_grpc", code) == 1


def test_an_empty_stream_ends_well() -> None:
    assert streamed() == []


def test_a_stream_that_says_nothing_for_too_long_ends() -> None:
    async def silent() -> AsyncIterator[Any]:
        yield request(png(5))
        await asyncio.Event().wait()

    async def run() -> None:
        face = bench(replace(LIMITS, read_timeout_s=0.05)).face()
        answers = await stream(face, silent(), Context())
        assert [bool(answer.error_message) for answer in answers] == [False, True]
        assert face._streams == 0

    asyncio.run(run())


def test_more_than_so_many_streams_are_refused_and_places_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc, "MAX_STREAMS", 2)

    async def run() -> None:
        at = bench()
        face, close = at.face(), asyncio.Event()

        async def held() -> AsyncIterator[Any]:
            await close.wait()
            yield request(png(5))

        open_ones = [asyncio.create_task(stream(face, held(), Context())) for _ in range(2)]
        await _until(face, 2)
        context = Context()
        (refusal,) = await stream(face, each(request(png(5))), context)
        assert "overloaded" in refusal.error_message
        assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert at.counted("grpc", "overloaded") == 1
        close.set()
        assert [len(answers) for answers in await asyncio.gather(*open_ones)] == [1, 1]
        assert face._streams == 0
        assert not (await stream(face, each(request(png(5))), Context()))[0].error_message

    asyncio.run(run())


def test_a_caller_that_goes_away_gives_its_place_back() -> None:
    async def run() -> None:
        face = bench().face()

        async def endless() -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield b""

        task = asyncio.create_task(stream(face, endless(), Context()))
        await _until(face, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert face._streams == 0

    asyncio.run(run())


def test_a_stream_needs_a_key_at_its_beginning() -> None:
    at = bench(doors=Doors(keys=keys(KEY)))
    context = Context()
    (refusal,) = streamed(request(png(5)), at=at, context=context)
    assert "key" in refusal.error_message
    assert context.code is grpc.StatusCode.UNAUTHENTICATED
    good = Context((("x-api-key", KEY),))
    assert not streamed(request(png(5)), at=at, context=good)[0].error_message


async def _until(face: Face, streams: int) -> None:
    while face._streams < streams:
        await asyncio.sleep(0)

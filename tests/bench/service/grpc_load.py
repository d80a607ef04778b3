"""A closed loop over gRPC: messages are bytes made beforehand, so that the client costs little."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import grpc

from tests.bench.service.generator import DRAIN_S, LEAD_S
from tests.bench.service.loads import Answer, Load
from tests.bench.service.oip import RPC


def ask(port: int, sent: bytes) -> bytes:
    """One answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return bytes(channel.unary_unary(RPC)(sent, timeout=60))


def closed_loop(
    port: int, messages: Sequence[bytes], *, callers: int, seconds: float, images: int = 1
) -> Load:
    """Every caller sends its next message when it has the answer to the last; one channel each, as
    the clients of a service have."""
    answers: list[Answer] = []
    asyncio.run(_callers(port, messages, callers, seconds, answers))
    return Load(seconds=seconds, images=images, answers=tuple(answers))


async def _callers(
    port: int, messages: Sequence[bytes], callers: int, seconds: float, answers: list[Answer]
) -> None:
    turn = itertools.cycle(messages)
    options = [("grpc.use_local_subchannel_pool", 1)]  # or all would share one connection
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(callers)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    start = perf_counter() + LEAD_S

    async def caller(channel: Any) -> None:
        call = channel.unary_unary(RPC)
        while (since := perf_counter()) < start + seconds:
            status = await _status(call(next(turn), timeout=DRAIN_S))
            now = perf_counter()
            answers.append(Answer(status, now - since, now - start))

    await asyncio.gather(*(caller(channel) for channel in channels))
    await asyncio.gather(*(channel.close() for channel in channels))


async def _status(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"

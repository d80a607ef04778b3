"""tritonclient.grpc.aio, with its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import tritonclient.grpc.aio

from tests.clients.expected import OUTPUTS, Case
from tests.clients.talk import Talk, main
from tests.clients.triton_client import Triton, fault
from tests.clients.triton_grpc_calls import check_stream, grpc_parts, requests_of_a_stream

WAIT_S = 120


async def script(address: str, case: Case) -> Talk:
    async with tritonclient.grpc.aio.InferenceServerClient(address) as client:
        talk = Talk(client, case, fault)
        triton = Triton(talk, tritonclient.grpc.aio)
        await grpc_parts(triton)
        await talk.part("at once", lambda: at_once(triton))
        await talk.part("stream", lambda: stream(triton))
        await talk.client.close()
    return talk


async def at_once(triton: Triton) -> None:
    """Sixteen requests on one connection."""
    case = triton.case
    many = {"image": case.image_tensor()}
    for result in await asyncio.gather(*(triton.infer(many) for _ in range(16))):
        outputs = {name: result.as_numpy(name) for name in OUTPUTS}
        triton.talk.agrees("at once", outputs, case.verdicts)


async def stream(triton: Triton) -> None:
    """One stream with good and bad requests."""

    async def asked() -> AsyncIterator[dict[str, Any]]:
        for name, request in requests_of_a_stream(triton).items():
            yield {**request, "request_id": name}

    found = [answer async for answer in triton.client.stream_infer(asked(), stream_timeout=WAIT_S)]
    results = [result for result, _ in found if result is not None]
    check_stream(triton, results, [error for _, error in found if error is not None])


if __name__ == "__main__":
    main(script)

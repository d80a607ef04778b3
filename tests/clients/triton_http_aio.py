"""tritonclient.http.aio, which also asks for compressed answers of its own accord."""

from __future__ import annotations

import asyncio

import tritonclient.http.aio

from tests.clients.expected import OUTPUTS, Case
from tests.clients.talk import Talk, main
from tests.clients.triton_client import Triton, fault
from tests.clients.triton_http_calls import http_parts


async def script(address: str, case: Case) -> Talk:
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        talk = Talk(client, case, fault)
        triton = Triton(talk, tritonclient.http.aio)
        await http_parts(triton, address)
        await talk.part("at once", lambda: at_once(triton))
        await talk.client.close()
    return talk


async def at_once(triton: Triton) -> None:
    """Sixteen requests on as many connections."""
    case = triton.case
    many = {"image": case.image_tensor()}
    for result in await asyncio.gather(*(triton.infer(many) for _ in range(16))):
        outputs = {name: result.as_numpy(name) for name in OUTPUTS}
        triton.talk.agrees("at once", outputs, case.verdicts)


if __name__ == "__main__":
    main(script)

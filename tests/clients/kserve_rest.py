"""kserve.InferenceRESTClient with protocol v2."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
from kserve import InferenceRESTClient
from kserve.inference_client import RESTConfig

from tests.clients.expected import ALPHA, OUTPUTS, Case
from tests.clients.kserve_calls import errors, infers, request, tensor, tensors
from tests.clients.talk import INVALID, Talk, main

WAIT_S = 120


def fault(error: Exception) -> tuple[str, str]:
    """Status and the service's own text; the client appends status and URL to it."""
    if isinstance(error, httpx.HTTPStatusError):
        return str(error.response.status_code), str(error).split(", '")[0]
    return "none", repr(error)


async def script(address: str, case: Case) -> Talk:
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=WAIT_S)) as client:
        talk = Talk(client, case, fault)

        async def infer(asked: Any) -> Any:
            return await talk.client.infer(base, asked, model_name=asked.model_name)

        good = tensor("pixels", case.pixels)
        ways = {
            "pixels in JSON": [good],
            "channels last in JSON": [tensor("pixels", case.channels_last())],
            "images in JSON": [tensor("image", case.image_texts())],
            "images in binary": [tensor("image", list(case.images), binary=True)],
            "pixels in binary": [tensor("pixels", case.pixels, binary=True)],
        }
        await talk.part("health", lambda: health(talk, base))
        await talk.part("infers", lambda: infers(talk, infer, ways, ALPHA))
        await talk.part("binary answers", lambda: binary_answers(talk, infer, good))
        await talk.part("dictionaries", lambda: dictionaries(talk, base))
        await talk.part("errors", lambda: errors(talk, infer, good))
        await talk.client.close()
    return talk


async def health(talk: Talk, base: str) -> None:
    client, model = talk.client, talk.case.model
    talk.check("server live", await client.is_server_live(base), True)
    talk.check("server ready", await client.is_server_ready(base), True)
    talk.check("model ready", await client.is_model_ready(base, model), True)
    talk.check("unknown model ready", await client.is_model_ready(base, "nobody"), False)


async def binary_answers(talk: Talk, infer: Any, good: Any) -> None:
    """All outputs as raw bytes, and only some of them."""
    case = talk.case
    asked = request(case, [good], parameters={"binary_data_output": True})
    talk.agrees("binary answer", tensors(await infer(asked)), case.verdicts)
    chosen = {"p_value": {"binary_data": True}, "score": {"binary_data": False}, "decision": None}
    answer = await infer(request(case, [good], outputs=chosen))
    talk.check("mixed outputs", list(tensors(answer)), list(chosen))
    talk.agrees("partly binary answer", tensors(answer), case.verdicts)


async def dictionaries(talk: Talk, base: str) -> None:
    """A request as plain JSON, headers both ways, and a fault in it."""
    client, case = talk.client, talk.case
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": list(case.pixels.shape)}
    asked = {"id": "ten", "inputs": [{**pixels, "data": case.pixels.tolist()}]}
    seen: dict[str, str] = {}
    answer = await client.infer(
        base, asked, case.model, headers={"x-request-id": "ten"}, response_headers=seen
    )
    talk.check("id", answer.id, "ten")
    talk.check("type of the answer", seen.get("content-type"), "application/json")
    talk.check("outputs", list(tensors(answer)), list(OUTPUTS))
    talk.agrees("nested lists", tensors(answer), case.verdicts)
    for what, wrong in (
        ("no data", {"inputs": [pixels]}),
        ("300 as a pixel", {"inputs": [{**pixels, "data": [300] * case.pixels.size}]}),
        ("half a pixel", {"inputs": [{**pixels, "data": [0.5] * case.pixels.size}]}),
        ("words as pixels", {"inputs": [{**pixels, "data": ["a"] * case.pixels.size}]}),
        ("inputs that are no list", {"inputs": 3}),
        ("nothing", {}),
    ):
        await talk.refuses(what, partial(client.infer, base, wrong, case.model), INVALID)


if __name__ == "__main__":
    main(script)

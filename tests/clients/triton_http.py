"""tritonclient.http: the client that waits, and its own asynchronous requests."""

from __future__ import annotations

from typing import Any

import tritonclient.http

from tests.clients.expected import ALPHA, OUTPUTS, Case
from tests.clients.talk import INVALID, Talk, main
from tests.clients.triton_client import Triton, fault
from tests.clients.triton_http_calls import http_parts


async def script(address: str, case: Case) -> Talk:
    client = tritonclient.http.InferenceServerClient(address, concurrency=4)
    talk = Talk(client, case, fault)
    triton = Triton(talk, tritonclient.http)
    await http_parts(triton, address)
    await talk.part("at once", lambda: at_once(triton))
    talk.client.close()
    return talk


async def at_once(triton: Triton) -> None:
    """Requests that wait for each other's answers; a bad one among them spoils no other."""
    client, case, talk = triton.client, triton.case, triton.talk
    inputs = triton.inputs({"image": case.image_tensor()})
    settings: list[dict[str, Any]] = [
        {},
        {"parameters": {"alpha": ALPHA}},
        {"parameters": {"alpha": 7.0}},
        {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"},
    ]
    asked = [client.async_infer(case.model, inputs, **chosen) for chosen in settings * 4]
    for number, pending in enumerate(asked):
        if number % 4 == 2:
            await talk.refuses(f"request {number} at once", pending.get_result, INVALID)
            continue
        result = pending.get_result()
        verdicts = case.verdicts_at_alpha if number % 4 == 1 else case.verdicts
        outputs = {name: result.as_numpy(name) for name in OUTPUTS}
        talk.agrees(f"request {number} at once", outputs, verdicts)


if __name__ == "__main__":
    main(script)

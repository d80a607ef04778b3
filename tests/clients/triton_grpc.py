"""tritonclient.grpc: the client that waits, its callbacks and its stream."""

from __future__ import annotations

import queue
from typing import Any

import tritonclient.grpc

from tests.clients.expected import ALPHA, OUTPUTS, Case
from tests.clients.talk import INVALID, Talk, main
from tests.clients.triton_client import Triton, fault
from tests.clients.triton_grpc_calls import check_stream, grpc_parts, requests_of_a_stream

WAIT_S = 120


async def script(address: str, case: Case) -> Talk:
    client = tritonclient.grpc.InferenceServerClient(address)
    talk = Talk(client, case, fault)
    triton = Triton(talk, tritonclient.grpc)
    await grpc_parts(triton)
    await talk.part("callbacks", lambda: callbacks(triton))
    await talk.part("stream", lambda: stream(triton))
    talk.client.close()
    return talk


async def callbacks(triton: Triton) -> None:
    """Many requests at once; a bad one among them spoils no other."""
    client, case, talk = triton.client, triton.case, triton.talk
    inputs = triton.inputs({"image": case.image_tensor()})
    settings: list[dict[str, Any]] = [
        {},
        {"parameters": {"alpha": ALPHA}},
        {"parameters": {"alpha": 7.0}},
    ]
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number in range(12):

        def keep(result: Any, error: Any, number: int = number) -> None:
            answers.put((number, result, error))

        client.async_infer(case.model, inputs, keep, **settings[number % 3])
    for number, result, error in (answers.get(timeout=WAIT_S) for _ in range(12)):
        if number % 3 == 2:
            talk.check(f"status {number}", error and error.status(), INVALID[1])
        elif error is not None:
            talk.faults.append(f"request {number} at once: {error}")
        else:
            verdicts = case.verdicts_at_alpha if number % 3 == 1 else case.verdicts
            outputs = {name: result.as_numpy(name) for name in OUTPUTS}
            talk.agrees(f"request {number} at once", outputs, verdicts)


async def stream(triton: Triton) -> None:
    """One stream with good and bad requests."""
    client = triton.client
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=WAIT_S)
    asked = requests_of_a_stream(triton)
    for name, request in asked.items():
        client.async_stream_infer(**request, request_id=name)
    client.stop_stream()
    found = []
    while not answers.empty():
        found.append(answers.get())
    results = [result for result, _ in found if result is not None]
    check_stream(triton, results, [error for _, error in found if error is not None])


if __name__ == "__main__":
    main(script)

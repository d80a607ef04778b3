"""kserve.InferenceGRPCClient, whose numbers travel typed as well as raw."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient

from tests.clients.expected import ALPHA, UNKNOWN_VERSION, Case
from tests.clients.kserve_calls import errors, infers, request, tensor, tensors
from tests.clients.talk import INVALID, LATE, UNKNOWN, Talk, main


def fault(error: Exception) -> tuple[str, str]:
    """Status and details."""
    if isinstance(error, grpc.aio.AioRpcError):
        return str(error.code()), error.details() or ""
    return "none", repr(error)


async def script(address: str, case: Case) -> Talk:
    async with InferenceGRPCClient(address) as client:
        talk = Talk(client, case, fault)
        infer = talk.client.infer
        good = tensor("pixels", case.pixels)
        ways = {
            "typed pixels": [good],
            "typed images": [tensor("image", list(case.images))],
            "raw images": [tensor("image", list(case.images), binary=True)],
            "raw pixels, channels last": [tensor("pixels", case.channels_last(), binary=True)],
        }
        await talk.part("health", lambda: health(talk))
        # This client's parameters know no fractions, so alpha travels as text.
        await talk.part("infers", lambda: infers(talk, infer, ways, str(ALPHA)))
        await talk.part("settings", lambda: settings(talk, infer, good))
        await talk.part("errors", lambda: errors(talk, infer, good))
        await talk.part("typed errors", lambda: typed_errors(talk, infer))
        await talk.client.close()
    return talk


async def health(talk: Talk) -> None:
    client, model = talk.client, talk.case.model
    talk.check("server live", await client.is_server_live(), True)
    talk.check("server ready", await client.is_server_ready(timeout=60), True)
    talk.check("model ready", await client.is_model_ready(model), True)
    talk.check("unknown model ready", await client.is_model_ready("nobody"), False)


async def settings(talk: Talk, infer: Any, good: Any) -> None:
    """Versions, headers, and the client's own deadline."""
    case = talk.case
    answer = await infer(request(case, [good], model_version=case.version))
    talk.check("version", answer.model_version, case.version)
    answer = await infer(request(case, [good]), headers=(("x-request-id", "ten"),), timeout=60)
    talk.agrees("headers, time enough", tensors(answer), case.verdicts)
    asked = request(case, [good], model_version=UNKNOWN_VERSION)
    await talk.refuses("unknown version", partial(infer, asked), UNKNOWN)
    asked = request(case, [good])
    call = partial(infer, asked, timeout=1e-6)
    await talk.refuses("too late", call, LATE, may_answer=True)


async def typed_errors(talk: Talk, infer: Any) -> None:
    """Typed contents that do not fit their shape or their datatype."""
    case = talk.case
    short = tensor("pixels", case.pixels)
    short.data = short.data[1:]
    much = tensor("pixels", case.pixels)
    much.data = [300] * case.pixels.size
    both = [tensor("pixels", case.pixels), tensor("image", list(case.images), binary=True)]
    none = tensor("pixels", np.zeros((0, *case.pixels.shape[1:]), np.uint8))
    for what, inputs in (
        ("too few numbers", [short]),
        ("300 as a pixel", [much]),
        ("typed and raw inputs", both),
        ("no images", [none]),
    ):
        asked = request(case, inputs)
        await talk.refuses(what, partial(infer, asked), INVALID)


if __name__ == "__main__":
    main(script)

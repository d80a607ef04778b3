"""Messages over gRPC made wrong at random: always a status of the caller's, never of ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from service.protos import classifier_pb2, oip_pb2
from tests.service.faces.asking import Context, call, stream
from tests.service.faces.fakes import bench, png
from tests.service.faces.messages import SERVICE, Output, pixels, request
from tests.service.faces.mutations import flipped
from tests.service.faces.test_hostile_http import Sturdy

CASES, GOOD_EVERY = 600, 50
PIXELS = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
SIZES = (0, 1, 2, -1, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
THEIRS = {
    None,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # as the message itself asks for
}


def infer(rng: random.Random) -> Any:
    """A request for inference with its fields changed."""
    raw = rng.random() < 0.5
    message = request(png(5), png(6), raw=raw) if rng.random() < 0.5 else pixels(PIXELS, raw)
    for _ in range(rng.randint(0, 3)):
        _change(rng, message)
    return message


def _change(rng: random.Random, message: Any) -> None:
    tensor = message.inputs[0]
    parameter = message.parameters[rng.choice(("alpha", "timeout", "x"))]
    match rng.randrange(10):
        case 0:
            tensor.shape[:] = rng.choices(SIZES, k=rng.randint(0, 10))
        case 1:
            tensor.datatype = rng.choice(("BYTES", "UINT8", "FP32", "", "\U0001f600" * 50))
        case 2:
            tensor.name = rng.choice(("image", "pixels", "", "x" * 1000))
        case 3:
            parameter.double_param = rng.choice((float("nan"), float("inf"), -1.0, 0.1, 1e308))
        case 4:
            parameter.string_param = rng.choice(("", "0.1", "nan", "1e999", "x" * 1000))
        case 5:
            parameter.int64_param = rng.choice(SIZES)
        case 6:
            output = Output(name=rng.choice(("posterior", "score", "x")))
            output.parameters["classification"].int64_param = rng.choice(SIZES)
            message.outputs.append(output)
        case 7:
            message.raw_input_contents.append(rng.randbytes(rng.randint(0, 40)))
        case 8:
            tensor.contents.uint_contents.extend((0, 255, 256, 2**32 - 1))
        case _:
            tensor.contents.bytes_contents.append(rng.randbytes(4))


def messages(rng: random.Random) -> tuple[str, bytes]:
    """A method and the bytes of its message, half of the time damaged."""
    image = classifier_pb2.ClassifyRequest(image=png(5), alpha=0.1, id="a", top_k=3)
    asked = oip_pb2.ModelStatisticsRequest(name="fake", version="1")
    path, message = rng.choice(
        (
            ("/oodgate.v1.Classifier/Classify", image),
            (f"{SERVICE}/ModelInfer", infer(rng)),
            (f"{SERVICE}/ModelInfer", infer(rng)),
            (f"{SERVICE}/ModelStatistics", asked),
            (f"{SERVICE}/ModelReady", asked),
            (f"{SERVICE}/ModelConfig", asked),
        )
    )
    data = message.SerializeToString()
    return path, flipped(rng, data) if rng.random() < 0.5 else data


@pytest.mark.filterwarnings("ignore::UserWarning")  # a decoder's, on damaged metadata
@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_is_answered_and_the_next_one_too(seed: int) -> None:
    async def run() -> None:
        face = bench(predictor=Sturdy()).face()
        codes = set()
        for number in range(CASES):
            path, data = messages(random.Random(1000 * seed + number))
            context = Context()
            try:
                await call(face, path, data, context)
                assert context.code in THEIRS
                assert (context.code is None) == (context.details is None)
                assert len(context.details or "") < 1000
            except Exception as error:
                error.add_note(f"case {number}: {path} {data[:2000]!r}")
                raise
            codes.add(context.code)
            if number % GOOD_EVERY == 0:
                answer = await call(face, f"{SERVICE}/ModelInfer", request(png(5)), Context())
                assert answer.outputs
        assert {None, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= codes

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stream_outlives_whatever_comes() -> None:
    async def arriving() -> AsyncIterator[Any]:
        for number in range(CASES):
            rng = random.Random(number)
            message = infer(rng)
            yield flipped(rng, message.SerializeToString()) if rng.random() < 0.5 else message
        yield request(png(5), id="last")

    async def run() -> None:
        answers = await stream(bench(predictor=Sturdy()).face(), arriving(), Context())
        assert len(answers) == CASES + 1
        assert answers[-1].infer_response.id == "last"
        assert not answers[-1].error_message
        failed = [answer.error_message for answer in answers if answer.error_message]
        assert len(failed) > CASES // 10
        assert not [text for text in failed if "internal error" in text]

    asyncio.run(run())

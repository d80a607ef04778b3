"""Our own face over gRPC: keys, ids, refusals, and messages that cannot be read."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from service.grpc_api import SERVICES
from service.http_api import Doors
from service.protos import classifier_pb2
from tests.service.faces.asking import Context, over_grpc
from tests.service.faces.fakes import BROKEN, COLOUR, Bench, bench, keys, png

CLASSIFY = "/oodgate.v1.Classifier/Classify"
KEY = "0123456789abcdef-api"


def classify(at: Bench | None = None, context: Context | None = None, **fields: Any) -> Any:
    return over_grpc(CLASSIFY, classifier_pb2.ClassifyRequest(**fields), at, context)


def test_the_answer_is_the_models_that_was_asked() -> None:
    message, context = classify(image=png(5), model=COLOUR, id="me", top_k=2, alpha=0.2)
    assert context.code is None
    assert (message.id, message.model.name, getattr(message, "class").index) == ("me", COLOUR, 5)
    assert (len(message.posterior), message.alpha) == (2, 0.2)
    assert not message.HasField("p_train")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"image": b""}, grpc.StatusCode.INVALID_ARGUMENT, "empty_image"),
        ({"image": b"hello"}, grpc.StatusCode.INVALID_ARGUMENT, "not_an_image"),
        ({"image": bytes(20_001)}, grpc.StatusCode.INVALID_ARGUMENT, "body_too_large"),
        ({"image": png(), "alpha": 0.0}, grpc.StatusCode.INVALID_ARGUMENT, "bad_parameter"),
        (
            {"image": png(), "alpha": float("nan")},
            grpc.StatusCode.INVALID_ARGUMENT,
            "bad_parameter",
        ),
        ({"image": png(), "alpha": 1e-6}, grpc.StatusCode.INVALID_ARGUMENT, "unsupported_alpha"),
        ({"image": png(), "top_k": 0}, grpc.StatusCode.INVALID_ARGUMENT, "bad_parameter"),
        ({"image": png(), "id": "x" * 257}, grpc.StatusCode.INVALID_ARGUMENT, "bad_parameter"),
        ({"image": png(), "model": "nobody"}, grpc.StatusCode.NOT_FOUND, "unknown_model"),
        ({"image": png(BROKEN)}, grpc.StatusCode.INTERNAL, "internal"),
    ],
)
def test_bad_requests(fields: dict[str, Any], status: grpc.StatusCode, code: str) -> None:
    at = bench()
    _, context = classify(at, **fields)
    assert context.code is status
    assert context.details
    assert "secret" not in context.details
    assert at.counted("grpc", code) == 1


def test_a_message_that_cannot_be_read_is_a_bad_request() -> None:
    """gRPC itself would answer UNKNOWN with the name of a Python class."""
    _, context = over_grpc(CLASSIFY, bytes([255] * 9))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert context.details == "the message cannot be read: expected an oodgate.v1.ClassifyRequest"


@pytest.mark.parametrize(
    ("metadata", "good"),
    [
        ((), False),
        ((("authorization", f"Bearer {KEY}"),), True),
        ((("authorization", f"bearer {KEY}"),), True),
        ((("x-api-key", KEY),), True),
        ((("authorization", KEY),), False),
        ((("x-api-key", KEY[:-1]),), False),
        ((("x-api-key", KEY.encode()),), False),
        ((("x-api-key-bin", KEY.encode()),), False),
    ],
)
def test_a_key_is_needed_in_the_metadata_where_keys_are_configured(
    metadata: tuple[tuple[str, str | bytes], ...], good: bool
) -> None:
    at = bench(doors=Doors(keys=keys(KEY)))
    message, context = classify(at, Context(metadata), image=png(5))
    if good:
        assert context.code is None
        assert message.decision == "accept"
    else:
        assert context.code is grpc.StatusCode.UNAUTHENTICATED
        assert message == classifier_pb2.ClassifyResponse()
        assert KEY not in str(context.details)
        assert at.counted("grpc", "unauthenticated") == 1


def test_the_id_in_the_metadata_is_the_answers_unless_the_message_has_one() -> None:
    metadata = (("x-request-id", "from-the-metadata"),)
    first, _ = classify(context=Context(metadata), image=png())
    second, _ = classify(context=Context(metadata), image=png(), id="own")
    assert (first.id, second.id) == ("from-the-metadata", "own")


def test_health_is_told_without_a_key_and_watching_is_refused() -> None:
    async def run() -> None:
        face = bench(doors=Doors(keys=keys(KEY))).face()
        serving = health_pb2.HealthCheckResponse.SERVING
        for name in SERVICES:
            request = health_pb2.HealthCheckRequest(service=name)
            assert (await face.Check(request, Context())).status == serving
        listed = await face.List(health_pb2.HealthListRequest())
        assert set(listed.statuses) == set(SERVICES)
        unknown = Context()
        await face.Check(health_pb2.HealthCheckRequest(service="nobody"), unknown)
        assert unknown.code is grpc.StatusCode.NOT_FOUND
        watcher = Context()
        with pytest.raises(NotImplementedError):
            await anext(aiter(face.Watch(health_pb2.HealthCheckRequest(), watcher)))
        assert watcher.code is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(run())

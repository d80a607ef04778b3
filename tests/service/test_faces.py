"""Engine and faces on a predictor without a network: parsing, limits, batching, counting."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from calibration.conformal import UnsupportedAlphaError
from model.image import InputSpec, UInt8Array
from service import http_api, monitor
from service.answer import ClassifyResponse, ModelName
from service.engine import Ask, Engine, Item, Limits, Outcome
from service.errors import Fault
from service.grpc_api import GrpcFace, add_classifier_to_server
from service.http_api import create_app
from service.predictor import Predictor
from service.protos import classifier_pb2
from service.verdict import Decision, Unusual, Verdict

LABELS = tuple(f"class {k}" for k in range(30))
LIMITS = Limits(max_body_bytes=5000, max_pixels=10_000, max_waiting=4, read_timeout_s=30)

VERDICT = Verdict(
    class_index=0,
    class_label=LABELS[0],
    posterior=tuple(2.0 ** -(k + 1) for k in range(30)),
    prediction_set=LABELS[:2],
    p_value=0.4,
    p_typicality=0.4,
    p_train=float("nan"),
    alpha=0.05,
    delta=0.05,
    mode="marginal",
    threshold=0.04,
    reference_size=215,
    decision=Decision.ACCEPT,
    rejected=False,
    reason=None,
    score=float("inf"),
    log_prob=-12.5,
    bits_per_dim=4.0,
    unusual=(Unusual(statistic="ladj", p_value=0.01),),
)


class FakePredictor:
    """The class is the image's first pixel; a first pixel of 255 cannot be judged."""

    spec = InputSpec(shape=(1, 4, 4))
    class_labels = LABELS

    def __init__(self) -> None:
        self.batches: list[int] = []

    def check_alpha(self, alpha: float | None) -> None:
        if alpha is not None and alpha < 0.01:
            raise UnsupportedAlphaError("the smallest supported alpha is 0.01")

    def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
        self.batches.append(len(images))
        if (images[:, 0, 0, 0] == 255).any():
            raise ArithmeticError("secret")
        return [
            replace(VERDICT, class_index=int(x[0, 0, 0]), alpha=a or 0.05)
            for x, a in zip(images, alphas, strict=True)
        ]


def make_engine(limits: Limits = LIMITS) -> Engine:
    async def submit(item: Item) -> Outcome:
        return (await engine.infer([item]))[0]

    engine = Engine(
        predictor=cast(Predictor, FakePredictor()),
        model=ModelName(name="fake", version="0123456789ab"),
        limits=limits,
        submit=submit,
    )
    return engine


def png(value: int = 0, size: tuple[int, int] = (4, 4)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, value).save(out, "PNG")
    return out.getvalue()


def over_http(
    ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]], engine: Engine | None = None
) -> httpx.Response:
    async def run() -> httpx.Response:
        app = create_app(engine or make_engine(), _metrics)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await ask(client)

    return asyncio.run(run())


def over_grpc(**fields: Any) -> dict[str, Any]:
    face = GrpcFace()
    face.engine = make_engine()
    request = classifier_pb2.ClassifyRequest(**fields)
    message = asyncio.run(face.Classify(request, None))
    found = MessageToDict(message, preserving_proto_field_name=True)
    assert isinstance(found, dict)
    return found


async def _metrics() -> bytes:
    return b"# nothing\n"


def test_json_has_the_promised_fields_and_no_nan() -> None:
    response = over_http(lambda c: c.post("/v1/classify?id=me", content=png(7)))
    assert response.status_code == 200
    assert "NaN" not in response.text
    assert "Infinity" not in response.text
    found = response.json()
    assert list(found) == [
        *("id", "model", "class", "posterior", "prediction_set", "p_value", "p_typicality"),
        *("p_train", "alpha", "delta", "mode", "threshold", "reference_size", "decision"),
        *("rejected", "reason", "scores", "unusual"),
    ]
    assert found["id"] == "me"
    assert found["class"] == {"index": 7, "label": "class 0"}
    assert found["p_train"] is None
    assert found["scores"] == {"score": None, "log_prob": -12.5, "bits_per_dim": 4.0}
    assert [entry["label"] for entry in found["posterior"]] == list(LABELS[:10])


def test_the_grpc_message_has_the_fields_of_the_json() -> None:
    fields = [field.name for field in classifier_pb2.ClassifyResponse.DESCRIPTOR.fields]
    model = [info.serialization_alias or n for n, info in ClassifyResponse.model_fields.items()]
    assert fields == model


def test_both_protocols_give_the_same_verdict() -> None:
    response = over_http(
        lambda c: c.post("/v1/classify?alpha=0.1&id=a&top_k=3", content=png(2))
    ).json()
    message = over_grpc(image=png(2), alpha=0.1, id="a", top_k=3)
    message["class"]["index"] = int(message["class"]["index"])
    message["reference_size"] = int(message["reference_size"])
    assert message.pop("scores") == {"log_prob": -12.5, "bits_per_dim": 4.0}
    assert response.pop("scores") == {"score": None, "log_prob": -12.5, "bits_per_dim": 4.0}
    response = {name: value for name, value in response.items() if value is not None}
    assert message | {"rejected": False} == response


def test_a_form_is_read_like_a_body_with_a_query() -> None:
    response = over_http(
        lambda c: c.post(
            "/v1/classify",
            files={"image": ("a.png", png(1))},
            data={"alpha": "0.2", "id": "x", "top_k": "1"},
        )
    )
    found = response.json()
    assert (found["alpha"], found["id"], len(found["posterior"])) == (0.2, "x", 1)


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", b"", 400, "empty_image"),
        ("", b"hello", 400, "not_an_image"),
        ("", png()[:-24], 400, "truncated_image"),
        ("", png(size=(200, 200)), 400, "image_too_large"),
        ("", bytes(5001), 413, "body_too_large"),
        ("?alpha=x", png(), 400, "bad_parameter"),
        ("?alpha=nan", png(), 400, "bad_parameter"),
        ("?alpha=1", png(), 400, "bad_parameter"),
        ("?alpha=0.001", png(), 400, "unsupported_alpha"),
        ("?top_k=0", png(), 400, "bad_parameter"),
        ("?top_k=1.5", png(), 400, "bad_parameter"),
        ("?alpha=1_0e-2", png(), 400, "bad_parameter"),
        ("?alpha=%200.1", png(), 400, "bad_parameter"),
        ("?top_k=%D9%A3", png(), 400, "bad_parameter"),
        ("?aplha=0.1", png(), 400, "bad_parameter"),
        ("?alpha=0.1&alpha=0.2", png(), 400, "bad_parameter"),
        (f"?id={'x' * 257}", png(), 400, "bad_parameter"),
        ("", png(255), 500, "internal"),
    ],
)
def test_bad_requests_over_http(query: str, body: bytes, status: int, code: str) -> None:
    response = over_http(lambda c: c.post(f"/v1/classify{query}", content=body))
    assert response.status_code == status
    found = response.json()
    assert set(found) == {"error", "code"}
    assert found["code"] == code
    assert "secret" not in response.text


@pytest.mark.parametrize(
    "send",
    [
        lambda c: c.post("/v1/classify", files={"picture": ("a.png", png())}),
        lambda c: c.post("/v1/classify", files={"image": png()}, data={"alpha": "many"}),
        lambda c: c.post("/v1/classify?id=a", files={"image": png()}, data={"id": "b"}),
        lambda c: c.post("/v1/classify", files={"image": png()}, data={"image": "text"}),
        lambda c: c.post(
            "/v1/classify", content=b"x", headers={"content-type": "multipart/form-data"}
        ),
        lambda c: c.post(
            "/v1/classify",
            content=b"x",
            headers={"content-type": "multipart/form-data; boundary=a"},
        ),
    ],
)
def test_bad_forms(send: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> None:
    response = over_http(send)
    assert response.status_code == 400
    assert response.json()["code"] == "bad_parameter"


def test_a_body_without_a_length_is_counted_while_it_arrives() -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield bytes(1000)

    response = over_http(lambda c: c.post("/v1/classify", content=endless()))
    assert response.json()["code"] == "body_too_large"


def test_what_is_announced_as_too_large_is_not_asked_for() -> None:
    """A client that waits for permission to send gets the answer in its place."""

    async def unasked() -> Any:
        raise AssertionError("the body was read")
        yield b""

    headers = {"content-length": "5001", "expect": "100-continue"}
    response = over_http(lambda c: c.post("/v1/classify", content=unasked(), headers=headers))
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_stalled_upload_of_too_much_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "DRAIN_S", 0.01)

    async def stalled() -> Any:
        yield bytes(1000)
        await asyncio.Event().wait()

    headers = {"content-length": "5001"}
    response = over_http(lambda c: c.post("/v1/classify", content=stalled(), headers=headers))
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_client_that_goes_away_is_no_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        """Nobody is left."""

    scope = {"type": "http", "method": "POST", "path": "/v1/classify", "query_string": b""}
    app = create_app(engine, _metrics)
    asyncio.run(app({**scope, "headers": []}, receive, send))
    assert engine.tally.values[monitor.REQUESTS.name, ("http", "cancelled")] == 1
    assert not caplog.records


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/classify/", 404, "not_found"),
        ("GET", "/v1/classify", 405, "method_not_allowed"),
    ],
)
def test_the_frameworks_own_errors(method: str, path: str, status: int, code: str) -> None:
    response = over_http(lambda c: c.request(method, path))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers.get("allow") == ("POST" if status == 405 else None)


def test_a_path_is_named_as_it_was_asked() -> None:
    response = over_http(lambda c: c.get("/a%0Ab"))
    assert response.json()["error"] == "no such path: /a\nb; see /docs"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs"])
def test_head_is_answered_as_get(path: str) -> None:
    assert over_http(lambda c: c.head(path)).status_code == 200


def test_the_message_on_a_long_number_is_short() -> None:
    response = over_http(lambda c: c.post(f"/v1/classify?top_k=-{'9' * 4000}", content=png()))
    assert response.json()["code"] == "bad_parameter"
    assert len(response.text) < 200


def test_docs_need_no_other_server() -> None:
    response = over_http(lambda c: c.get("/docs"))
    assert response.status_code == 200
    assert "/v1/classify" in response.text
    assert "p_value" in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text


def test_openapi_describes_request_answer_and_errors() -> None:
    document = over_http(lambda c: c.get("/openapi.json")).json()
    operation = document["paths"]["/v1/classify"]["post"]
    assert {p["name"] for p in operation["parameters"]} == {"alpha", "id", "top_k"}
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert {"200", "400", "413", "429", "500", "503"} <= set(operation["responses"])
    assert "class" in document["components"]["schemas"]["ClassifyResponse"]["properties"]


def test_one_bad_item_does_not_fail_its_batch() -> None:
    engine = make_engine()

    def item(value: int) -> Item:
        pixels = np.full((1, 4, 4), value, np.uint8)
        return Item(pixels=pixels, alpha=None, queued_at=0)

    outcomes = asyncio.run(engine.infer([item(1), item(255), item(3)]))
    assert isinstance(outcomes[1], ArithmeticError)
    good = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
    assert [verdict.class_index for verdict in good] == [1, 3]


def test_more_than_the_admitted_requests_are_shed() -> None:
    engine = make_engine()

    async def run() -> list[str]:
        gate = asyncio.Event()

        async def read() -> Ask:
            await gate.wait()
            return Ask(image=png())

        waiting = [asyncio.create_task(engine.answer("http", read)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Fault) as refused:
            await engine.answer("http", read)
        gate.set()
        await asyncio.gather(*waiting)
        return [refused.value.status.code]

    assert asyncio.run(run()) == ["overloaded"]
    assert engine.tally.values[monitor.SHED.name, ()] == 1
    assert engine.tally.values[monitor.REQUESTS.name, ("http", "ok")] == 4
    assert engine.tally.values[monitor.REQUESTS.name, ("http", "overloaded")] == 1


def test_a_stalled_upload_gives_its_place_back() -> None:
    engine = make_engine(replace(LIMITS, read_timeout_s=0.01))

    async def never() -> Ask:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Fault) as refused:
        asyncio.run(engine.answer("http", never))
    assert refused.value.status.code == "slow_body"


def test_the_event_loop_is_free_while_the_model_runs() -> None:
    release = threading.Event()

    class Slow(FakePredictor):
        def __call__(self, images: UInt8Array, alphas: Sequence[float | None]) -> list[Verdict]:
            release.wait(60)
            return super().__call__(images, alphas)

    async def run() -> ClassifyResponse:
        async def submit(item: Item) -> Outcome:
            return (await engine.infer([item]))[0]

        async def read() -> Ask:
            return Ask(image=png())

        engine = Engine(
            predictor=cast(Predictor, Slow()),
            model=ModelName(name="fake", version="0" * 12),
            limits=LIMITS,
            submit=submit,
        )
        task = asyncio.create_task(engine.answer("http", read))
        await asyncio.sleep(0.05)
        assert not task.done()
        release.set()
        return await task

    assert asyncio.run(run()).decision == "accept"


def test_warm_up_is_not_counted() -> None:
    engine = make_engine()
    before = dict(engine.tally.values)
    engine.warm_up((1, 8))
    assert engine.tally.values == before
    assert not engine.tally.distributions


def test_a_message_that_cannot_be_read_is_a_bad_request() -> None:
    """gRPC itself would answer UNKNOWN with the name of a Python class."""
    face = GrpcFace()
    face.engine = make_engine()
    handlers: list[Any] = []

    class Server:
        def add_generic_rpc_handlers(self, added: Any) -> None:
            handlers.extend(added)

    class Context:
        code: grpc.StatusCode | None = None
        details = ""

        def set_code(self, code: grpc.StatusCode) -> None:
            self.code = code

        def set_details(self, details: str) -> None:
            self.details = details

    class Call:
        method = "/oodgate.v1.Classifier/Classify"
        invocation_metadata = ()

    add_classifier_to_server(face, Server())
    method = handlers[0].service(Call())
    context = Context()
    asyncio.run(method.unary_unary(method.request_deserializer(bytes([255] * 9)), context))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert context.details == "the message cannot be read: expected an oodgate.v1.ClassifyRequest"
    good = classifier_pb2.ClassifyRequest(image=png(5))
    message = asyncio.run(
        method.unary_unary(method.request_deserializer(good.SerializeToString()), context)
    )
    assert method.response_serializer(message) == message.SerializeToString()

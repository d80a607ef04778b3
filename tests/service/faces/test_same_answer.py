"""One question through every face: the same verdict, field by field."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict

from service.oip.outputs import OUTPUTS
from service.protos import classifier_pb2
from tests.service.faces import oip
from tests.service.faces.asking import Context, call, client
from tests.service.faces.fakes import ENDLESS, GREY, LABELS, Bench, bench, png
from tests.service.faces.messages import request, tensors


async def _ours_http(at: Bench, image: bytes, alpha: float) -> dict[str, Any]:
    async with client(at.app()) as asking:
        query = f"id=a&top_k={len(LABELS)}&model={GREY}&alpha={alpha}"
        response = await asking.post(f"/v1/classify?{query}", content=image)
        assert response.status_code == 200
        found: dict[str, Any] = response.json()
        return found


async def _ours_grpc(at: Bench, image: bytes, alpha: float) -> dict[str, Any]:
    message = classifier_pb2.ClassifyRequest(
        image=image, alpha=alpha, id="a", top_k=len(LABELS), model=GREY
    )
    answer = await call(at.face(), "/oodgate.v1.Classifier/Classify", message, Context())
    found = MessageToDict(answer, preserving_proto_field_name=True)
    for place, name in ((found["class"], "index"), (found, "reference_size")):
        place[name] = int(place.get(name, 0))  # 64 bits are text in protobuf's JSON
    return {"rejected": False, **found}


async def _oip_http(at: Bench, body: oip.Body) -> dict[str, Any]:
    async with client(at.app()) as asking:
        response = await asking.post(
            f"/v2/models/{GREY}/infer", content=body.content, headers=body.headers
        )
    reply = oip.read(response)
    return {**reply.tensors, "alpha": reply.document["parameters"]["alpha"]}


async def _oip_grpc(at: Bench, image: bytes, alpha: float, raw: bool) -> dict[str, Any]:
    message = request(image, raw=raw)
    message.parameters["alpha"].double_param = alpha
    answer = await call(at.face(), "/inference.GRPCInferenceService/ModelInfer", message, Context())
    return {**tensors(answer), "alpha": answer.parameters["alpha"].double_param}


def _without_null(value: Any) -> Any:
    """A field that is null in JSON is unset in a message."""
    if isinstance(value, dict):
        return {key: _without_null(entry) for key, entry in value.items() if entry is not None}
    return value


@pytest.mark.parametrize("pixel", [0, 2, 3, 5, ENDLESS, 29])
@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_every_face_gives_the_same_verdict(pixel: int, alpha: float) -> None:
    async def run() -> None:
        at, image, given = bench(), png(pixel), {"alpha": alpha}
        ours = await _ours_http(at, image, alpha)
        assert await _ours_grpc(at, image, alpha) == _without_null(ours)
        raw = {"alpha": alpha, "binary_data_output": True}
        theirs = [
            await _oip_http(at, oip.image_json([image], parameters=given)),
            await _oip_http(at, oip.image_binary([image], parameters=given)),
            await _oip_http(at, oip.image_binary([image], parameters=raw)),
            await _oip_grpc(at, image, alpha, raw=False),
            await _oip_grpc(at, image, alpha, raw=True),
        ]
        for found in theirs:
            assert set(found) == {*OUTPUTS, "alpha"}
            _check(found, ours)

    asyncio.run(run())


def _check(found: dict[str, Any], ours: dict[str, Any]) -> None:
    """Tensors of one image against the JSON of our own face."""
    assert found["class_index"].tolist() == [ours["class"]["index"]]
    assert found["class_label"] == [ours["class"]["label"].encode()]
    assert found["decision"] == [ours["decision"].encode()]
    assert found["rejected"].tolist() == [ours["rejected"]]
    assert found["reason"] == [(ours["reason"] or "").encode()]
    assert found["alpha"] == ours["alpha"]
    for name in ("p_value", "p_typicality", "threshold"):
        assert found[name].tolist() == [ours[name]]
    for name in ("score", "log_prob"):
        value = ours["scores"][name]
        (number,) = found[name]
        assert number == value if value is not None else not np.isfinite(number)
    posterior = {entry["label"]: entry["probability"] for entry in ours["posterior"]}
    np.testing.assert_allclose(
        found["posterior"][0], [posterior[label] for label in LABELS], rtol=1e-6
    )
    members = [LABELS[k] for k in np.flatnonzero(found["prediction_set"][0])]
    assert sorted(members) == sorted(ours["prediction_set"])


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (b"", "empty_image"),
        (b"hello", "not_an_image"),
        (png()[:-24], "truncated_image"),
        (png(size=(200, 200)), "image_too_large"),
    ],
    ids=["empty", "foreign", "truncated", "large"],
)
def test_every_face_gives_the_same_words_for_the_same_fault(image: bytes, code: str) -> None:
    async def run() -> None:
        at = bench()
        app, face = at.app(), at.face()
        async with client(app) as asking:
            ours = (await asking.post("/v1/classify", content=image)).json()
            body = oip.image_binary([image])
            theirs = (
                await asking.post(
                    f"/v2/models/{GREY}/infer", content=body.content, headers=body.headers
                )
            ).json()
        contexts = Context(), Context()
        message = classifier_pb2.ClassifyRequest(image=image)
        await call(face, "/oodgate.v1.Classifier/Classify", message, contexts[0])
        await call(face, "/inference.GRPCInferenceService/ModelInfer", request(image), contexts[1])
        assert ours["code"] == code
        assert theirs == ours
        assert {context.details for context in contexts} == {ours["error"]}

    asyncio.run(run())

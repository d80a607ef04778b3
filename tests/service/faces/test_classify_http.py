"""Our own face over HTTP: the answer's fields, forms, parameters, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from service.answer import ClassifyResponse
from service.protos import classifier_pb2
from tests.service.faces.asking import Ask, over_http, refused, short
from tests.service.faces.fakes import (
    BROKEN,
    COLOUR,
    ENDLESS,
    LABELS,
    VERSION,
    bench,
    png,
    verdict_of,
)


def test_json_has_the_promised_fields_and_no_nan() -> None:
    response = over_http(lambda c: c.post("/v1/classify?id=me", content=png(ENDLESS)))
    assert response.status_code == 200
    assert "NaN" not in response.text
    assert "Infinity" not in response.text
    found = response.json()
    assert list(found) == [
        *("id", "model", "class", "posterior", "prediction_set", "p_value", "p_typicality"),
        *("p_train", "alpha", "delta", "mode", "threshold", "reference_size", "decision"),
        *("rejected", "reason", "scores", "unusual"),
    ]
    verdict = verdict_of(ENDLESS)
    assert found["id"] == "me"
    assert found["model"] == {"name": "fake", "version": VERSION}
    assert found["class"] == {"index": 7, "label": "class 7"}
    assert found["p_train"] is None
    assert found["scores"] == {"score": None, "log_prob": verdict.log_prob, "bits_per_dim": 4.0}
    assert [entry["label"] for entry in found["posterior"]] == list(LABELS[7:17])


def test_the_grpc_message_has_the_fields_of_the_json() -> None:
    fields = [field.name for field in classifier_pb2.ClassifyResponse.DESCRIPTOR.fields]
    model = [info.serialization_alias or n for n, info in ClassifyResponse.model_fields.items()]
    assert fields == model


@pytest.mark.parametrize("pixel", range(0, 30, 3))
def test_a_rejection_is_an_answer(pixel: int) -> None:
    found = over_http(lambda c: c.post("/v1/classify", content=png(pixel))).json()
    verdict = verdict_of(pixel)
    assert (found["decision"], found["rejected"], found["reason"]) == (
        verdict.decision.value,
        verdict.rejected,
        verdict.reason,
    )


def test_a_form_is_read_like_a_body_with_a_query() -> None:
    response = over_http(
        lambda c: c.post(
            "/v1/classify",
            files={"image": ("a.png", png(1))},
            data={"alpha": "0.2", "id": "x", "top_k": "1", "model": COLOUR},
        )
    )
    found = response.json()
    assert (found["alpha"], found["id"], len(found["posterior"])) == (0.2, "x", 1)
    assert found["model"]["name"] == COLOUR


def test_the_content_type_of_a_body_says_nothing() -> None:
    for kind in ("image/png", "application/json", "multipart/mixed", "nonsense", ""):
        response = over_http(
            lambda c, kind=kind: c.post(  # type: ignore[misc]
                "/v1/classify", content=png(5), headers={"content-type": kind}
            )
        )
        assert response.json()["class"]["index"] == 5


def test_the_id_is_the_callers_wherever_it_stands_and_generated_else() -> None:
    header = {"x-request-id": "from-the-header"}
    asked: dict[str, Any] = {"content": png(), "headers": header}
    at = bench()
    first = over_http(lambda c: c.post("/v1/classify", **asked), at).json()["id"]
    second = over_http(lambda c: c.post("/v1/classify?id=own", **asked), at).json()["id"]
    third = over_http(lambda c: c.post("/v1/classify", content=png()), at).json()["id"]
    assert (first, second) == ("from-the-header", "own")
    assert len(third) >= 16
    assert third != first


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("", b"", 400, "empty_image"),
        ("", b"hello", 400, "not_an_image"),
        ("", png()[:-24], 400, "truncated_image"),
        ("", png(size=(200, 200)), 400, "image_too_large"),
        ("", bytes(20_001), 413, "body_too_large"),
        ("?alpha=x", png(), 400, "bad_parameter"),
        ("?alpha=nan", png(), 400, "bad_parameter"),
        ("?alpha=inf", png(), 400, "bad_parameter"),
        ("?alpha=", png(), 400, "bad_parameter"),
        ("?alpha=1", png(), 400, "bad_parameter"),
        ("?alpha=0", png(), 400, "bad_parameter"),
        ("?alpha=-0.1", png(), 400, "bad_parameter"),
        ("?alpha=0.001", png(), 400, "unsupported_alpha"),
        ("?top_k=0", png(), 400, "bad_parameter"),
        ("?top_k=1.5", png(), 400, "bad_parameter"),
        ("?alpha=1_0e-2", png(), 400, "bad_parameter"),
        ("?alpha=%200.1", png(), 400, "bad_parameter"),
        ("?top_k=%D9%A3", png(), 400, "bad_parameter"),
        ("?aplha=0.1", png(), 400, "bad_parameter"),
        ("?alpha=0.1&alpha=0.2", png(), 400, "bad_parameter"),
        (f"?id={'x' * 257}", png(), 400, "bad_parameter"),
        ("?model=nobody", png(), 404, "unknown_model"),
        ("", png(BROKEN), 500, "internal"),
    ],
    ids=short,
)
def test_bad_requests(query: str, body: bytes, status: int, code: str) -> None:
    at = bench()
    response = over_http(lambda c: c.post(f"/v1/classify{query}", content=body), at)
    assert refused(response) == (status, code)
    assert "secret" not in response.text
    assert at.counted("http", code) == 1


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
        lambda c: c.post(
            "/v1/classify",
            content=b"x",
            headers={"content-type": f"multipart/form-data; boundary={'a' * 300}"},
        ),
        lambda c: c.post("/v1/classify", files={"image": png()}, data={str(i): "" for i in "1234"}),
        lambda c: c.post("/v1/classify", files=[("image", png()), ("image", png())]),
    ],
)
def test_bad_forms(send: Ask) -> None:
    assert refused(over_http(send)) == (400, "bad_parameter")


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("utf-7", b"+2AA-"),
        ("unicode_escape", rb"\ud800"),
        ("punycode", b"-99999999"),
        ("idna", b"a" * 80 + b".b"),
        ("hex", b"00"),
        ("utf-16", b"x"),
        ("no-such", b"\xff"),
    ],
)
def test_a_forms_charset_is_no_way_in(charset: str, text: bytes) -> None:
    """Any codec of Python can be named there, some of which give what no answer can hold."""
    field = b'--b\r\ncontent-disposition: form-data; name="id"\r\n\r\n' + text + b"\r\n"
    image = b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n' + png()
    headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
    content = field + image + b"\r\n--b--\r\n"
    response = over_http(lambda c: c.post("/v1/classify", content=content, headers=headers))
    assert response.status_code in (200, 400)
    if response.status_code == 400:
        assert refused(response) == (400, "bad_parameter")


def test_the_message_on_a_long_number_is_short() -> None:
    response = over_http(lambda c: c.post(f"/v1/classify?top_k=-{'9' * 4000}", content=png()))
    assert response.json()["code"] == "bad_parameter"
    assert len(response.text) < 200


def test_top_k_beyond_the_classes_gives_all_of_them() -> None:
    response = over_http(lambda c: c.post(f"/v1/classify?top_k={'9' * 4000}", content=png()))
    assert len(response.json()["posterior"]) == len(LABELS)

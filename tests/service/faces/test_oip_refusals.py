"""What inference over HTTP refuses: each fault is the client's, named, and short."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.service.faces import oip
from tests.service.faces.asking import over_http, refused
from tests.service.faces.fakes import BROKEN, LIMITS, Bench, bench, png

GOOD = base64.b64encode(png(5)).decode()
IMAGE: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [GOOD]}
PIXELS: dict[str, Any] = {
    "name": "pixels",
    "datatype": "UINT8",
    "shape": [1, 1, 4, 4],
    "data": [0] * 16,
}
HUGE = 10**4000
ODD_COUNTS: tuple[Any, ...] = (-1, 1.0, "1", None, [], -HUGE)


def refusal(
    content: bytes, headers: dict[str, str] | None = None, at: Bench | None = None
) -> tuple[int, str]:
    response = over_http(
        lambda c: c.post("/v2/models/fake/infer", content=content, headers=headers), at
    )
    assert len(response.text) < 600
    assert "secret" not in response.text
    return refused(response)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"1",
        b"{}",
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b'{"inputs": {}}',
        b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b'{"inputs": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_inference_request(content: bytes) -> None:
    at = bench()
    assert refusal(content, at=at) == (400, "bad_request")
    assert at.counted("oip_http", "bad_request") == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "picture"}, "bad_request"),
        ({"name": "\ud800" * 100}, "bad_request"),
        ({"name": None}, "bad_request"),
        ({"datatype": "FP32"}, "bad_request"),
        ({"datatype": "x" * 5000}, "bad_request"),
        ({"datatype": ["UINT8"]}, "bad_request"),
        ({"shape": []}, "bad_request"),
        ({"shape": "1"}, "bad_request"),
        ({"shape": [1.0]}, "bad_request"),
        ({"shape": [True]}, "bad_request"),
        ({"shape": [0]}, "bad_request"),
        ({"shape": [-1]}, "bad_request"),
        ({"shape": [2]}, "bad_request"),
        ({"shape": [1] * 9}, "bad_request"),
        ({"shape": [1, HUGE, HUGE]}, "bad_request"),
        ({"shape": [HUGE]}, "bad_request"),
        ({"shape": [0, HUGE]}, "bad_request"),
        ({"shape": [9]}, "too_many_images"),
        ({"shape": [2**31 - 1]}, "too_many_images"),
        ({"data": None}, "bad_request"),
        ({"data": {}}, "bad_request"),
        ({"data": [[], 1]}, "bad_request"),
        ({"data": [None]}, "bad_request"),
        ({"data": [{"a": 1}]}, "bad_request"),
        ({"parameters": [1]}, "bad_request"),
        ({"parameters": {"shared_memory_region": "a"}}, "bad_request"),
        ({"parameters": {"binary_data_size": 1}}, "bad_request"),
    ],
)
@pytest.mark.parametrize("tensor", [IMAGE, PIXELS], ids=["image", "pixels"])
def test_a_tensor_that_is_not_right(
    tensor: dict[str, Any], change: dict[str, Any], code: str
) -> None:
    status = 413 if code == "too_many_images" else 400
    assert refusal(json.dumps({"inputs": [{**tensor, **change}]}).encode()) == (status, code)


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        ({**IMAGE, "data": [GOOD, GOOD]}, "bad_request"),
        ({**IMAGE, "data": []}, "bad_request"),
        ({**IMAGE, "data": ["\u00e9"]}, "bad_request"),
        ({**IMAGE, "data": ["\ud800"]}, "bad_request"),
        ({**IMAGE, "data": ["not base64"]}, "bad_request"),
        ({**IMAGE, "data": [5]}, "bad_request"),
        ({**IMAGE, "data": [""]}, "empty_image"),
        ({**IMAGE, "data": ["aGVsbG8="]}, "not_an_image"),
        ({**IMAGE, "data": [GOOD[:60]]}, "truncated_image"),
        ({**IMAGE, "shape": [1, 2], "data": [GOOD, GOOD]}, "bad_request"),
        ({**PIXELS, "data": [0] * 15}, "bad_request"),
        ({**PIXELS, "data": [256] * 16}, "bad_request"),
        ({**PIXELS, "data": [-1] * 16}, "bad_request"),
        ({**PIXELS, "data": [HUGE] * 4 + [0] * 12}, "bad_request"),
        ({**PIXELS, "data": [0.5] * 16}, "bad_request"),
        ({**PIXELS, "data": [float("nan")] * 16}, "bad_request"),
        ({**PIXELS, "data": ["0"] * 16}, "bad_request"),
        ({**PIXELS, "data": [[0] * 8, "00000000"]}, "bad_request"),
        ({**PIXELS, "shape": [4], "data": [0] * 4}, "bad_shape"),
        ({**PIXELS, "shape": [1, 16]}, "bad_shape"),
        ({**PIXELS, "shape": [1, 1, 2, 8]}, "bad_shape"),
        ({**PIXELS, "shape": [1, 1, 1, 1, 1, 1, 4, 4]}, "bad_shape"),
    ],
)
def test_data_that_is_not_right(tensor: dict[str, Any], code: str) -> None:
    assert refusal(json.dumps({"inputs": [tensor]}).encode()) == (400, code)


@pytest.mark.parametrize("inputs", [[IMAGE, IMAGE], [IMAGE, PIXELS], [PIXELS] * 100])
def test_more_than_one_input(inputs: list[dict[str, Any]]) -> None:
    assert refusal(json.dumps({"inputs": inputs}).encode()) == (400, "bad_request")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"id": 1}, "bad_request"),
        ({"id": "x" * 257}, "bad_parameter"),
        ({"parameters": [1]}, "bad_request"),
        ({"parameters": 0}, "bad_request"),
        ({"outputs": ""}, "bad_request"),
        ({"parameters": {"alpha": 1}}, "bad_parameter"),
        ({"parameters": {"alpha": "many"}}, "bad_parameter"),
        ({"parameters": {"alpha": " 0.1"}}, "bad_parameter"),
        ({"parameters": {"alpha": "1_0e-2"}}, "bad_parameter"),
        ({"parameters": {"alpha": "\u0660.1"}}, "bad_parameter"),
        ({"parameters": {"alpha": True}}, "bad_parameter"),
        ({"parameters": {"alpha": [0.1]}}, "bad_parameter"),
        ({"parameters": {"alpha": float("nan")}}, "bad_parameter"),
        ({"parameters": {"alpha": float("inf")}}, "bad_parameter"),
        ({"parameters": {"alpha": HUGE}}, "bad_parameter"),
        ({"parameters": {"alpha": 1e-9}}, "unsupported_alpha"),
        ({"parameters": {"timeout": "soon"}}, "bad_parameter"),
        ({"parameters": {"timeout": {}}}, "bad_parameter"),
        ({"parameters": {"timeout": -1}}, "bad_parameter"),
        ({"parameters": {"timeout": float("nan")}}, "bad_parameter"),
        ({"parameters": {"timeout": HUGE}}, "bad_parameter"),
        ({"outputs": {}}, "bad_request"),
        ({"outputs": [1]}, "bad_request"),
        ({"outputs": [{}]}, "bad_request"),
        ({"outputs": [{"name": "verdict"}]}, "bad_request"),
        ({"outputs": [{"name": "score"}] * 2}, "bad_request"),
        ({"outputs": [{"name": "score", "parameters": {"classification": 1}}]}, "bad_request"),
        ({"outputs": [{"name": "posterior", "parameters": 1}]}, "bad_request"),
        *(
            (
                {"outputs": [{"name": "posterior", "parameters": {"classification": n}}]},
                "bad_request",
            )
            for n in ODD_COUNTS
        ),
        (
            {"outputs": [{"name": "score", "parameters": {"shared_memory_region": "a"}}]},
            "bad_request",
        ),
    ],
)
def test_what_stands_beside_the_input(more: dict[str, Any], code: str) -> None:
    assert refusal(json.dumps({"inputs": [IMAGE], **more}).encode()) == (400, code)


def test_too_little_time_is_a_deadline() -> None:
    content = json.dumps({"inputs": [IMAGE], "parameters": {"timeout": 1e-6}}).encode()
    assert refusal(content) == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    "length", ["-1", "+1", "1e3", "x", "", "9" * 30, "999999", "\u00b2", " ", "1_0", "0x1"]
)
def test_a_length_of_the_json_that_cannot_be(length: str) -> None:
    content = oip.image_binary([png(5)]).content
    headers = {oip.LENGTH: length.encode("latin-1")}
    assert refusal(content, headers) == (400, "bad_request")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "raw"),
    [
        (10**9, b"abc"),
        (-1, b"abc"),
        (HUGE, b"abc"),
        (4, b"abc"),
        (2, b"abc"),
        (3.0, b"abc"),
        ("3", b"abc"),
        (True, b"a"),
        (None, b"abc"),
        (3, b"abc"),
        (4, b"\xff\xff\xff\xff"),
        (5, b"\xff\xff\xff\x7fa"),
        (4, b"\x00\x00\x00\x80"),
        (8, bytes(8)),
    ],
)
def test_binary_data_that_does_not_fit(size: object, raw: bytes) -> None:
    tensor = {**IMAGE, "parameters": {"binary_data_size": size}}
    del tensor["data"]
    body = oip.body({"inputs": [tensor]}, raw)
    assert refusal(body.content, body.headers) == (400, "bad_request")


def test_too_many_elements_are_not_cut_out() -> None:
    tensor = {**IMAGE, "shape": [8], "parameters": {"binary_data_size": 4000}}
    del tensor["data"]
    body = oip.body({"inputs": [tensor]}, bytes(4000))
    assert refusal(body.content, body.headers) == (413, "too_many_images")


@pytest.mark.parametrize("many", [b"[]," * 300_001, b"0," * 1_000_001, b'{"a":0},' * 300_001])
def test_json_that_takes_long_to_read_is_not_read(many: bytes) -> None:
    """Python's parser holds up all other requests; packed, some kilobytes would be enough."""
    roomy = bench(limits=replace(LIMITS, max_body_bytes=4_000_000))
    content = gzip.compress(b'{"inputs": [' + many + b"0]}")
    assert len(content) < 20_000
    response = over_http(
        lambda c: c.post(
            "/v2/models/fake/infer", content=content, headers={"Content-Encoding": "gzip"}
        ),
        roomy,
    )
    assert refused(response) == (400, "bad_request")
    assert "too many values" in response.json()["error"]


def test_a_model_that_fails_keeps_its_secret() -> None:
    body = oip.image_binary([png(BROKEN)])
    assert refusal(body.content, body.headers) == (500, "internal")

"""Inference over HTTP: how images come in, and which outputs go back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from service.oip.outputs import OUTPUTS
from tests.service.faces import oip
from tests.service.faces.asking import over_http
from tests.service.faces.fakes import (
    COLOUR,
    ENDLESS,
    GREY,
    LABELS,
    VERSION,
    Bench,
    bench,
    png,
    verdict_of,
)


def infer(body: oip.Body, model: str = GREY, at: Bench | None = None, **headers: str) -> oip.Reply:
    """A good reply; headers by their names with underscores."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return oip.read(
        over_http(
            lambda c: c.post(
                f"/v2/models/{model}/infer", content=body.content, headers={**body.headers, **more}
            ),
            at,
        )
    )


def pixels(*values: int, channels: int = 1, last: bool = False) -> np.ndarray[Any, Any]:
    """Images with this first pixel, no two channels or rows alike."""
    rest = np.arange(16 * channels, dtype=np.uint8).reshape(channels, 4, 4)
    images = np.stack([rest.copy() for _ in values])
    images[:, 0, 0, 0] = values
    return images.transpose(0, 2, 3, 1) if last else images


WAYS = {
    "image, JSON": lambda values: oip.image_json([png(v) for v in values]),
    "image, binary": lambda values: oip.image_binary([png(v) for v in values]),
    "pixels, flat": lambda values: oip.pixels_json(pixels(*values)),
    "pixels, nested": lambda values: oip.pixels_json(pixels(*values), nested=True),
    "pixels, binary": lambda values: oip.pixels_binary(pixels(*values)),
    "pixels, binary, channels last": lambda values: oip.pixels_binary(pixels(*values, last=True)),
    "pixels, nested, channels last": lambda values: oip.pixels_json(
        pixels(*values, last=True), nested=True
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("values", [(5,), (0, 3, 9, 12, 29, 1, 2, 8)])
def test_images_come_in_by_every_way_and_keep_their_order(way: str, values: tuple[int]) -> None:
    reply = infer(WAYS[way](values))
    verdicts = [verdict_of(value) for value in values]
    assert reply.names == list(OUTPUTS)
    assert not reply.binary
    found = reply.tensors
    assert found["class_index"].tolist() == list(values)
    for name in ("p_value", "p_typicality", "log_prob", "score", "threshold"):
        np.testing.assert_array_equal(found[name], [getattr(v, name) for v in verdicts])
    assert found["class_label"] == [v.class_label.encode() for v in verdicts]
    assert found["decision"] == [v.decision.value.encode() for v in verdicts]
    assert found["rejected"].tolist() == [v.rejected for v in verdicts]
    assert found["reason"] == [(v.reason or "").encode() for v in verdicts]
    np.testing.assert_allclose(found["posterior"], [v.posterior for v in verdicts], rtol=1e-6)
    members = [[LABELS[k] for k in np.flatnonzero(row)] for row in found["prediction_set"]]
    assert [set(m) for m in members] == [set(v.prediction_set) for v in verdicts]


@pytest.mark.parametrize("last", [False, True])
def test_coloured_pixels_may_have_their_channels_first_or_last(last: bool) -> None:
    images = pixels(9, 4, channels=3, last=last)
    for body in (oip.pixels_json(images, nested=True), oip.pixels_binary(images)):
        assert infer(body, COLOUR).tensors["class_index"].tolist() == [9, 4]


@pytest.mark.parametrize("version", ["", f"/versions/{VERSION}"])
def test_the_reply_names_model_version_and_what_was_promised(version: str) -> None:
    body = oip.image_json([png(5)], id="me", parameters={"alpha": 0.1})
    document = infer(body, f"{GREY}{version}").document
    assert (document["model_name"], document["model_version"]) == (GREY, VERSION)
    assert document["id"] == "me"
    assert document["parameters"] == {
        "alpha": 0.1,
        "mode": "marginal",
        "version": VERSION,
        "threshold": 0.8 * 0.1,
    }


def test_without_an_id_there_is_one_all_the_same() -> None:
    assert len(infer(oip.image_json([png()])).document["id"]) >= 16
    named = infer(oip.image_json([png()]), x_request_id="from-the-header")
    assert named.document["id"] == "from-the-header"


@pytest.mark.parametrize("alpha", [0.2, "0.2", "2e-1"])
def test_alpha_is_a_number_or_its_text(alpha: object) -> None:
    reply = infer(oip.image_json([png(5)], parameters={"alpha": alpha}))
    assert reply.document["parameters"]["alpha"] == 0.2
    assert reply.tensors["rejected"].tolist() == [verdict_of(5, 0.2).rejected]


@pytest.mark.parametrize("timeout", [60_000_000, "60000000", 6e7, 0, None, 10**30])
def test_enough_time_is_enough(timeout: object) -> None:
    reply = infer(oip.image_json([png(5)], parameters={"timeout": timeout, "priority": 1}))
    assert reply.tensors["class_index"].tolist() == [5]


ASKED = ("reason", "posterior", "class_label", "p_value", "prediction_set", "class_index")


@pytest.mark.parametrize("raw", [(), ("posterior",), ("reason", "p_value"), ASKED])
def test_outputs_come_in_the_order_asked_raw_where_asked(raw: tuple[str, ...]) -> None:
    wanted = [{"name": name, "parameters": {"binary_data": name in raw}} for name in ASKED]
    listed = infer(oip.image_json([png(1), png(5)], outputs=[{"name": n} for n in ASKED]))
    reply = infer(oip.image_binary([png(1), png(5)], outputs=wanted))
    assert reply.names == list(ASKED)
    assert reply.binary == tuple(name for name in ASKED if name in raw)
    for name in ASKED:
        np.testing.assert_array_equal(reply.tensors[name], listed.tensors[name])


def test_the_request_may_ask_for_all_raw_and_an_output_for_the_contrary() -> None:
    parameters = {"binary_data_output": True}
    all_raw = infer(oip.image_json([png(5)], parameters=parameters))
    assert all_raw.binary == tuple(OUTPUTS)
    wanted = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "p_value"}]
    mixed = infer(oip.image_json([png(5)], parameters=parameters, outputs=wanted))
    assert mixed.binary == ("p_value",)
    assert mixed.tensors["score"].tolist() == [5]


def test_a_raw_request_is_one_image_and_is_answered_raw() -> None:
    for body in (png(5), png(5, size=(9, 7))):
        reply = infer(oip.Body(body, {oip.LENGTH: "0"}))
        assert reply.binary == tuple(OUTPUTS)
        assert reply.tensors["class_index"].tolist() == [5]


def test_a_header_that_counts_all_of_the_body_is_no_raw_request() -> None:
    body = oip.image_json([png(5)])
    length = {oip.LENGTH: str(len(body.content))}
    assert infer(oip.Body(body.content, length)).tensors["class_index"].tolist() == [5]


@pytest.mark.parametrize("count", [1, 3, 30, 1000])
@pytest.mark.parametrize("raw", [False, True])
def test_the_best_classes_as_text(count: int, raw: bool) -> None:
    wanted = {"name": "posterior", "parameters": {"classification": count, "binary_data": raw}}
    reply = infer(oip.image_json([png(5), png(28)], outputs=[wanted, {"name": "score"}]))
    shown = min(count, 30)
    output = reply.document["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, shown])
    texts = reply.tensors["posterior"]
    for row, first in enumerate((5, 28)):
        entries = [text.decode().split(":") for text in texts[row * shown : (row + 1) * shown]]
        assert [int(index) for _, index, _ in entries] == [(first + k) % 30 for k in range(shown)]
        values = [float(value) for value, _, _ in entries]
        assert values == sorted(values, reverse=True)
        assert all(label == LABELS[int(index)] for _, index, label in entries)


def test_what_is_no_number_is_null_in_json_and_itself_raw() -> None:
    wanted = {"name": "score", "parameters": {"binary_data": True}}
    assert np.isinf(infer(oip.image_json([png(ENDLESS)], outputs=[wanted])).tensors["score"]).all()
    listed = infer(oip.image_json([png(ENDLESS)], outputs=[{"name": "score"}]))
    assert listed.document["outputs"][0]["data"] == [None]


@pytest.mark.parametrize("name", ["id", "outputs", "parameters"])
def test_null_is_as_good_as_nothing(name: str) -> None:
    body = oip.image_json([png(5)], **{name: None})
    assert infer(body).names == list(OUTPUTS)


def test_what_other_clients_add_is_left_alone() -> None:
    body = oip.image_json([png(5)], model_name="other", unknown={"a": [1]}, parameters=None)
    document = json.loads(body.content)
    document["inputs"][0]["parameters"] = {"unknown": 1}
    assert infer(oip.body(document)).tensors["class_index"].tolist() == [5]


def test_a_request_is_counted_under_its_own_protocol() -> None:
    at = bench()
    infer(oip.image_json([png(5)]), at=at)
    assert at.counted("oip_http", "ok") == 1

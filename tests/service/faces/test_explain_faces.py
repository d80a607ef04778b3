"""Explanations over HTTP and the Open Inference Protocol, of a real small model."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service import engine, metrics
from service.bundle import Bundle
from service.drawing import DRAWS
from service.errors import TooManyExplanationsError
from service.http_api import Doors
from service.oip.outputs import EXPLAINED, OUTPUTS
from service.predictor import Predictor
from service.quarantine import Quarantine
from service.recorder import Recorder
from tests.service.faces import oip
from tests.service.faces.asking import client, over_grpc, over_http, refused
from tests.service.faces.fakes import GREY, LIMITS, Bench, bench, keys
from tests.service.faces.messages import SERVICE, Output, request, tensors
from train.data import open_data

INFER = f"/v2/models/{GREY}/infer"


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle, "cpu")


@pytest.fixture
def at(predictor: Predictor) -> Bench:
    return bench(predictor=predictor)


@pytest.fixture(scope="module")
def digit() -> bytes:
    return next(iter(open_data("digits"))).image


def noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def explained(at: Bench, image: bytes, **params: Any) -> dict[str, Any]:
    response = over_http(lambda c: c.post("/v1/explain", content=image, params=params), at)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize("params", [{}, {"alpha": "0.2", "top_k": "3", "id": "me"}])
def test_the_verdict_is_the_very_one_of_classify(
    at: Bench, digit: bytes, params: dict[str, str]
) -> None:
    said = over_http(lambda c: c.post("/v1/classify", content=digit, params=params), at).json()
    found = explained(at, digit, **params)["verdict"]
    if "id" not in params:
        said["id"] = found["id"]
    assert found == said


def test_a_form_is_read_as_well(at: Bench, digit: bytes) -> None:
    response = over_http(
        lambda c: c.post("/v1/explain", files={"image": digit}, data={"heatmaps": "2"}), at
    )
    assert len(response.json()["heatmaps"]) == 2


def test_heatmaps_sum_to_the_log_of_the_posterior_that_is_answered(at: Bench, digit: bytes) -> None:
    found = explained(at, digit, heatmaps=10)
    assert len(found["heatmaps"]) == 10
    for heatmap, entry in zip(found["heatmaps"], found["verdict"]["posterior"], strict=True):
        assert heatmap["label"] == entry["label"]
        total = np.sum(heatmap["values"])
        assert heatmap["log_posterior"] == pytest.approx(total, abs=1e-4)
        assert np.exp(total) == pytest.approx(entry["probability"], rel=1e-3, abs=1e-12)


def test_contrast_moves_evidence_and_keeps_the_sums(at: Bench, digit: bytes) -> None:
    plain, strong = explained(at, digit), explained(at, digit, contrast=0.01)
    for one, other in zip(plain["heatmaps"], strong["heatmaps"], strict=True):
        assert np.ptp(np.subtract(one["values"], other["values"])) > 1e-3
        assert one["log_posterior"] == pytest.approx(other["log_posterior"], abs=1e-3)


def test_salience_sums_to_the_log_density(at: Bench, digit: bytes) -> None:
    found = explained(at, digit)
    assert np.sum(found["salience"]["values"]) == pytest.approx(
        found["verdict"]["scores"]["log_prob"], abs=0.02
    )
    assert found["salience"]["log_prob"] == found["verdict"]["scores"]["log_prob"]
    assert np.shape(found["energy"]["values"]) == np.shape(found["salience"]["values"])


def test_pictures_are_of_the_image_and_of_evidence_over_it(at: Bench, digit: bytes) -> None:
    found = explained(at, digit)
    seen = picture(found["image"]["png"])
    assert seen.size == (found["image"]["width"], found["image"]["height"]) == (8, 8)
    original = np.asarray(Image.open(io.BytesIO(digit)).convert("L"))
    np.testing.assert_array_equal(np.asarray(seen), original)
    assert [heatmap["png"] is None for heatmap in found["heatmaps"]] == [False] + 4 * [True]
    overlay = np.asarray(picture(found["heatmaps"][0]["png"])).astype(int)
    assert min(overlay.shape[:2]) >= 224
    values = np.array(found["heatmaps"][0]["values"])
    row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    step = overlay.shape[0] // values.shape[0]
    y, x = (int(i * step + step // 2) for i in (row, column))
    red, _, blue = overlay[y, x]
    assert (red > blue) == (values[row, column] > 0)


@pytest.mark.parametrize("image", ["digit", "noise"])
def test_the_place_of_rejection_agrees_with_the_decision(
    at: Bench, digit: bytes, image: str
) -> None:
    found = explained(at, digit if image == "digit" else noise())
    reference, verdict = found["reference"], found["verdict"]
    assert sum(reference["counts"]) == verdict["reference_size"]
    assert len(reference["edges"]) == len(reference["counts"]) + 1
    assert reference["score"] == verdict["scores"]["score"]
    assert verdict["rejected"] == (reference["score"] > reference["rejected_above"])


def test_evidence_names_every_statistic_once_and_its_most_unusual_as_the_verdict(
    at: Bench,
) -> None:
    found = explained(at, noise())
    statistics = {one["name"]: one for one in found["evidence"]["statistics"]}
    assert len(statistics) == len(found["evidence"]["statistics"])
    for unusual in found["verdict"]["unusual"]:
        assert statistics[unusual["statistic"]]["p_value"] == unusual["p_value"]
    contributions = [one["contribution"] for one in found["evidence"]["statistics"]]
    assert contributions == sorted(contributions, reverse=True)
    assert sum(found["evidence"]["views"].values()) == pytest.approx(1)


def test_the_plane_has_the_predicted_class_at_its_origin(at: Bench, digit: bytes) -> None:
    plane = explained(at, digit)["decision_plane"]
    first, second = plane["classes"][:2]
    assert (first["x"], first["y"]) == (0, 0)
    assert second["x"] > 0
    assert second["y"] == pytest.approx(0, abs=1e-6)
    assert plane["image"]["x"] < plane["boundary"]


def test_an_explanation_is_a_request_and_no_decision(at: Bench) -> None:
    explained(at, noise())
    assert at.counted("http", "ok") == 1
    assert not [name for name, _ in at.tally.values if name == metrics.DECISIONS.name]
    over_http(lambda c: c.post("/v1/classify", content=noise()), at)
    assert [name for name, _ in at.tally.values if name == metrics.DECISIONS.name]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"contrast": "0"}, "bad_parameter"),
        ({"contrast": "nan"}, "bad_parameter"),
        ({"contrast": "inf"}, "bad_parameter"),
        ({"contrast": "much"}, "bad_parameter"),
        ({"heatmaps": "0"}, "bad_parameter"),
        ({"heatmaps": "101"}, "bad_parameter"),
        ({"heatmaps": "1.5"}, "bad_parameter"),
        ({"heatmap": "1"}, "bad_parameter"),
        ({"png": "-1"}, "bad_parameter"),
        ({"png": "101"}, "bad_parameter"),
        ({"alpha": "1e-9"}, "unsupported_alpha"),
        ({"model": "none"}, "unknown_model"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    at: Bench, digit: bytes, params: dict[str, str], code: str
) -> None:
    response = over_http(lambda c: c.post("/v1/explain", content=digit, params=params), at)
    assert refused(response)[1] == code


@pytest.mark.parametrize("png", [0, 3])
def test_as_many_pictures_come_as_are_asked_for(at: Bench, digit: bytes, png: int) -> None:
    heatmaps = explained(at, digit, png=png)["heatmaps"]
    assert [heatmap["png"] is not None for heatmap in heatmaps] == [i < png for i in range(5)]


def test_answers_that_are_too_large_are_refused_before_they_are_computed(
    at: Bench, digit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_HEATMAP_VALUES", 5 * 4)  # five classes, 2 x 2 places
    assert len(explained(at, digit)["heatmaps"]) == 5
    response = over_http(
        lambda c: c.post("/v1/explain", content=digit, params={"heatmaps": "6"}), at
    )
    assert refused(response) == (400, "bad_parameter")
    assert "6 classes and 2 x 2 places make 24 numbers: expected at most 20" in response.text
    body = oip.image_binary([digit], outputs=[{"name": "heatmap"}])
    assert refused(post(at, body)) == (400, "bad_parameter")


def test_an_explanation_keeps_nothing_and_sheds_nothing(
    at: Bench, digit: bytes, tmp_path: Path
) -> None:
    quarantine = Quarantine(tmp_path, 9, 10**6)
    at.engine._recorder = Recorder(at.tally, quarantine=quarantine)
    at.engine._explaining = engine.Places(1, TooManyExplanationsError)
    assert explained(at, noise())["verdict"]["rejected"]
    with at.engine._explaining.place():
        response = over_http(lambda c: c.post("/v1/explain", content=digit), at)
    assert refused(response) == (429, "overloaded")
    assert "too many explanations" in response.text
    assert not [name for name, _ in at.tally.values if name == metrics.SHED.name]
    quarantine.close()
    assert not list(tmp_path.iterdir())


def test_a_body_that_is_no_image_is_refused(at: Bench) -> None:
    response = over_http(lambda c: c.post("/v1/explain", content=b"text"), at)
    assert refused(response) == (400, "not_an_image")


def test_classify_knows_nothing_of_heatmaps(at: Bench, digit: bytes) -> None:
    response = over_http(
        lambda c: c.post("/v1/classify", content=digit, params={"heatmaps": "1"}), at
    )
    assert refused(response) == (400, "bad_parameter")


@pytest.mark.parametrize("path", ["/v1/explain", "/v1/samples"])
def test_a_key_is_needed_where_there_are_keys(predictor: Predictor, path: str) -> None:
    locked = bench(predictor=predictor, doors=Doors(keys=keys("k" * 32)))
    method = "GET" if path == "/v1/samples" else "POST"
    assert refused(over_http(lambda c: c.request(method, path), locked)) == (401, "unauthenticated")


@pytest.fixture
def held() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_only_so_many_are_explained_at_once_and_classification_goes_on(
    at: Bench, digit: bytes, held: threading.Event
) -> None:
    at.engine.models.default._aside.submit(held.wait)

    async def run() -> tuple[list[int], int]:
        async with client(at.app()) as asking:
            wide = replace(LIMITS, max_waiting=100)
            at.engine._classifying = engine.Places(wide.max_waiting)
            posts = [
                asyncio.ensure_future(asking.post("/v1/explain", content=digit))
                for _ in range(engine.EXPLAINING + 1)
            ]
            done, _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            assert [refused(d.result()) for d in done] == [(429, "overloaded")]
            classified = await asking.post("/v1/classify", content=digit)
            held.set()
            answers = await asyncio.gather(*posts)
            return sorted(a.status_code for a in answers), classified.status_code

    codes, classified = asyncio.run(run())
    assert classified == 200
    assert codes == [200] * engine.EXPLAINING + [429]


def post(at: Bench, body: oip.Body) -> httpx.Response:
    return over_http(lambda c: c.post(INFER, content=body.content, headers=body.headers), at)


@pytest.mark.parametrize("binary", [False, True])
def test_the_inference_protocol_gives_the_same_where_it_is_asked(
    at: Bench, digit: bytes, binary: bool
) -> None:
    found = explained(at, digit, heatmaps=10)
    wanted = [
        {"name": name, "parameters": {"binary_data": binary}}
        for name in ("class_label", *EXPLAINED)
    ]
    reply = oip.read(post(at, oip.image_binary([digit, noise()], outputs=wanted)))
    assert reply.names == ["class_label", *EXPLAINED]
    labels = at.engine.models.default.labels
    for heatmap in found["heatmaps"]:
        own = reply.tensors["heatmap"][0, labels.index(heatmap["label"])]
        np.testing.assert_allclose(own, heatmap["values"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(reply.tensors["salience"][0], found["salience"]["values"])
    np.testing.assert_allclose(reply.tensors["energy"][0], found["energy"]["values"])
    x, y = reply.tensors["decision_plane"][0]
    assert found["decision_plane"]["image"] == pytest.approx({"x": x, "y": y})


def test_the_inference_protocol_explains_over_grpc(at: Bench, digit: bytes) -> None:
    found = explained(at, digit)
    message = request(digit, outputs=[Output(name="salience"), Output(name="p_value")])
    answer, context = over_grpc(f"{SERVICE}/ModelInfer", message, at)
    assert context.code is None
    own = tensors(answer)
    np.testing.assert_allclose(own["salience"][0], found["salience"]["values"])
    assert own["p_value"].tolist() == [found["verdict"]["p_value"]]


def test_nothing_is_explained_that_nobody_asked_for(at: Bench, digit: bytes) -> None:
    assert oip.read(post(at, oip.image_binary([digit]))).names == list(OUTPUTS)


def test_more_images_than_are_explained_at_once_are_refused(at: Bench, digit: bytes) -> None:
    at.engine.limits = replace(LIMITS, max_images=99, max_body_bytes=10**6)
    body = oip.image_binary([digit] * (engine.MAX_EXPLAINED + 1), outputs=[{"name": "salience"}])
    assert refused(post(at, body)) == (413, "too_many_images")


def test_shapes_in_the_metadata_are_those_of_the_answers(at: Bench, digit: bytes) -> None:
    told = over_http(lambda c: c.get(f"/v2/models/{GREY}"), at).json()["outputs"]
    names = [output["name"] for output in told]
    assert names == [*OUTPUTS, *EXPLAINED]
    body = oip.image_binary([digit], outputs=[{"name": name} for name in names])
    for output, answered in zip(told, oip.read(post(at, body)).document["outputs"], strict=True):
        assert output["datatype"] == answered["datatype"]
        assert output["shape"][1:] == answered["shape"][1:]


def test_samples_are_drawn_by_the_model(at: Bench, predictor: Predictor) -> None:
    found = over_http(lambda c: c.get("/v1/samples", params={"count": "12"}), at).json()
    labels = predictor.class_labels
    assert [one["label"] for one in found["samples"]] == [labels[i % 10] for i in range(12)]
    assert picture(found["samples"][0]["png"]).size == (8, 8)
    verdicts = predictor(predictor.draw([0] * DRAWS, 0), [None] * DRAWS)
    best = predictor.draw([0] * DRAWS, 0)[np.argmax([v.p_value for v in verdicts])]
    np.testing.assert_array_equal(np.asarray(picture(found["samples"][0]["png"])), best[0])


def test_drawings_are_requests_with_a_deadline_and_places_of_their_own(at: Bench) -> None:
    late = replace(LIMITS, queue_timeout_s=-1)
    at.engine.limits = late
    assert refused(over_http(lambda c: c.get("/v1/samples"), at)) == (504, "deadline_exceeded")
    at.engine.limits = LIMITS
    at.engine._drawing = engine.Places(0, TooManyExplanationsError)
    assert refused(over_http(lambda c: c.get("/v1/samples"), at)) == (429, "overloaded")
    assert at.counted("http", "deadline_exceeded") == at.counted("http", "overloaded") == 1


def test_other_seeds_go_on_with_the_classes(at: Bench, predictor: Predictor) -> None:
    labels = []
    for seed in range(3):
        params = {"count": "4", "seed": str(seed)}
        found = over_http(lambda c: c.get("/v1/samples", params=params), at).json()  # noqa: B023
        labels += [one["label"] for one in found["samples"]]
    assert labels == [predictor.class_labels[i % 10] for i in range(12)]


def test_a_seed_draws_the_same_again_and_another_seed_others(at: Bench) -> None:
    def drawn(seed: int) -> Any:
        params = {"count": "1", "seed": str(seed)}
        return over_http(lambda c: c.get("/v1/samples", params=params), at).json()

    first, second = drawn(0), drawn(1)
    assert first != second
    assert drawn(0) == first


@pytest.mark.parametrize(
    "params",
    [{"count": "0"}, {"count": "33"}, {"seed": "-1"}, {"seed": str(2**31)}, {"n": "1"}],
)
def test_samples_that_cannot_be_drawn_are_refused(at: Bench, params: dict[str, str]) -> None:
    response = over_http(lambda c: c.get("/v1/samples", params=params), at)
    assert refused(response) == (400, "bad_parameter")

"""Verdicts of a real gate: strangers, scores that are no numbers, and both protocols."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from model.image import UInt8Array
from model.scoring import Scores, score
from service.answer import ModelName
from service.bundle import Bundle
from service.cli.calibrate import calibrate
from service.engine import Engine
from service.predictor import Predictor
from service.protos import classifier_pb2
from service.recorder import Recorder
from service.served import Models, ServedModel
from service.tally import Tally
from service.verdict import Decision
from tests.service.faces.asking import over_grpc, over_http
from tests.service.faces.fakes import LIMITS, Bench
from tests.service.fakes import nothing_to_note, runtime
from train.data import open_data
from train.images import load_images
from train.progress import watch


@pytest.fixture(scope="module")
def pixels(bundle: Bundle) -> UInt8Array:
    images = load_images(open_data("digits:test"), bundle.spec, bundle.class_labels, watch)
    return images.pixels[:40]


@pytest.fixture(scope="module")
def scores(bundle: Bundle, pixels: UInt8Array) -> Scores:
    return score(bundle.checkpoint.classifier, pixels)


@pytest.fixture(scope="module")
def by_class(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same model, calibrated within each predicted class."""
    out = tmp_path_factory.mktemp("by-class") / "digits"
    calibrate(source=str(checkpoint_dir), data="digits", out=out, alpha=0.3, mode="predicted_class")
    return Bundle.load(out)


def test_strangers_are_rejected(bundle: Bundle, pixels: UInt8Array) -> None:
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    predictor = Predictor(bundle)
    strange, typical = predictor(noise), predictor(pixels)
    assert {verdict.decision for verdict in strange} == {Decision.REJECT}
    assert {verdict.reason for verdict in strange} == {"atypical_input"}
    assert {verdict.p_value for verdict in strange} == {1 / 216}
    assert np.mean([verdict.rejected for verdict in typical]) < 0.2
    assert min(v.score for v in strange) > np.median([v.score for v in typical])
    known = set(bundle.calibration.reference.names) | {"log_prob"}
    assert all({u.statistic for u in verdict.unusual} <= known for verdict in strange)


BROKEN: dict[str, Callable[[Scores, float], Scores]] = {
    "log_prob": lambda s, bad: replace(s, log_prob=np.append(bad, s.log_prob[1:])),
    "a statistic of the flow": lambda s, bad: replace(
        s, statistics=s.statistics | {"kurtosis": np.append(bad, s.statistics["kurtosis"][1:])}
    ),
    "a statistic of the pixels": lambda s, bad: replace(
        s, statistics=s.statistics | {"input_mean": np.append(bad, s.statistics["input_mean"][1:])}
    ),
    "a logit": lambda s, bad: replace(
        s, logits=np.concatenate([np.append(bad, s.logits[0, 1:])[None], s.logits[1:]])
    ),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("mode", ["marginal", "predicted_class"])
def test_a_score_that_is_no_number_is_a_stranger(
    bundle: Bundle, by_class: Bundle, scores: Scores, name: str, bad: float, mode: str
) -> None:
    """The smallest p there is, at every alpha, and nothing changes for the rest of the batch."""
    predictor = Predictor(bundle if mode == "marginal" else by_class)
    whole = predictor.verdicts(scores)
    found = predictor.verdicts(BROKEN[name](scores, bad))
    assert found[0].decision is Decision.REJECT
    assert found[0].p_value == 1 / (found[0].reference_size + 1)
    assert sum(found[0].posterior) == pytest.approx(1)
    assert found[0].class_label in found[0].prediction_set
    for verdict, expected in zip(found[1:], whole[1:], strict=True):
        assert verdict == expected


def faces(bundle: Bundle, image: bytes) -> tuple[dict[str, object], dict[str, object]]:
    """The answers to one image over HTTP and over gRPC, as one dictionary each."""
    recorder = Recorder(Tally())
    name = ModelName(name=bundle.name, version=bundle.version)
    served = ServedModel(Predictor(bundle), name, runtime(), nothing_to_note)
    engine = Engine(models=Models([served]), limits=LIMITS, recorder=recorder)
    at = Bench(engine, recorder.tally)
    response = over_http(lambda c: c.post("/v1/classify?id=x", content=image), at)
    request = classifier_pb2.ClassifyRequest(image=image, id="x")
    message, _ = over_grpc("/oodgate.v1.Classifier/Classify", request, at)
    return response.json(), MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


@pytest.mark.parametrize("mode", ["marginal", "predicted_class"])
def test_both_faces_say_the_same_of_a_gate(
    bundle: Bundle, by_class: Bundle, pixels: UInt8Array, mode: str
) -> None:
    served = bundle if mode == "marginal" else by_class
    sizes = set()
    for image in (*pixels[:12], np.full((1, 8, 8), 255, np.uint8)):
        out = io.BytesIO()
        Image.fromarray(image[0]).save(out, "PNG")
        json, message = faces(served, out.getvalue())
        for name in ("p_value", "p_typicality", "p_train", "threshold", "alpha", "scores"):
            assert json[name] == message[name], name
        for name in ("mode", "decision", "rejected", "posterior", "prediction_set", "unusual"):
            assert json[name] == message[name], name
        assert json["reference_size"] == int(str(message["reference_size"]))
        assert json["mode"] == mode
        sizes.add(json["reference_size"])
    assert sizes == {215} if mode == "marginal" else len(sizes) > 1

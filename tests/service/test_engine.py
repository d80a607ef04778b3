"""The core below the faces: what it answers and refuses, in which order, and what it notes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.image import InputSpec, UInt8Array, decode_all
from service import engine as module
from service import metrics
from service.access_log import AccessLog
from service.answer import ModelName
from service.ask import Ask, Reply
from service.engine import Engine
from service.errors import BadHostError, Fault
from service.recorder import Recorder
from service.served import Models
from service.tally import Tally
from tests.service.asking import LIMITS, asked, engine, refused
from tests.service.fakes import FakePredictor, images, model, png


def test_an_answer_names_model_version_labels_and_id() -> None:
    at, notes = engine(model("a", "1"), model("b", "2"))
    ask = Ask(images=(png(1), png(2)), model="b", version="2", id="mine", alpha=0.2)
    reply = asyncio.run(asked(at, ask, "header"))
    assert (reply.id, reply.model) == ("mine", ModelName(name="b", version="2"))
    assert reply.labels == at.models.find("b").labels
    assert [(v.score, v.alpha, v.mode) for v in reply.verdicts] == [(1, 0.2, "2"), (2, 0.2, "2")]
    (trace,) = notes.traces
    assert (trace.id, trace.code, trace.protocol, trace.model) == (
        "mine",
        "ok",
        "http",
        reply.model,
    )
    assert list(trace.stages) == ["decode", "queue", "forward", "render"]
    assert sum(trace.stages.values()) <= trace.seconds
    assert trace.verdicts == reply.verdicts


def test_encoded_and_raw_images_get_the_same_answer() -> None:
    at, _ = engine()
    for raw in (images(5, 6), images(5, 6).transpose(0, 2, 3, 1)):
        encoded = asyncio.run(asked(at, Ask(images=(png(5), png(6)))))
        assert asyncio.run(asked(at, Ask(images=raw))).verdicts == encoded.verdicts


@pytest.mark.parametrize(
    ("own", "header", "expected"),
    [("own", "header", "own"), ("", "header", "header"), ("", "", "[0-9a-f]{32}")],
)
def test_the_id_is_the_caller_s_where_there_is_one(own: str, header: str, expected: str) -> None:
    at, notes = engine()
    reply = asyncio.run(asked(at, Ask(images=(png(),), id=own), header))
    assert re.fullmatch(expected, reply.id)
    assert notes.traces[0].id == reply.id


def test_a_refused_request_keeps_the_id_that_came_first() -> None:
    at, notes = engine()
    with pytest.raises(Fault):
        asyncio.run(asked(at, Ask(images=()), "header"))
    fault = at.refuse("grpc", BadHostError(), "other")
    assert [trace.id for trace in notes.traces] == ["header", "other"]
    assert [trace.code for trace in notes.traces] == ["bad_request", "bad_host"]
    assert fault.status.code == "bad_host"


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (Ask(images=()), "bad_request"),
        (Ask(images=images(1)[:0]), "bad_request"),
        (Ask(images=[b"x"] * 4), "too_many_images"),
        (Ask(images=images(1, 2, 3, 4)), "too_many_images"),
        (Ask(images=[bytes(2_000)] * 3), "body_too_large"),
        (Ask(images=np.zeros((3, 1, 50, 40), np.uint8)), "body_too_large"),
        (Ask(images=images(1).astype(np.float32)), "bad_shape"),
        (Ask(images=images(1)[:, :, :3]), "bad_shape"),
        (Ask(images=[png(size=(50, 50))]), "image_too_large"),
        (Ask(images=[png(size=(20, 20))] * 3), "image_too_large"),
        (Ask(images=[png(), b"x"]), "not_an_image"),
        (Ask(images=[png()], model="b"), "unknown_model"),
        (Ask(images=[png()], version="2"), "unknown_model"),
        (Ask(images=[png()], id="x" * 257), "bad_parameter"),
        (Ask(images=[png()], top_k=0), "bad_parameter"),
        (Ask(images=[png()], top_k=-(10**400)), "bad_parameter"),
        (Ask(images=[png()], alpha=0.001), "unsupported_alpha"),
        *((Ask(images=[png()], alpha=a), "bad_parameter") for a in (0, 1, -1, 2, 1e400, -1e400)),
        (Ask(images=[png()], alpha=float("nan")), "bad_parameter"),
        *((Ask(images=[png()], timeout_s=t), "bad_parameter") for t in (0, -1, float("nan"))),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(ask: Ask, code: str) -> None:
    predictor = FakePredictor()
    at, notes = engine(model(predictor=predictor))
    fault = refused(ask, at)
    assert fault.status.code == code
    assert len(fault.message) < 400
    assert not predictor.batches
    assert notes.tally.values[metrics.REQUESTS.name, ("http", code)] == 1
    assert asyncio.run(asked(at, Ask(images=[png(3)]))).verdicts[0].score == 3  # no place is lost


def test_limits_are_held_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def counting(images: Sequence[bytes], spec: InputSpec, max_pixels: int) -> UInt8Array:
        decoded.append(len(images))
        return decode_all(images, spec, max_pixels)

    monkeypatch.setattr(module, "decode_all", counting)
    at, _ = engine()
    for ask in (
        Ask(images=[png()] * 4),
        Ask(images=[bytes(2_000)] * 3),
        Ask(images=[png()], alpha=0.001),
        Ask(images=[png()], alpha=2),
        Ask(images=[png()], top_k=0),
        Ask(images=[png()], timeout_s=0),
        Ask(images=[png()], model="unknown"),
        Ask(images=[png()], id="x" * 257),
    ):
        refused(ask, at)
    assert not decoded
    asyncio.run(asked(at, Ask(images=[png()] * 2)))
    assert decoded == [2]


def test_many_images_are_refused_before_their_bytes_are_counted() -> None:
    """The narrower limit names the remedy."""
    assert refused(Ask(images=[bytes(2_000)] * 4)).status.code == "too_many_images"


def test_a_failing_render_is_internal_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    at, notes = engine()

    async def read() -> Ask:
        return Ask(images=[png()])

    def render(ask: Ask, reply: Reply) -> Reply:
        raise KeyError("secret")

    with pytest.raises(Fault) as fault:
        asyncio.run(at.answer("http", read, render))
    assert fault.value.status.code == "internal"
    assert "secret" not in fault.value.message
    assert notes.traces[0].code == "internal"


def test_a_request_keeps_the_model_that_it_began_with() -> None:
    """Whatever is put in its place meanwhile, and however its images are spread over batches."""
    at, notes = engine(
        model("a", "0"), model("b", "0"), limits=replace(LIMITS, max_images=9, max_waiting=100)
    )

    async def ask(number: int) -> None:
        count = 1 + number % 9
        reply = await asked(at, Ask(images=images(*range(count)), model="ab"[number % 2]))
        assert {verdict.mode for verdict in reply.verdicts} == {reply.model.version}
        assert [verdict.score for verdict in reply.verdicts] == list(range(count))

    async def run() -> None:
        asking: list[asyncio.Task[None]] = []
        for number in range(60):
            asking.append(asyncio.create_task(ask(number)))
            if number % 3 == 0:
                at.models.put(model("ab"[number % 2], str(number)))
            await asyncio.sleep(0)
        await asyncio.gather(*asking)

    asyncio.run(run())
    versions = {trace.model.version for trace in notes.traces if trace.model}
    assert len(versions) > 10
    for trace in notes.traces:
        assert trace.model is not None
        assert {verdict.mode for verdict in trace.verdicts} == {trace.model.version}


def test_what_is_answered_is_counted_by_model(tmp_path: Path) -> None:
    tally = Tally()
    recorder = Recorder(tally, AccessLog(tmp_path / "log"))
    at = Engine(models=Models([model("a"), model("b")]), limits=LIMITS, recorder=recorder)
    for name, numbers in (("a", (1, 2)), ("b", (1,)), ("b", (3, 4, 5))):
        asyncio.run(asked(at, Ask(images=images(*numbers), model=name)))
    decided = {k[1]: n for k, n in tally.values.items() if k[0] == metrics.DECISIONS.name}
    assert decided == {("a", "accept", "none"): 2, ("b", "accept", "none"): 4}
    p_values = {k[1]: d for k, d in tally.distributions.items() if k[0] == metrics.P_VALUE.name}
    assert {labels: sum(d.counts) for labels, d in p_values.items()} == {("a",): 2, ("b",): 4}
    assert tally.values[metrics.STATISTICS.name, ("b", "1", "images")] == 4
    assert tally.values[metrics.STATISTICS.name, ("b", "1", "success_count")] == 2
    assert len((tmp_path / "log").read_text().splitlines()) == 3

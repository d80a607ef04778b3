"""What the Open Inference Protocol tells of the service over gRPC, and who may ask."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from service.http_api import Doors
from service.protos import oip_pb2
from tests.service.faces.asking import Context, call, methods, over_grpc, over_http
from tests.service.faces.fakes import COLOUR, GREY, VERSION, Bench, bench, keys, png
from tests.service.faces.messages import SERVICE, request

KEY = "0123456789abcdef-api"


def ask(method: str, at: Bench | None = None, context: Context | None = None, **fields: Any) -> Any:
    return over_grpc(
        f"{SERVICE}/{method}", getattr(oip_pb2, f"{method}Request")(**fields), at, context
    )


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        (GREY, "", True),
        (COLOUR, VERSION, True),
        ("", "", True),
        ("nobody", "", False),
        (GREY, "1", False),
    ],
)
def test_an_unknown_model_is_not_ready_which_is_an_answer(
    name: str, version: str, ready: bool
) -> None:
    answer, context = ask("ModelReady", name=name, version=version)
    assert answer.ready is ready
    assert context.code is None


def test_both_protocols_tell_the_same_of_the_service() -> None:
    at = bench()
    over_grpc(f"{SERVICE}/ModelInfer", request(png(5)), at)

    def told(method: str, **fields: Any) -> Any:
        message, context = ask(method, at, **fields)
        assert context.code is None
        return MessageToDict(message, preserving_proto_field_name=True)

    def got(path: str, verb: str = "GET") -> Any:
        return over_http(lambda c: c.request(verb, path), at).json()

    def bare(value: Any) -> Any:
        """Numbers of 64 bits are text in protobuf's JSON, and what is nothing is left out."""
        if isinstance(value, dict):
            pairs = {key: bare(entry) for key, entry in value.items()}
            return {key: entry for key, entry in pairs.items() if entry not in ({}, [], "0", "")}
        if isinstance(value, list):
            return [bare(entry) for entry in value]
        return str(value)

    assert ask("ServerLive")[0].live
    assert ask("ServerReady")[0].ready
    server = {key: value for key, value in got("/v2").items() if value}
    assert told("ServerMetadata") == server
    one = {"name": GREY, "version": VERSION}
    for theirs, ours in (
        (got("/v2/models/fake"), told("ModelMetadata", **one)),
        (got("/v2/models/fake/config"), told("ModelConfig", **one)["config"]),
        (got("/v2/models/fake/stats"), told("ModelStatistics", **one)),
        (got("/v2/models/stats"), told("ModelStatistics")),
        (got("/v2/repository/index", "POST"), told("RepositoryIndex")["models"]),
    ):
        ours, theirs = bare(ours), bare(theirs)
        if isinstance(theirs, dict):
            theirs.pop("max_batch_size", None)
            for tensor in theirs.get("input", ()):
                tensor.pop("format")
        assert ours == theirs


METHODS = ["ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"]
METHODS += ["RepositoryIndex", "ModelInfer"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_but_probes_needs_a_key(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unasked(self: Bench) -> Any:
        raise AssertionError("the monitor was asked")

    at = bench(doors=Doors(keys=keys(KEY)))
    good = Context((("authorization", f"Bearer {KEY}"),))
    assert ask(method, at, good)[1].code is not grpc.StatusCode.UNAUTHENTICATED
    monkeypatch.setattr(Bench, "statistics", unasked)
    _, context = ask(method, at, Context((("x-api-key", KEY + "x"),)))
    assert context.code is grpc.StatusCode.UNAUTHENTICATED
    assert at.counted("grpc", "unauthenticated") == 1
    for probe in ("ServerLive", "ServerReady"):
        assert ask(probe, at)[1].code is None


@pytest.mark.parametrize("method", METHODS)
def test_a_message_that_cannot_be_read_is_a_bad_request(method: str) -> None:
    _, context = over_grpc(f"{SERVICE}/{method}", b"\xff" * 9)
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    expected = f"the message cannot be read: expected an inference.{method}Request"
    assert context.details == expected


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_a_question_about_an_unknown_model(method: str) -> None:
    _, context = ask(method, name="nobody")
    assert context.code is grpc.StatusCode.NOT_FOUND
    assert "nobody" in str(context.details)


def test_statistics_without_a_monitor_are_unavailable() -> None:
    async def run() -> Context:
        async def unreachable() -> Any:
            raise ConnectionError("10.0.0.7 refused")

        face, context = bench().face(), Context()
        face.statistics = unreachable  # type: ignore[method-assign]
        message = oip_pb2.ModelStatisticsRequest()
        await call(face, f"{SERVICE}/ModelStatistics", message, context)
        return context

    context = asyncio.run(run())
    assert context.code is grpc.StatusCode.UNAVAILABLE
    assert "10.0.0.7" not in str(context.details)


def test_what_triton_has_beyond_is_not_registered() -> None:
    names = {path.rsplit("/", 1)[1] for path in methods(bench().face())}
    assert names == {*METHODS, "Classify", "ModelStreamInfer", "ServerLive", "ServerReady"}

import asyncio
import io
import logging
import sys
from typing import Any, cast

import grpc
import httpx
import pytest

from service.engine import Engine
from service.errors import INTERNAL, TABLE, Fault, OverloadedError, Status, fault_of
from service.http_errors import respond
from service.protos import classifier_pb2, oip_pb2
from tests.service.faces.asking import Context, client, over_grpc, stream
from tests.service.faces.fakes import LIMITS, Bench, bench

CLASSIFY, INFER = "/oodgate.v1.Classifier/Classify", "/inference.GRPCInferenceService/ModelInfer"
REQUESTS = {CLASSIFY: classifier_pb2.ClassifyRequest(), INFER: oip_pb2.ModelInferRequest()}


class _Failing:
    """An engine that fails in one way, whatever is asked."""

    limits = LIMITS

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def answer(self, *_: Any) -> Any:
        raise fault_of(self._error)


def _failing(error: Exception) -> Bench:
    usual = bench()
    return Bench(cast(Engine, _Failing(error)), usual.tally)


def _over_http(error: Exception) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with client(_failing(error).app()) as asking:
            paths = ("/v1/classify", "/v2/models/fake/infer")
            return [await asking.post(path, content=b"x") for path in paths]

    return asyncio.run(ask())


def _over_grpc(error: Exception) -> list[Context]:
    return [over_grpc(path, message, _failing(error))[1] for path, message in REQUESTS.items()]


def _in_a_stream(error: Exception) -> Any:
    async def one() -> Any:
        yield REQUESTS[INFER]

    (answer,) = asyncio.run(stream(_failing(error).face(), one(), Context()))
    return answer


def _instance(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "what is wrong, what was expected, what to do")
    return error


@pytest.mark.parametrize(("kind", "status"), TABLE, ids=lambda row: getattr(row, "code", ""))
def test_each_row_reads_the_same_through_both_protocols(
    kind: type[Exception], status: Status
) -> None:
    error = _instance(kind)
    for response in _over_http(error):
        assert response.status_code == status.http
        assert response.json() == {"error": str(error), "code": status.code}
        assert response.headers["content-type"] == "application/json"
        retry = None if status.retry_after_s is None else str(status.retry_after_s)
        assert response.headers.get("retry-after") == retry
        assert ("www-authenticate" in response.headers) == (status.http == 401)
    for context in _over_grpc(error):
        assert (context.code, context.details) == (status.grpc, str(error))
    assert _in_a_stream(error).error_message == str(error)


def test_an_internal_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "oodgate"):
        responses, contexts = _over_http(KeyError("secret")), _over_grpc(KeyError("secret"))
        streamed = _in_a_stream(KeyError("secret")).error_message
    assert {response.status_code for response in responses} == {500}
    assert {context.code for context in contexts} == {grpc.StatusCode.INTERNAL}
    texts = [*(r.text for r in responses), *(c.details or "" for c in contexts), streamed]
    for text in texts:
        assert "secret" not in text
        assert "Traceback" not in text
    incident = responses[0].json()["error"].rsplit(" ", 1)[-1]
    assert any(incident in record.getMessage() for record in caplog.records)


def test_what_leaves_a_route_itself_is_no_traceback_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of the service outside the engine."""

    async def ask() -> httpx.Response:
        app = bench().app()

        @app.get("/broken")
        async def broken() -> None:
            raise KeyError("secret")

        async with client(app) as asking:
            return await asking.get("/broken")

    response = asyncio.run(ask())
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text


def test_codes_are_unique_and_narrow_types_come_first() -> None:
    codes = [status.code for _, status in TABLE] + [INTERNAL.code]
    assert len(set(codes)) == len(codes)
    kinds = [kind for kind, _ in TABLE]
    for i, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:i])


def test_client_errors_never_travel_as_server_errors() -> None:
    """What is the service's own is what waiting mends, what took too long, and what it lacks."""
    ours = {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    for _, status in TABLE:
        assert status.http < 500 or status.grpc in ours
        assert (status.http == 503) == (status.grpc is grpc.StatusCode.UNAVAILABLE)
        assert (status.http == 429) == (status.grpc is grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_what_is_worth_trying_again_says_when() -> None:
    for _, status in TABLE:
        assert (status.retry_after_s is not None) == (status.http in (429, 503))


def test_a_connection_whose_body_was_not_read_is_closed() -> None:
    for _, status in TABLE:
        closed = respond(Fault(status, "x")).headers.get("connection") == "close"
        assert closed == (status.http in (408, 413))


def test_a_fault_stays_what_it_is() -> None:
    fault = fault_of(OverloadedError())
    assert isinstance(fault, Fault)
    assert fault_of(fault) is fault


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on:DeprecationWarning")  # Ray's
def test_an_incident_reaches_the_terminal_from_a_replica(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve replaces ``sys.stderr`` in a replica by one that drops what is written."""
    from service.terminal import log_to_terminal

    logger = logging.getLogger("oodgate")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    with open(2, "w", closefd=False) as terminal:
        monkeypatch.setattr(sys, "__stderr__", terminal)
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        log_to_terminal()
        fault = fault_of(KeyError("secret"))
    shown = capfd.readouterr().err
    assert fault.message.rsplit(" ", 1)[-1] in shown
    assert "KeyError: 'secret'" in shown

import asyncio
import io
import json
import logging
import sys
from typing import Any, cast

import grpc
import httpx
import pytest

from service.engine import Engine
from service.errors import INTERNAL, TABLE, Fault, OverloadedError, Status, fault_of
from service.grpc_api import GrpcFace
from service.http_api import create_app
from service.protos import classifier_pb2


class _Failing:
    """An engine that fails in one way, whatever is asked."""

    class limits:  # noqa: N801
        max_body_bytes = 1000

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def answer(self, protocol: str, read: Any) -> Any:
        raise fault_of(self._error)


class _Context:
    """What a gRPC call can be told."""

    code: grpc.StatusCode | None = None
    details: str | None = None

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


def _over_http(error: Exception) -> httpx.Response:
    async def ask() -> httpx.Response:
        app = create_app(cast(Engine, _Failing(error)), _no_metrics)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/classify", content=b"x")

    return asyncio.run(ask())


def _over_grpc(error: Exception) -> _Context:
    face, context = GrpcFace(), _Context()
    face.engine = cast(Engine, _Failing(error))
    asyncio.run(face.Classify(classifier_pb2.ClassifyRequest(), context))
    return context


async def _no_metrics() -> bytes:
    raise ConnectionError("10.0.0.7 refused")


def _instance(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, "what is wrong, what was expected, what to do")
    return error


@pytest.mark.parametrize(("kind", "status"), TABLE, ids=lambda row: getattr(row, "code", ""))
def test_each_row_reads_the_same_through_both_protocols(
    kind: type[Exception], status: Status
) -> None:
    error = _instance(kind)
    response, context = _over_http(error), _over_grpc(error)
    assert response.status_code == status.http
    assert response.json() == {"error": str(error), "code": status.code}
    assert (context.code, context.details) == (status.grpc, str(error))
    if status.retry_after_s is not None:
        assert response.headers["retry-after"] == str(status.retry_after_s)


def test_an_internal_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "oodgate"):
        response, context = _over_http(KeyError("secret")), _over_grpc(KeyError("secret"))
    assert response.status_code == 500
    assert context.code == grpc.StatusCode.INTERNAL
    for text in (response.text, context.details or ""):
        assert "secret" not in text
        assert "Traceback" not in text
    incident = response.json()["error"].rsplit(" ", 1)[-1]
    assert any(incident in record.getMessage() for record in caplog.records)


def test_codes_are_unique_and_narrow_types_come_first() -> None:
    codes = [status.code for _, status in TABLE] + [INTERNAL.code]
    assert len(set(codes)) == len(codes)
    kinds = [kind for kind, _ in TABLE]
    for i, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:i])


def test_client_errors_never_travel_as_server_errors() -> None:
    for _, status in TABLE:
        assert (status.http >= 500) == (status.grpc in (grpc.StatusCode.UNAVAILABLE,))


def test_a_fault_stays_what_it_is() -> None:
    fault = fault_of(OverloadedError())
    assert isinstance(fault, Fault)
    assert fault_of(fault) is fault


def test_metrics_without_a_monitor_are_not_ready_and_name_no_address() -> None:
    async def ask() -> httpx.Response:
        app = create_app(cast(Engine, _Failing(ValueError())), _no_metrics)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/metrics")

    response = asyncio.run(ask())
    assert response.status_code == 503
    assert json.loads(response.text)["code"] == "not_ready"
    assert "10.0.0.7" not in response.text


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on:DeprecationWarning")  # Ray's
def test_an_incident_reaches_the_terminal_from_a_replica(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve replaces ``sys.stderr`` in a replica by one that drops what is written."""
    from service.app import log_to_terminal

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

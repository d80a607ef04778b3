import asyncio
from typing import Any

import pytest

from service import front_headers
from service.front_headers import FrontHeaders


def passed(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    scope = {"type": "http", "headers": list(headers)}
    asyncio.run(FrontHeaders(app)(scope, None, None))  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize(
    "name",
    [
        b"x-request-disconnect-disabled",
        b"x-request-timeout-seconds",
        b"x-session-id",
        b"x_session_id",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
    ],
)
def test_serves_own_headers_end_here(name: bytes) -> None:
    assert passed((name, b"\xff"), (b"host", b"a")) == [(b"host", b"a")]


@pytest.mark.parametrize("value", [b"\xff\xfe", b"", b"a b", b"x" * 257, b"a\x00"])
def test_a_request_id_that_is_no_plain_text_is_dropped(value: bytes) -> None:
    assert passed((b"x-request-id", value)) == []


def test_all_else_passes() -> None:
    headers = [(b"x-request-id", b"abc-1"), (b"x-api-key", b"\xff"), (b"content-type", b"a/b")]
    assert passed(*headers) == headers


def test_serve_finds_it_and_has_the_headers_that_are_dropped() -> None:
    """A Ray that names them otherwise is noticed."""
    constants = pytest.importorskip("ray.serve._private.constants")
    utils = pytest.importorskip("ray.serve._private.http_util")
    variable, path = front_headers.CALLBACK
    assert variable == "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    assert hasattr(constants, variable)
    found = utils.validate_http_proxy_callback_return(utils.call_function_from_import_path(path))
    assert [middleware.cls for middleware in found] == [FrontHeaders]
    assert constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER == "x-request-timeout-seconds"
    assert constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER == (
        "x-request-disconnect-disabled"
    )

"""The doors over HTTP: Host, keys, CORS, and what happens to a body that is refused there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from service import http_body
from service.http_api import Doors
from service.http_body import ENVELOPE_BYTES
from service.http_guard import OPEN_PATHS, PROBE_PATHS
from tests.service.faces import oip
from tests.service.faces.asking import client, over_http, refused
from tests.service.faces.fakes import Bench, bench, keys, no_keys, png

KEY, OTHER = "0123456789abcdef-one", "0123456789abcdef-two"
HOSTS = ("localhost", "[::1]", "Example.org", "*.wild.example")

GOOD_HOSTS = [
    *("localhost", "localhost:8000", "LOCALHOST", "localhost:"),
    *("[::1]", "[::1]:8000", "example.org", "EXAMPLE.ORG:1"),
    *("a.wild.example", "a.b.wild.example:80"),
]
BAD_HOSTS = [
    *("", "evil.example", "evil.example:8000", "localhost.evil.example", "xlocalhost"),
    *("[::2]", "[::1]evil", "[::1]evil:80", "::1", "evil@localhost", ":80", "[", "]"),
    *("wild.example", "xwild.example", "wild.example.org", "*.wild.example.evil"),
    "l\u00f6calhost",
]


def guarded(*hosts: str) -> Bench:
    return bench(doors=Doors(keys=no_keys(), allowed_hosts=hosts))


def locked(*origins: str) -> Bench:
    return bench(doors=Doors(keys=keys(KEY, OTHER), cors_origins=origins))


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_host_is_known_by_its_name_with_any_port_and_case(host: str) -> None:
    response = over_http(lambda c: c.get("/v2", headers={"host": host}), guarded(*HOSTS))
    assert response.status_code == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_another_host_is_refused_and_counted(host: str) -> None:
    at = guarded(*HOSTS)
    headers = {b"host": host.encode("latin-1")}
    response = over_http(lambda c: c.get("/v2", headers=headers), at)
    assert refused(response) == (400, "bad_host")
    assert at.counted("http", "bad_host") == 1
    assert host not in response.text or host in ("", "[", "]", ":80")


def test_no_host_at_all_is_another_one() -> None:
    async def run(at: Bench) -> int:
        statuses = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "GET", "path": "/v2", "query_string": b"", "headers": []}
        await at.app()(scope, receive, send)  # type: ignore[arg-type]
        (status,) = statuses
        assert isinstance(status, int)
        return status

    assert asyncio.run(run(guarded(*HOSTS))) == 400
    assert asyncio.run(run(guarded())) == 200


def test_any_host_is_good_where_none_is_configured_and_for_probes() -> None:
    headers = {"host": "evil.example"}
    assert over_http(lambda c: c.get("/v2", headers=headers), guarded()).status_code == 200
    for path in PROBE_PATHS:
        response = over_http(lambda c, p=path: c.get(p, headers=headers), guarded("localhost"))  # type: ignore[misc]
        assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {OTHER}"},
        {"authorization": f"BEARER  {KEY} "},
        {"x-api-key": KEY},
        {"X-API-Key": f" {OTHER} "},
        {"authorization": "Basic Zm9vOmJhcg==", "x-api-key": KEY},
    ],
)
def test_a_good_key_opens(headers: dict[str, str]) -> None:
    response = over_http(
        lambda c: c.post("/v1/classify", content=png(5), headers=headers), locked()
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY},{OTHER}"},
        {"authorization": f"Bearer x{KEY}", "x-api-key": KEY},
        {"x-api-key": KEY[:-1]},
        {"x-api-key": KEY.upper()},
        {"x-api-key": ""},
        {"x-api-key": "\u00ff" * 20},
        {"cookie": KEY},
    ],
)
@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/fake/infer", "/v2", "/nowhere"])
def test_without_a_good_key_nothing_is_told(path: str, headers: dict[str, str]) -> None:
    at = locked()
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    response = over_http(lambda c: c.post(path, content=png(5), headers=raw), at)
    assert refused(response) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert KEY not in response.text
    assert at.counted("http", "unauthenticated") == 1
    assert at.counted("http", "ok") == 0


def test_open_paths_are_open_and_a_key_in_the_query_is_none() -> None:
    async def run() -> None:
        async with client(locked().app()) as asking:
            for path in OPEN_PATHS:
                assert (await asking.get(path)).status_code == 200
                assert (await asking.head(path)).status_code == 200
            for path in (
                "/v2",
                "/v2/models/fake",
                "/v2/health",
                "/docs/",
                "http://test//healthz",
                "/healthz/",
            ):
                assert refused(await asking.get(path)) == (401, "unauthenticated")
            response = await asking.get(f"/v2?key={KEY}&x-api-key={KEY}")
            assert refused(response) == (401, "unauthenticated")

    asyncio.run(run())


def test_without_keys_all_is_open() -> None:
    assert over_http(lambda c: c.post("/v1/classify", content=png(5))).status_code == 200


async def _sent(at: Bench, chunks: AsyncIterator[bytes]) -> httpx.Response:
    async with client(at.app()) as asking:
        return await asking.post("/v1/classify", content=chunks)


def test_a_refused_body_is_read_to_its_end_before_the_answer() -> None:
    """A client that is still sending would not see why it was cut off."""
    taken: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(10):
            taken.append(number)
            yield bytes(100)

    assert refused(asyncio.run(_sent(locked(), chunks())))[0] == 401
    assert len(taken) == 10


def test_a_refused_body_without_end_is_read_up_to_a_bound() -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield bytes(1000)

    assert refused(asyncio.run(_sent(locked(), chunks())))[0] == 401
    assert ENVELOPE_BYTES < taken <= ENVELOPE_BYTES + 2000


def test_a_refused_body_that_stalls_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "DRAIN_S", 0.01)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    assert refused(asyncio.run(_sent(locked(), chunks())))[0] == 401


PAGE = "https://page.example"
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST"}


def test_there_is_no_cors_unless_it_is_configured() -> None:
    async def run() -> None:
        async with client(locked().app()) as asking:
            preflight = await asking.options("/v1/classify", headers=PREFLIGHT)
            assert preflight.status_code == 401
            asked = await asking.post(
                "/v1/classify", content=png(5), headers={"origin": PAGE, "x-api-key": KEY}
            )
            assert asked.status_code == 200
            for response in (preflight, asked):
                assert not [name for name in response.headers if name.startswith("access-control")]

    asyncio.run(run())


def test_a_configured_origin_may_ask_first_without_a_key_and_then_with_one() -> None:
    async def run() -> None:
        async with client(locked(PAGE).app()) as asking:
            wish = {**PREFLIGHT, "access-control-request-headers": "authorization,x-api-key"}
            preflight = await asking.options("/v1/classify", headers=wish)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == PAGE
            assert "POST" in preflight.headers["access-control-allow-methods"]
            assert "x-api-key" in preflight.headers["access-control-allow-headers"]
            good = await asking.post(
                "/v1/classify", content=png(5), headers={"origin": PAGE, "x-api-key": KEY}
            )
            without = await asking.post("/v1/classify", content=png(5), headers={"origin": PAGE})
            assert (good.status_code, without.status_code) == (200, 401)
            for response in (good, without):  # a page has to be able to read its refusal
                assert response.headers["access-control-allow-origin"] == PAGE
                assert "access-control-allow-credentials" not in response.headers

    asyncio.run(run())


def test_a_page_may_read_where_the_json_of_an_answer_ends() -> None:
    body = oip.image_binary([png(5)], parameters={"binary_data_output": True})
    headers = {**body.headers, "origin": PAGE, "x-api-key": KEY}
    response = over_http(
        lambda c: c.post("/v2/models/fake/infer", content=body.content, headers=headers),
        locked(PAGE),
    )
    exposed = response.headers["access-control-expose-headers"].lower()
    assert oip.LENGTH.lower() in exposed
    assert "retry-after" in exposed


def test_another_origin_gets_nothing_by_it() -> None:
    async def run() -> None:
        async with client(locked(PAGE).app()) as asking:
            headers = {**PREFLIGHT, "origin": "https://evil.example"}
            preflight = await asking.options("/v1/classify", headers=headers)
            assert preflight.status_code == 400
            assert "access-control-allow-origin" not in preflight.headers
            asked = await asking.post("/v1/classify", headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in asked.headers

    asyncio.run(run())

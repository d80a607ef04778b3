"""The command line's side of ``/admin``: URLs, keys, and what it says of every failure."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service import admin_key
from service.admin_client import VARIABLE, AdminClient, resolved
from service.startup import StartupError

KEY = "0123456789abcdef-admin"


class Server(ThreadingHTTPServer):
    """Gives one answer to all; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, str, Any]] = []
        self.answer: tuple[int, bytes] = (200, b"{}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def _any(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        key = self.headers.get("authorization", "")
        content = json.loads(body) if body else None
        self.server.asked.append((self.command, self.path, key, content))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv(VARIABLE, KEY)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_wish_has_its_route(server: Server) -> None:
    server.answer = (200, b'{"models": []}')
    client = AdminClient(server.url + "/")
    assert client.state() == {"models": []}
    client.deploy("/bundles/new", shadow=True, share=0.25)
    client.end_shadow("a/b c")
    wish = {"bundle": "/bundles/new", "shadow": True, "share": 0.25}
    assert server.asked == [
        ("GET", "/admin/models", f"Bearer {KEY}", None),
        ("POST", "/admin/deploy", f"Bearer {KEY}", wish),
        ("DELETE", "/admin/shadows/a%2Fb%20c", f"Bearer {KEY}", None),
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((409, b'{"error": "digits 2 was refused", "code": "x"}'), ": digits 2 was refused$"),
        ((401, b'{"error": "an API key is needed"}'), ": an API key is needed$"),
        ((502, b"<html>"), ": 502 Bad Gateway$"),
        ((500, b"[]"), ": 500 Internal Server Error$"),
        ((500, b'{"fault": 1}'), ": 500 Internal Server Error$"),
        ((200, b"<html>"), " does not answer as a service does: "),
        ((200, b"[1, 2]"), " does not answer as a service does: its answer is no JSON object$"),
        ((200, b"3"), " does not answer as a service does: "),
        ((200, b"\xff"), " does not answer as a service does: "),
    ],
)
def test_a_failure_is_worded_with_the_url(
    answer: tuple[int, bytes], message: str, server: Server
) -> None:
    server.answer = answer
    with pytest.raises(StartupError, match=f"^{server.url}{message}") as refused:
        AdminClient(server.url).state()
    assert KEY not in str(refused.value)


def test_a_service_that_is_not_there_is_worded(server: Server) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(StartupError, match=f"^{url} does not answer .*refused"):
        AdminClient(url).state()


def test_a_proxy_is_not_told_the_key_of_this_machine(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        AdminClient(server.url).state()
        assert len(server.asked) == 1
        assert not proxy.asked


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8000", "localhost", "ftp://h", "http://", "http:///x", "file:///etc/x"),
        *("http://h:x", "http://h:99999", "http://h:0", "http://[::1", "https://:8000"),
    ],
)
def test_what_is_no_url_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with pytest.raises(StartupError, match="is no URL of a service: expected http://HOST:PORT"):
        AdminClient(url)


@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY}\u20ac", f"{KEY}\x7f"])
def test_a_key_that_no_header_holds_is_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, key)
    with pytest.raises(StartupError, match=rf"^\${VARIABLE} is no key") as refused:
        AdminClient("http://127.0.0.1:8000")
    assert KEY not in str(refused.value)


def test_the_key_of_this_machine_s_service_is_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(StartupError, match=rf"an admin key is needed: set \${VARIABLE}"):
        AdminClient(server.url)
    admin_key.create(server.server_port)
    AdminClient(server.url).state()
    assert server.asked[-1][2] == f"Bearer {admin_key.find(server.server_port)}"
    with pytest.raises(StartupError, match="an admin key is needed"):
        AdminClient(f"http://example.org:{server.server_port}")


@pytest.mark.parametrize(("url", "port"), [("http://localhost", 80), ("https://localhost", 443)])
def test_a_scheme_has_a_port(
    url: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    admin_key.create(port)
    AdminClient(url)


def test_certificates_that_cannot_be_read_are_worded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    (tmp_path / "text").write_text("no certificate")
    for name in ("missing", "text"):
        with pytest.raises(StartupError, match=f"{name}: .*; expected certificates in PEM"):
            AdminClient("https://example.org", str(tmp_path / name))


def test_a_bundle_is_named_as_the_service_knows_it(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = "http://127.0.0.1:8000", "http://example.org"
    monkeypatch.chdir(bundle_dir.parent)
    assert resolved(bundle_dir.name, here, None) == str(bundle_dir.resolve())
    assert resolved(bundle_dir.name, there, bundle_dir.parent) == bundle_dir.name
    monkeypatch.chdir(tmp_path)
    assert resolved("digits", here, None) == "digits"
    assert resolved("digits", here, bundle_dir.parent) == str(bundle_dir.resolve())

"""What is changed in Serve's HAProxy configuration; a Ray that words it otherwise is noticed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from grpc.aio import _server

from service import loopback, shedding, worker
from service.shedding import ADMITTED
from service.worker import ERROR_FILE, FRONT_GRPC_PORT, FRONT_HOST, TLS_PEM, rewritten

HTTP = "bind {{ config.frontend_host }}:{{ config.frontend_port }}"
GRPC = "bind {{ config.grpc_frontend_host }}:{{ config.grpc_frontend_port }} proto h2"


@pytest.fixture(scope="module")
def template() -> str:
    templates = pytest.importorskip("ray.serve._private.haproxy_templates")
    found: str = templates.HAPROXY_CONFIG_TEMPLATE
    return found


def binds(template: str) -> list[str]:
    return re.findall(r"^ *(bind .*)$", template, re.MULTILINE)


def changed(before: str, after: str) -> tuple[set[str], set[str]]:
    """Lines that went and lines that came."""
    old, new = set(before.splitlines()), set(after.splitlines())
    return {line.strip() for line in old - new}, {line.strip() for line in new - old}


def test_serve_binds_what_is_known_here(template: str) -> None:
    assert sorted(binds(template)) == sorted(
        [HTTP, GRPC, "bind :{{ config.metrics_port }}", "bind *:{{ config.stats_port }}"]
    )


def test_serve_has_the_places_that_are_rewritten(template: str) -> None:
    for place in (shedding._HTTP_PLACE, shedding._GRPC_PLACE):
        assert template.count(place) == 1
    for status in (502, 503, 504):
        assert template.count(f"errorfile {status} {{{{ config.error_file_path }}}}") == 1
    assert template.count("errorfile") == 3


def test_only_whole_requests_go_to_a_replica(template: str) -> None:
    gone, come = changed(template, rewritten(template, {}))
    assert gone == set()
    assert come == {"option http-buffer-request", "timeout http-request 10s"}


def test_overload_is_refused_before_a_backend_is_chosen(template: str) -> None:
    found = rewritten(template, {ADMITTED: "256"})
    http, rpc = (part for part in found.split("\n") if " ge 256 " in part)
    assert "deny_status 429" in http
    assert "Retry-After 1" in http
    assert "METH_POST" in http
    assert "grpc-status 8" in rpc
    assert found.index(http) < found.index("use_backend {{ backend.name or 'unknown' }} if is_")
    assert found.index("frontend grpc_frontend") < found.index(rpc)
    assert found.index(rpc) < found.index("default_backend {{ grpc_backends[0].name")


def test_both_front_ends_speak_tls(template: str) -> None:
    found = binds(rewritten(template, {TLS_PEM: "/run/tls.pem"}))
    assert f"{HTTP} ssl crt /run/tls.pem alpn h2,http/1.1" in found
    assert f"{GRPC} ssl crt /run/tls.pem alpn h2" in found
    assert sum("ssl" in bind for bind in found) == 2


def test_every_error_of_haproxy_is_ours(template: str) -> None:
    found = rewritten(template, {ERROR_FILE: "/run/error.http"})
    for status in (502, 503, 504):
        assert f"errorfile {status} /run/error.http\n" in found
    assert "errorfile 503 {{" not in found


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "192.0.2.1"])
@pytest.mark.parametrize("tls", [{}, {TLS_PEM: "/run/tls.pem"}])
def test_only_the_front_doors_leave_loopback(host: str, tls: dict[str, str], template: str) -> None:
    found = binds(rewritten(template, {FRONT_HOST: host, FRONT_GRPC_PORT: "8001", **tls}))
    doors = {bind for bind in found if "frontend_port" in bind}
    assert len(doors) == 2
    assert all(bind.startswith(f"bind {host}:") for bind in doors)
    rest = set(found) - doors
    assert rest == {
        "bind 127.0.0.1:{{ config.metrics_port }}",
        "bind 127.0.0.1:{{ config.stats_port }}",
    }


def test_all_changes_go_together(template: str) -> None:
    environment = {FRONT_HOST: "127.0.0.1", TLS_PEM: "/t", ERROR_FILE: "/e"}
    found = rewritten(template, environment)
    assert sum("ssl crt /t" in bind for bind in binds(found)) == 2
    assert found.count(" /e\n") == 3
    assert "bind 127.0.0.1:{{ config.frontend_port }} ssl crt /t alpn h2,http/1.1" in found


def test_a_proxy_that_knows_no_application_says_that_it_is_not_ready(template: str) -> None:
    assert template.count("http-request return status 404 ") == 1
    assert template.count("hdr grpc-status 5 ") == 2
    found = rewritten(template, {ERROR_FILE: "/run/error.http"})
    assert "status 404" not in found
    assert found.count("http-request deny deny_status 503") == 1
    assert "hdr grpc-status 5 " not in found


def test_the_rewritten_template_is_the_one_that_serve_reads(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = pytest.importorskip("ray.serve._private.haproxy_templates")
    monkeypatch.setattr(templates, "HAPROXY_CONFIG_TEMPLATE", template)
    monkeypatch.setenv(ERROR_FILE, "/run/error.http")
    worker._rewrite_haproxy()
    assert "errorfile 503 /run/error.http" in templates.HAPROXY_CONFIG_TEMPLATE


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_only_the_front_door_of_grpc_leaves_loopback(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[str] = []

    def bind(self: Any, address: str) -> int:
        bound.append(address)
        return 1

    monkeypatch.setattr(_server.Server, "add_insecure_port", bind)
    loopback.narrow_grpc(host, "8001")
    for address in ("[::]:8001", "[::]:40000", "[::]:0", "127.0.0.1:9", "[::]:80011"):
        assert _server.Server.add_insecure_port(None, address) == 1
    assert bound == [
        *(f"{host}:8001", "127.0.0.1:40000", "127.0.0.1:0", "127.0.0.1:9", "127.0.0.1:80011")
    ]

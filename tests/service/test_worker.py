"""What is changed in Ray Serve's workers, without starting any."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service import no_application, worker

ROOT = Path(__file__).resolve().parents[2]

#: Two servers that ask for a port of their own in Serve's words; in a process that ends with it.
TWO_ON_ONE_PORT = """
import asyncio, sys, grpc
from service import own_ports
if sys.argv[1] == "own":
    own_ports.insist()
async def main():
    first, second = (grpc.aio.server(options=[("grpc.so_reuseport", "0")]) for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    await first.start()
    try:
        second.add_insecure_port(f"127.0.0.1:{port}")
        print("shared")
    except RuntimeError:
        print("refused")
    await first.stop(None)
asyncio.run(main())
"""


@pytest.mark.parametrize(("as_serve_does", "outcome"), [("as is", "shared"), ("own", "refused")])
def test_a_grpc_port_belongs_to_one_server(as_serve_does: str, outcome: str) -> None:
    """The first case is what Serve does by itself: once it does not, the change can go."""
    command = [sys.executable, "-c", TWO_ON_ONE_PORT, as_serve_does]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == outcome


def test_haproxy_without_an_application_is_not_ready() -> None:
    templates = pytest.importorskip("ray.serve._private.haproxy_templates")
    template = templates.HAPROXY_CONFIG_TEMPLATE
    assert "status 404" in template
    assert "grpc-status 5" in template
    found = worker.rewritten(template, {worker.ERROR_FILE: "/errors"})
    assert "status 404" not in found
    assert "grpc-status 5" not in found
    assert "deny_status 503" in found
    assert found.count("errorfile 503 /errors") == 1
    assert found.count(no_application.TEXT) == 2


def test_the_answer_for_haproxy_is_whole() -> None:
    head, _, body = no_application.HTTP_ANSWER.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body) == no_application.BODY

"""The Dockerfile holds, and its commands do what they say, without Docker."""

from __future__ import annotations

import inspect
import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from service.cli import build_app
from service.cli.serve import serve
from tests.deploy.image import (
    DOCKERFILE,
    ROOT,
    Instruction,
    copied,
    last,
    parse,
    problems,
    sent_to_builder,
    stages,
)
from tests.deploy.manifests import RAYSERVICE, document, templates

TEXT = DOCKERFILE.read_text()


@pytest.fixture
def image() -> list[Instruction]:
    return stages(parse(TEXT))[-1]


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def one(image: list[Instruction], keyword: str) -> Instruction:
    found = last(image, keyword)
    assert found is not None
    return found


def test_dockerfile_holds() -> None:
    assert problems(TEXT) == []


BROKEN = {
    "root": ("USER 10001:10001", "USER root", "USER"),
    "root by its number": ("USER 10001:10001", "USER 0:0", "USER"),
    "nobody named": ("USER 10001:10001\n", "", "USER"),
    "no check of health": ("HEALTHCHECK", "LABEL", "HEALTHCHECK"),
    "a check that is off": ('    CMD ["python"', '    NONE ["python"', "HEALTHCHECK"),
    "no signal": ("STOPSIGNAL SIGTERM\n", "", "STOPSIGNAL"),
    "a shell in front": ('ENTRYPOINT ["tini", "--",', "ENTRYPOINT exec", "ENTRYPOINT"),
    "a base of any version": ("FROM python:3.11-slim\n", "FROM python\n", "latest"),
    "the newest base": ("FROM python:3.11-slim\n", "FROM python:latest\n", "latest"),
    "a choice without effect": ("$VARIANT", "cpu", "ARG VARIANT is never used"),
    "an index without effect": ("$TORCH_CPU_INDEX", "x", "ARG TORCH_CPU_INDEX is never used"),
    "a source that is not there": ("COPY model model", "COPY models models", "not in the repo"),
    "a source that is not sent": ("COPY model model", "COPY tests tests", "keeps it from"),
    "a misspelt instruction": ("WORKDIR", "WORKDIRECTORY", "unknown"),
    "a fetched file": ("COPY model model", "ADD model model", "ADD"),
    "a secret inside": ("PYTHONUNBUFFERED=1", "OODGATE_API_KEYS=abc", "secret"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_dockerfile_is_refused(name: str) -> None:
    before, after, said = BROKEN[name]
    assert before in TEXT
    found = problems(TEXT.replace(before, after))
    assert any(said in problem for problem in found), found


def test_only_what_is_copied_is_sent() -> None:
    wanted = {source for stage in stages(parse(TEXT)) for source in copied(stage).values()}
    assert set(sent_to_builder()) == wanted


def test_all_packages_are_installed(project: dict[str, Any]) -> None:
    """The image has an installed copy, which lacks what pyproject.toml does not list."""
    listed = {name.replace(".", "/") for name in project["tool"]["setuptools"]["packages"]}
    rooms = {name.split("/")[0] for name in listed}
    files = [file.relative_to(ROOT) for room in rooms for file in (ROOT / room).rglob("*.py")]
    found = {file.parent.as_posix() for file in files}
    assert found == listed
    assert set(copied(stages(parse(TEXT))[0]).values()) >= rooms


def test_ports_are_those_of_the_command(image: list[Instruction]) -> None:
    defaults = inspect.signature(serve).parameters
    ports = [str(defaults[name].default) for name in ("port", "grpc_port")]
    assert one(image, "EXPOSE").words() == ports
    assert f"'127.0.0.1', {ports[0]}," in one(image, "HEALTHCHECK").text


def test_entry_point_is_the_command(image: list[Instruction], project: dict[str, Any]) -> None:
    init, end, name, command, *arguments = one(image, "ENTRYPOINT").words()
    assert (init, end) == ("tini", "--")
    module, function = project["project"]["scripts"][name].split(":")
    assert callable(getattr(import_module(module), function))
    group = typer.main.get_command(build_app())
    assert command in group.commands  # type: ignore[attr-defined]
    context = group.commands[command].make_context(  # type: ignore[attr-defined]
        command, [*arguments, *one(image, "CMD").words()]
    )
    assert context.params["host"] == "0.0.0.0"


def test_user_is_the_one_that_pods_name(image: list[Instruction]) -> None:
    user, group = map(int, one(image, "USER").text.split(":"))
    made = " ".join(i.text for i in image if i.keyword == "RUN")
    assert f"useradd --uid {user} --gid {group} " in made
    for _, template in templates(document(RAYSERVICE)):
        security = template["spec"]["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"]) == (user, group)


def runs(image: list[Instruction], word: str) -> str:
    """The only RUN that has the word in it."""
    (found,) = (i.text for i in image if i.keyword == "RUN" and word in i.text)
    return found


def test_shell_is_shell(image: list[Instruction]) -> None:
    for instruction in parse(TEXT):
        if instruction.keyword == "RUN":
            subprocess.run(["sh", "-n", "-c", instruction.text], check=True)


def shell(script: str, folder: Path, **environment: str) -> tuple[int, list[list[str]]]:
    """Its exit status and how it called pip, which is a stand-in; python is the real one."""
    log = folder / "calls"
    stand_in = folder / "bin" / "pip"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(log)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    stand_in.chmod(0o755)
    (folder / "bin" / "python").symlink_to(sys.executable)
    path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script.replace("/tmp/", f"{folder}/")],
        cwd=ROOT,
        env={**os.environ, **environment, "PATH": path},
        check=False,
        capture_output=True,
    )
    calls = log.read_text().splitlines() if log.exists() else []
    return done.returncode, [json.loads(call) for call in calls]


@pytest.mark.parametrize("variant", ["cpu", "cuda", "rocm"])
def test_variant_chooses_the_wheels(variant: str, image: list[Instruction], tmp_path: Path) -> None:
    script = runs(image, "$VARIANT")
    status, calls = shell(script, tmp_path, VARIANT=variant, TORCH_CPU_INDEX="https://an.index")
    if variant == "rocm":
        assert (status != 0, calls) == (True, [])
        return
    ((*options, first, second),) = calls
    assert (status, first, second) == (0, "torch", "torchvision")
    assert ("https://an.index" in options) == ("--no-deps" in options) == (variant == "cpu")
    assert "constraints.txt" in options


def test_dependencies_are_those_of_the_project(
    image: list[Instruction], project: dict[str, Any], tmp_path: Path
) -> None:
    script = runs(image, "tomllib").replace("&& rm ", "&& true ")  # what it wrote stays to be read
    status, calls = shell(script, tmp_path)
    assert (status, len(calls)) == (0, 1)
    assert calls[0][-2:] == ["--requirement", f"{tmp_path}/needs.txt"]
    wanted = project["project"]
    needs = (tmp_path / "needs.txt").read_text().splitlines()
    assert needs == [*wanted["dependencies"], *wanted["optional-dependencies"]["serve"]]


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server with one answer to all; its port, and the paths that were asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


def healthy(image: list[Instruction], port: int) -> bool:
    """What the image's own check says of the service at a port."""
    program, flag, code = json.loads(one(image, "HEALTHCHECK").text.removeprefix("CMD "))
    assert (program, flag) == ("python", "-c")
    command = [sys.executable, "-c", re.sub(r"\b8000\b", str(port), code)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("status", "verdict"), [(200, True), (503, False), (404, False)])
def test_check_of_health_follows_readiness(
    status: int, verdict: bool, image: list[Instruction]
) -> None:
    with answering(status) as (port, asked):
        assert healthy(image, port) is verdict
    assert asked == ["/readyz"]


def test_check_of_health_fails_where_nobody_listens(image: list[Instruction]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not healthy(image, bound.getsockname()[1])

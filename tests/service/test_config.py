import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.config import ServiceConfig
from service.grpc_api import SERVICER_FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]


def _serve_yaml() -> dict[str, Any]:
    found = importlib.import_module("yaml").safe_load((ROOT / "deploy/serve.yaml").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on:DeprecationWarning")  # Ray's
def test_serve_yaml_is_what_the_builder_takes() -> None:
    (application,) = _serve_yaml()["applications"]
    ServiceConfig(**application["args"])
    module, name = application["import_path"].split(":")
    builder = getattr(importlib.import_module(module), name)
    (parameter,) = inspect.signature(builder).parameters.values()
    assert parameter.annotation is ServiceConfig  # a string here, and Serve would pass a dict


def test_serve_yaml_registers_every_grpc_service() -> None:
    functions = _serve_yaml()["grpc_options"]["grpc_servicer_functions"]
    assert tuple(functions) == SERVICER_FUNCTIONS
    for path in functions:
        module, name = path.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="alpha"):
        ServiceConfig(bundle=Path("b"), alpha=0.1)  # type: ignore[call-arg]


def test_the_bounds_of_a_request_are_those_of_the_configuration() -> None:
    config = ServiceConfig(bundle=Path("b"), max_body_bytes=7, max_queued_requests=3)
    limits = config.limits()
    assert (limits.max_body_bytes, limits.max_waiting) == (7, 3)

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.image import MAX_PIXELS
from service.config import ServiceConfig
from service.engine import Limits
from service.grpc_api import SERVICER_FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = Path("b")


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
        ServiceConfig(bundles=(BUNDLE,), alpha=0.1)  # type: ignore[call-arg]


def test_the_bounds_of_a_request_are_those_of_the_configuration() -> None:
    config = ServiceConfig(
        bundles=(BUNDLE,),
        max_body_bytes=7,
        max_queued_requests=3,
        max_pixels=5,
        max_images=2,
        read_timeout_s=1.5,
        queue_timeout_s=2.5,
    )
    assert config.limits() == Limits(
        max_body_bytes=7,
        max_pixels=5,
        max_images=2,
        max_waiting=3,
        read_timeout_s=1.5,
        queue_timeout_s=2.5,
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"bundles": ()}, "bundles"),
        ({"max_pixels": MAX_PIXELS + 1}, "max_pixels"),
        ({"replicas": 3, "max_replicas": 2}, "max_replicas is 2: expected at least replicas, 3"),
        ({"queue_timeout_s": 0}, "queue_timeout_s"),
        ({"batch_wait_timeout_s": -1}, "batch_wait_timeout_s"),
        ({"quarantine_files": 1}, "quarantine_files"),
        *(
            ({name: 0}, name)
            for name in (
                *("replicas", "threads", "max_body_bytes", "max_images", "max_batch_size"),
                *("max_queued_requests", "max_queued_images", "quarantine_bytes"),
            )
        ),
    ],
)
def test_a_setting_without_a_meaning_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ServiceConfig(**{"bundles": (BUNDLE,), **settings})


def test_nothing_is_open_or_kept_unless_it_is_asked_for() -> None:
    config = ServiceConfig(bundles=(BUNDLE,))
    assert (config.api_keys_file, config.admin_keys_file) == (None, None)
    assert config.cors_origins == ()
    assert config.quarantine is None


def test_a_configuration_is_fixed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ServiceConfig(bundles=(BUNDLE,)).replicas = 2


def test_the_limits_that_the_readme_names_are_those_of_the_configuration() -> None:
    config = ServiceConfig(bundles=(BUNDLE,))
    row = next(
        line for line in (ROOT / "README.md").read_text().splitlines() if "| limits |" in line
    )
    for told in (
        f"{config.max_body_bytes // 2**20} MiB",
        f"{config.max_pixels // 10**6} million pixels",
        f"{config.max_images} images",
        f"{config.max_queued_requests} requests",
        f"{config.max_queued_images} waiting images",
    ):
        assert told in row, told

"""Both Serve configurations are what Ray Serve and the application's builder take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any

import pytest
from pydantic import ValidationError

from service.config import ServiceConfig
from service.grpc_api import SERVICER_FUNCTIONS
from tests.deploy.image import DOCKERFILE, ROOT, copied, parse, stages
from tests.deploy.manifests import RAYSERVICE, SERVE, document, serve_config

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using extra keyword arguments on:DeprecationWarning"  # Ray's
)

CONFIGS: dict[str, Callable[[], dict[str, Any]]] = {
    "serve.yaml": lambda: document(SERVE),
    "rayservice.yaml": lambda: serve_config(document(RAYSERVICE)),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CONFIGS[request.param]()


def problems(config: dict[str, Any]) -> list[str]:
    """By Serve's own schema, by ours of ``args``, and by importing what is named."""
    return [*_schema_problems(config), *_import_problems(config), *_args_problems(config)]


def _schema_problems(config: dict[str, Any]) -> Iterator[str]:
    """Serve lets unknown fields pass, which may be misspelt ones; here they do not."""
    from ray.serve import schema

    try:
        schema.ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        yield str(error)
    parts: list[tuple[dict[str, Any], Any]] = [
        (config, schema.ServeDeploySchema),
        (config.get("http_options", {}), schema.HTTPOptionsSchema),
        (config.get("grpc_options", {}), schema.gRPCOptionsSchema),
        *((application, schema.ServeApplicationSchema) for application in config["applications"]),
    ]
    for part, model in parts:
        unknown = part.keys() - model.model_fields.keys()
        if unknown:
            yield f"{model.__name__} has no {sorted(unknown)}"


def _import_problems(config: dict[str, Any]) -> Iterator[str]:
    paths = [a["import_path"] for a in config["applications"] if "import_path" in a]
    paths += config["grpc_options"]["grpc_servicer_functions"]
    for path in paths:
        module, _, name = path.replace(":", ".").rpartition(".")
        try:
            if not callable(getattr(import_module(module), name)):
                yield f"{path} cannot be called"
        except (ImportError, AttributeError) as error:
            yield f"{path}: {error}"


def _args_problems(config: dict[str, Any]) -> Iterator[str]:
    for application in config["applications"]:
        try:
            args = ServiceConfig(**application["args"])
        except ValidationError as error:
            yield str(error)
            continue
        in_image = copied(stages(parse(DOCKERFILE.read_text()))[-1])
        for bundle in args.bundles:
            source = in_image.get(PurePosixPath(bundle))
            if source is None or not (ROOT / source / "manifest.json").is_file():
                yield f"{bundle} is no bundle in the image"
        host = ip_address(config["http_options"]["host"])
        if not host.is_loopback and args.api_keys_file is None:
            yield f"{host} can be reached by others: expected api_keys_file"


def test_configuration_holds(config: dict[str, Any]) -> None:
    assert problems(config) == []


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an unknown argument": (lambda c: c["applications"][0]["args"].update(alpha=0.1), "alpha"),
    "an argument of another type": (
        lambda c: c["applications"][0]["args"].update(replicas="many"),
        "replicas",
    ),
    "no bundle": (lambda c: c["applications"][0]["args"].update(bundles=[]), "bundles"),
    "a bundle that is not in the image": (
        lambda c: c["applications"][0]["args"].update(bundles=["/opt/oodgate/bundles/none"]),
        "no bundle in the image",
    ),
    "fewer at most than at least": (
        lambda c: c["applications"][0]["args"].update(replicas=3, max_replicas=2),
        "max_replicas",
    ),
    "no keys on every interface": (
        lambda c: (
            c["http_options"].update(host="0.0.0.0"),
            c["applications"][0]["args"].update(api_keys_file=None),
        ),
        "expected api_keys_file",
    ),
    "a builder that is none": (
        lambda c: c["applications"][0].update(import_path="service.app:built"),
        "built",
    ),
    "a service that is none": (
        lambda c: c["grpc_options"]["grpc_servicer_functions"].append("service.none.add"),
        "service.none",
    ),
    "a misspelt option of HTTP": (lambda c: c["http_options"].update(hosts="::"), "hosts"),
    "a misspelt section": (lambda c: c.update(grpc_option={}), "grpc_option"),
    "a misspelt field": (lambda c: c["applications"][0].update(route="/"), "route"),
    "a place that is none": (lambda c: c.update(proxy_location="Everywhere"), "proxy_location"),
    "no import path": (lambda c: c["applications"][0].pop("import_path"), "import_path"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configuration_is_refused(name: str, config: dict[str, Any]) -> None:
    change, said = BROKEN[name]
    change(config)
    found = problems(config)
    assert any(said in problem for problem in found), found


def test_every_protocol_is_registered(config: dict[str, Any]) -> None:
    registered = config["grpc_options"]["grpc_servicer_functions"]
    assert sorted(registered) == sorted(SERVICER_FUNCTIONS)


def test_both_serve_the_same_on_the_same_ports() -> None:
    one, other = (make() for make in CONFIGS.values())
    assert one["grpc_options"] == other["grpc_options"]
    assert one["http_options"]["port"] == other["http_options"]["port"]
    bundles = [made["applications"][0]["args"]["bundles"] for made in (one, other)]
    assert bundles[0] == bundles[1]


def test_cluster_scales_and_the_single_one_does_not() -> None:
    (alone,) = CONFIGS["serve.yaml"]()["applications"]
    (scaled,) = CONFIGS["rayservice.yaml"]()["applications"]
    assert ServiceConfig(**alone["args"]).max_replicas is None
    assert (ServiceConfig(**scaled["args"]).max_replicas or 0) > scaled["args"]["replicas"]

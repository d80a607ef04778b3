"""The manifests for KubeRay hold, and broken ones are refused; no cluster is asked."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from service.cluster import ANYWHERE, GRPC_ENVELOPE_FACTOR
from service.config import ServiceConfig
from tests.deploy.manifests import (
    NETWORK,
    RAYSERVICE,
    ROOT,
    document,
    documents,
    kubernetes_problems,
    ray_cluster,
    rayservice_problems,
    serve_config,
    templates,
)

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def rayservice() -> dict[str, Any]:
    return document(RAYSERVICE)


def worker(manifest: dict[str, Any], group: int = 0) -> dict[str, Any]:
    spec: dict[str, Any] = ray_cluster(manifest)["workerGroupSpecs"][group]["template"]["spec"]
    return spec


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = worker(manifest)["containers"][0]
    return first


def upgrade(manifest: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = manifest["spec"]["upgradeStrategy"]["clusterUpgradeOptions"]
    return options


def test_rayservice_holds(rayservice: dict[str, Any]) -> None:
    assert rayservice_problems(rayservice) == []


def test_network_holds() -> None:
    found = documents(NETWORK.read_text())
    assert [manifest["kind"] for manifest in found] == ["NetworkPolicy", "NetworkPolicy", "Service"]
    assert [problem for manifest in found for problem in kubernetes_problems(manifest)] == []


BROKEN: dict[str, tuple[Change, str]] = {
    "a field no RayService has": (lambda m: m["spec"].update(replicas=2), "replicas"),
    "a field no cluster has": (lambda m: ray_cluster(m).update(autoscaling=True), "autoscaling"),
    "a field no group has": (
        lambda m: ray_cluster(m)["workerGroupSpecs"][0].update(maxReplica=4),
        "maxReplica",
    ),
    "a field no pod has": (lambda m: worker(m).update(serviceAcount="x"), "serviceAcount"),
    "a field no container has": (lambda m: container(m).update(probes=[]), "probes"),
    "a field no probe has": (lambda m: container(m)["livenessProbe"].update(every=5), "every"),
    "a field no autoscaler has": (
        lambda m: ray_cluster(m)["autoscalerOptions"].update(min=1),
        "min",
    ),
    "a strategy that is none": (
        lambda m: m["spec"]["upgradeStrategy"].update(type="RollingUpdate"),
        "RollingUpdate",
    ),
    "no options of the upgrade": (
        lambda m: m["spec"]["upgradeStrategy"].pop("clusterUpgradeOptions"),
        "clusterUpgradeOptions",
    ),
    "no class of gateways": (lambda m: upgrade(m).pop("gatewayClassName"), "gatewayClassName"),
    "steps beyond the surge": (lambda m: upgrade(m).update(stepSizePercent=60), "maxSurgePercent"),
    "a share over 100%": (lambda m: upgrade(m).update(maxSurgePercent=150), "150"),
    "a number for a string": (
        lambda m: ray_cluster(m)["headGroupSpec"].update(rayStartParams={"num-cpus": 0}),
        "num-cpus",
    ),
    "a string for a number": (
        lambda m: ray_cluster(m)["workerGroupSpecs"][0].update(maxReplicas="4"),
        "'4' is not of type 'integer'",
    ),
    "a number for an environment": (
        lambda m: container(m)["env"].append({"name": "A", "value": 1}),
        "1 is not of type 'string'",
    ),
    "a configuration as an object": (
        lambda m: m["spec"].update(serveConfigV2={"applications": []}),
        "serveConfigV2",
    ),
    "no autoscaler": (
        lambda m: ray_cluster(m).update(enableInTreeAutoscaling=False),
        "enableInTreeAutoscaling",
    ),
    "pods that restart": (lambda m: worker(m).update(restartPolicy="Always"), "restartPolicy"),
    "too few at most": (
        lambda m: ray_cluster(m)["workerGroupSpecs"][0].update(maxReplicas=0),
        "minReplicas <= replicas",
    ),
    "no readiness probe": (lambda m: container(m).pop("readinessProbe"), "readinessProbe"),
    "no liveness probe": (lambda m: container(m).pop("livenessProbe"), "livenessProbe"),
    "a probe that asks nothing": (
        lambda m: container(m).update(livenessProbe={"periodSeconds": 5}),
        "livenessProbe",
    ),
    "no port of HTTP": (lambda m: container(m)["ports"].pop(0), "serve"),
    "root": (lambda m: worker(m)["securityContext"].update(runAsUser=0), "runAsUser"),
    "a way to more rights": (
        lambda m: container(m)["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilegeEscalation",
    ),
    "rights of an autoscaler": (
        lambda m: ray_cluster(m)["autoscalerOptions"].pop("securityContext"),
        "autoscaler",
    ),
    "no limits": (lambda m: container(m)["resources"].pop("limits"), "limits"),
    "a mount of nothing": (lambda m: worker(m).pop("volumes"), "keys"),
    "the host's files": (
        lambda m: worker(m)["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
        "hostPath",
    ),
    "the host's network": (lambda m: worker(m).update(hostNetwork=True), "hostNetwork"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rayservice_is_refused(name: str, rayservice: dict[str, Any]) -> None:
    change, said = BROKEN[name]
    change(rayservice)
    problems = rayservice_problems(rayservice)
    assert problems
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize("field", ["ingres", "podSelectors"])
def test_broken_policy_is_refused(field: str) -> None:
    policy, *_ = documents(NETWORK.read_text())
    policy["spec"][field] = []
    assert any(field in problem for problem in kubernetes_problems(policy))


def test_key_written_twice_is_refused() -> None:
    with pytest.raises(Exception, match="written twice"):
        documents("a: 1\nb: 2\na: 3\n")


def test_keys_are_mounted_where_the_configuration_looks(rayservice: dict[str, Any]) -> None:
    (application,) = serve_config(rayservice)["applications"]
    wanted = {application["args"][name] for name in ("api_keys_file", "admin_keys_file")}
    for name, template in templates(rayservice):
        (mount,) = template["spec"]["containers"][0]["volumeMounts"]
        (volume,) = template["spec"]["volumes"]
        there = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
        assert there == wanted, name
        assert mount["readOnly"] is True, name


def test_versions_are_those_of_the_project(rayservice: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert ray_cluster(rayservice)["rayVersion"] == pins["ray"]
    images = {name: t["spec"]["containers"][0]["image"] for name, t in templates(rayservice)}
    assert images == {
        "head": f"oodgate:{version}-cpu",
        "cpu": f"oodgate:{version}-cpu",
        "gpu": f"oodgate:{version}-cuda",
    }


def test_probes_ask_what_answers(rayservice: dict[str, Any]) -> None:
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

    config = serve_config(rayservice)
    for name, template in templates(rayservice):
        (only,) = template["spec"]["containers"]
        agent = {"path": "/api/healthz", "port": DEFAULT_DASHBOARD_AGENT_LISTEN_PORT}
        assert only["livenessProbe"]["httpGet"] == only["startupProbe"]["httpGet"] == agent
        proxy = {"path": "/-/healthz", "port": config["http_options"]["port"]}
        assert only["readinessProbe"]["httpGet"] == (agent if name == "head" else proxy)
    assert config["http_options"]["host"] == "0.0.0.0", "the kubelet and the gateway come from far"


def test_environment_follows_from_the_configuration(rayservice: dict[str, Any]) -> None:
    (application,) = serve_config(rayservice)["applications"]
    config = ServiceConfig(**application["args"])
    for _, template in templates(rayservice):
        (only,) = template["spec"]["containers"]
        env = {entry["name"]: entry["value"] for entry in only["env"]}
        size = GRPC_ENVELOPE_FACTOR * config.max_body_bytes
        assert env["RAY_SERVE_GRPC_MAX_MESSAGE_SIZE"] == str(size)
        timeout = int(env["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"])
        assert timeout >= config.read_timeout_s
        assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert {name: env.get(name) for name in ANYWHERE} == ANYWHERE


def test_environment_is_known_to_ray(rayservice: dict[str, Any]) -> None:
    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    source = Path(found.origin).with_name("serve").joinpath("_private", "constants.py").read_text()
    names = {
        entry["name"]
        for _, template in templates(rayservice)
        for entry in template["spec"]["containers"][0]["env"]
        if entry["name"].startswith("RAY_SERVE_")
    }
    assert {name for name in names if f'"{name}"' not in source} == set()


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_replicas_fit_into_the_groups(num_gpus: int, rayservice: dict[str, Any]) -> None:
    """On CPUs as written; on GPUs as the comment says: the limit is that of the group."""
    (application,) = serve_config(rayservice)["applications"]
    args = application["args"]
    group = ray_cluster(rayservice)["workerGroupSpecs"][num_gpus]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert ("nvidia.com/gpu" in limits) == bool(num_gpus)
    if num_gpus:
        assert group["minReplicas"] == 0, "a GPU costs while it waits"
        assert group["template"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"
        assert int(limits["nvidia.com/gpu"]) >= num_gpus
    else:
        a_pod = (float(limits["cpu"]) - 0.05) // args["num_cpus"]  # beside the Monitor
        assert a_pod * group["maxReplicas"] >= args["max_replicas"]
        assert a_pod * group["minReplicas"] >= args["replicas"]


def test_only_the_service_is_reachable(rayservice: dict[str, Any]) -> None:
    policy, _, service = documents(NETWORK.read_text())
    config = serve_config(rayservice)
    ours = {config["http_options"]["port"], config["grpc_options"]["port"]}
    open_to_all = [rule for rule in policy["spec"]["ingress"] if not rule.get("from")]
    assert [{port["port"] for port in rule["ports"]} for rule in open_to_all] == [ours]
    label = policy["spec"]["podSelector"]["matchLabels"]
    for name, template in templates(rayservice):
        assert template["metadata"]["labels"] == label, name
    assert service["spec"]["selector"].items() >= label.items()
    assert service["spec"]["ports"][0]["port"] == config["grpc_options"]["port"]
    head = ray_cluster(rayservice)["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False
    assert ray_cluster(rayservice)["authOptions"] == {"mode": "token"}


def commands(node: Any) -> Iterator[list[str]]:
    """Every ``command`` in a manifest."""
    if isinstance(node, dict):
        if isinstance(node.get("command"), list):
            yield node["command"]
        for value in node.values():
            yield from commands(value)
    elif isinstance(node, list):
        for value in node:
            yield from commands(value)


def test_shell_in_manifests_is_shell(rayservice: dict[str, Any]) -> None:
    found = list(commands(rayservice))
    assert found
    for shell, flag, script in found:
        assert (shell, flag) == ("/bin/sh", "-c")
        subprocess.run(["sh", "-n", "-c", script], check=True)


def test_readme_names_every_file() -> None:
    deploy = ROOT / "deploy"
    text = (deploy / "README.md").read_text()
    files = [path.relative_to(deploy) for path in deploy.rglob("*") if path.is_file()]
    own = [file for file in files if file.parts[0] in ("Dockerfile", "serve.yaml", "kuberay")]
    assert len(own) == 7
    assert [str(file) for file in own if f"`{file}`" not in text] == []

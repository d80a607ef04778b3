"""What is wrong with a manifest, without a cluster: lists of problems, empty if none.

Fields and types come from schemas (Kubernetes' own, and that of ``rayservice_schema.yaml``); what
no schema can know (probes, users, who fits where) is said here. Not covered: what admission
controllers, a gateway or the operator do with a valid manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
RAYSERVICE = ROOT / "deploy" / "kuberay" / "rayservice.yaml"
NETWORK = ROOT / "deploy" / "kuberay" / "network.yaml"
SERVE = ROOT / "deploy" / "serve.yaml"
SCHEMA = Path(__file__).with_name("rayservice_schema.yaml")

#: Versions of Kubernetes whose schemas are asked: old ones still in use, and the newest known.
KUBERNETES = ("1.30", "1.37")


class UniqueKeyLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML in which a key that is written twice is an error, as it is for ``kubectl``."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"written twice: {sorted(twice)}", node.start_mark
            )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def documents(text: str) -> list[dict[str, Any]]:
    """All documents; parts that were written once and referred to are copies of their own."""
    loaded = list(yaml.load_all(text, Loader=UniqueKeyLoader))
    copies: list[dict[str, Any]] = json.loads(json.dumps(loaded))
    return copies


def document(path: Path) -> dict[str, Any]:
    """The only document of a file."""
    (only,) = documents(path.read_text())
    return only


def serve_config(rayservice: Mapping[str, Any]) -> dict[str, Any]:
    """The Serve configuration inside a RayService."""
    (only,) = documents(rayservice["spec"]["serveConfigV2"])
    return only


def kubernetes_problems(manifest: dict[str, Any]) -> list[str]:
    """By Kubernetes' own schemas, unknown fields refused."""
    problems = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.absolute_path)
            problems.append(f"Kubernetes {version}: {where}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            problems.append(error.message)
    return problems


def templates(rayservice: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the pod template of the head and of each worker group."""
    cluster = rayservice["spec"]["rayClusterConfig"]
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster.get("workerGroupSpecs", []):
        yield group["groupName"], group["template"]


def rayservice_problems(manifest: dict[str, Any]) -> list[str]:
    """All that can be said of a RayService: fields, pods, rules of the operator, and ours."""
    schema = yaml.safe_load(SCHEMA.read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    problems = [f"{error.json_path}: {error.message}" for error in errors]
    if problems:  # what follows relies on the structure
        return problems
    for name, template in templates(manifest):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **template}
        found = kubernetes_problems(pod) or list(_pod_problems(template))
        problems += [f"{name}: {problem}" for problem in found]
    problems += [f"autoscaler: {problem}" for problem in _autoscaler_problems(manifest)]
    return problems + list(_operator_problems(manifest))


def _autoscaler_problems(manifest: Mapping[str, Any]) -> list[str]:
    """Its options that are a container's go to Kubernetes' schema as one."""
    options = manifest["spec"]["rayClusterConfig"].get("autoscalerOptions", {})
    container = {k: v for k, v in options.items() if k not in _AUTOSCALER_OWN}
    pod = {"containers": [{"name": "autoscaler", "image": "head", **container}]}
    found = kubernetes_problems({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": pod})
    return found or list(_container_problems(pod["containers"][0]))


_AUTOSCALER_OWN = ("version", "upscalingMode", "idleTimeoutSeconds")


def _pod_problems(template: Mapping[str, Any]) -> Iterator[str]:
    """Probes, an ordinary user, limits, and nothing of the host's."""
    spec = template["spec"]
    security = spec.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield "securityContext: expected runAsNonRoot and a runAsUser other than 0"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "securityContext: expected seccompProfile RuntimeDefault"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field}: a pod of this service needs nothing of its host"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        yield from _container_problems(container)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "httpGet" not in container.get(probe, {}):
                yield f"{container['name']}: expected a {probe} over HTTP"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{container['name']}: mounts {mount['name']}, which is no volume"
    if any("hostPath" in volume for volume in volumes.values()):
        yield "volumes: hostPath reaches into the host"


def _container_problems(container: Mapping[str, Any]) -> Iterator[str]:
    name = container["name"]
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: expected allowPrivilegeEscalation: false"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield f"{name}: expected all capabilities dropped"
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= container.get("resources", {}).get(kind, {}).keys():
            yield f"{name}: expected {kind} of cpu and memory"


def _operator_problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the operator refuses, or answers by a Service that leads nowhere."""
    spec = manifest["spec"]
    cluster = spec["rayClusterConfig"]
    strategy = spec.get("upgradeStrategy", {})
    if strategy.get("type") == "NewClusterWithIncrementalUpgrade":
        options = strategy["clusterUpgradeOptions"]
        if options["stepSizePercent"] > options.get("maxSurgePercent", 100):
            yield "stepSizePercent: expected at most maxSurgePercent"
        if not cluster.get("enableInTreeAutoscaling"):
            yield "enableInTreeAutoscaling: an incremental upgrade needs it"
    if cluster.get("authOptions", {}).get("mode") == "token" and not cluster.get("rayVersion"):
        yield "rayVersion: authOptions need it"
    for group in cluster.get("workerGroupSpecs", []):
        if not group["minReplicas"] <= group.get("replicas", 0) <= group["maxReplicas"]:
            yield f"{group['groupName']}: expected minReplicas <= replicas <= maxReplicas"
    port = serve_config(manifest)["http_options"]["port"]
    for name, template in templates(manifest):
        if template["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy: the autoscaler replaces pods, it does not restart them"
        ports = template["spec"]["containers"][0].get("ports", [])
        if {"name": "serve", "containerPort": port} not in ports:
            yield f"{name}: expected a port named serve, {port}, in the first container"

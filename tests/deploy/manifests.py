"""What is wrong with a manifest, without a cluster: lists of problems, empty if none.

Fields and types come from schemas (Kubernetes' own, and those of ``ray*_schema.yaml``); what no
schema can know (probes, users, who fits where) is said here. Not covered: what admission
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
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parents[2]
RAYSERVICE = ROOT / "deploy" / "kuberay" / "rayservice.yaml"
RAYJOB_SCORE = ROOT / "deploy" / "kuberay" / "rayjob-score.yaml"
RAYJOB_TRAIN = ROOT / "deploy" / "kuberay" / "rayjob-train.yaml"
SHARED_VOLUME = ROOT / "deploy" / "kuberay" / "shared-volume.yaml"
NETWORK = ROOT / "deploy" / "kuberay" / "network.yaml"
SERVE = ROOT / "deploy" / "serve.yaml"
SCHEMAS = Path(__file__).parent

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


def ray_cluster(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The Ray cluster that a RayService or a RayJob brings up."""
    key = "rayClusterSpec" if manifest["kind"] == "RayJob" else "rayClusterConfig"
    cluster: dict[str, Any] = manifest["spec"][key]
    return cluster


def templates(manifest: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the pod template of the head and of each worker group."""
    cluster = ray_cluster(manifest)
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster.get("workerGroupSpecs", []):
        yield group["groupName"], group["template"]


def rayservice_problems(manifest: dict[str, Any]) -> list[str]:
    """All that can be said of a RayService: fields, pods, rules of the operator, and ours."""
    return _schema_problems(manifest, "rayservice_schema.yaml") or (
        _cluster_problems(manifest) + list(_service_problems(manifest))
    )


def rayjob_problems(manifest: dict[str, Any]) -> list[str]:
    """All that can be said of a RayJob: fields, pods, rules of the operator, and ours."""
    return _schema_problems(manifest, "rayjob_schema.yaml") or (
        _cluster_problems(manifest) + list(_job_problems(manifest["spec"]))
    )


def _schema_problems(manifest: Mapping[str, Any], name: str) -> list[str]:
    """By one of the schemas beside this file, which refer to each other by their names.

    Where it finds any, nothing else is asked: that would rely on the structure.
    """
    schemas = {
        path.name: yaml.safe_load(path.read_text()) for path in SCHEMAS.glob("*_schema.yaml")
    }
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(schema)) for name, schema in schemas.items()
    )
    validator = jsonschema.Draft202012Validator(schemas[name], registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def _cluster_problems(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with the Ray cluster, whatever it is for."""
    cluster = ray_cluster(manifest)
    problems = []
    for name, template in templates(manifest):
        found = _template_problems(template) or list(_probe_problems(template))
        problems += [f"{name}: {problem}" for problem in found]
    problems += [f"autoscaler: {problem}" for problem in _autoscaler_problems(cluster)]
    return problems + list(_operator_problems(manifest))


def _template_problems(template: Mapping[str, Any]) -> list[str]:
    """By Kubernetes' schema, and only then by our rules."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **template}
    return kubernetes_problems(pod) or list(_pod_problems(template))


def _autoscaler_problems(cluster: Mapping[str, Any]) -> list[str]:
    """Its options that are a container's go to Kubernetes' schema as one."""
    if not cluster.get("enableInTreeAutoscaling"):
        return []
    options = cluster.get("autoscalerOptions", {})
    container = {k: v for k, v in options.items() if k not in _AUTOSCALER_OWN}
    pod = {"containers": [{"name": "autoscaler", "image": "head", **container}]}
    found = kubernetes_problems({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": pod})
    return found or list(_container_problems(pod["containers"][0]))


_AUTOSCALER_OWN = ("version", "upscalingMode", "idleTimeoutSeconds")


def _pod_problems(template: Mapping[str, Any]) -> Iterator[str]:
    """An ordinary user, limits, and nothing of the host's."""
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
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{container['name']}: mounts {mount['name']}, which is no volume"
    if any("hostPath" in volume for volume in volumes.values()):
        yield "volumes: hostPath reaches into the host"


def _probe_problems(template: Mapping[str, Any]) -> Iterator[str]:
    for container in template["spec"]["containers"]:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "httpGet" not in container.get(probe, {}):
                yield f"{container['name']}: expected a {probe} over HTTP"


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
    """What the operator refuses of a Ray cluster."""
    cluster = ray_cluster(manifest)
    if cluster.get("authOptions", {}).get("mode") == "token" and not cluster.get("rayVersion"):
        yield "rayVersion: authOptions need it"
    for group in cluster.get("workerGroupSpecs", []):
        if not group["minReplicas"] <= group.get("replicas", 0) <= group["maxReplicas"]:
            yield f"{group['groupName']}: expected minReplicas <= replicas <= maxReplicas"
    for name, template in templates(manifest):
        if template["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: restartPolicy: pods of Ray are replaced, not restarted"


def _service_problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the operator refuses of a service, or answers by a Service that leads nowhere."""
    strategy = manifest["spec"].get("upgradeStrategy", {})
    if strategy.get("type") == "NewClusterWithIncrementalUpgrade":
        options = strategy["clusterUpgradeOptions"]
        if options["stepSizePercent"] > options.get("maxSurgePercent", 100):
            yield "stepSizePercent: expected at most maxSurgePercent"
        if not ray_cluster(manifest).get("enableInTreeAutoscaling"):
            yield "enableInTreeAutoscaling: an incremental upgrade needs it"
    port = serve_config(manifest)["http_options"]["port"]
    for name, template in templates(manifest):
        ports = template["spec"]["containers"][0].get("ports", [])
        if {"name": "serve", "containerPort": port} not in ports:
            yield f"{name}: expected a port named serve, {port}, in the first container"


def _job_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    """An end, a cluster that goes with it, and a pod for the entrypoint that keeps our rules."""
    for field in ("activeDeadlineSeconds", "backoffLimit", "shutdownAfterJobFinishes"):
        if not spec.get(field):
            yield f"{field}: expected one, so that a job ends and its cluster with it"
    if "\n" in spec["entrypoint"].strip():
        yield "entrypoint: expected one line; a shell would end the command at the first"
    if spec.get("submissionMode", "K8sJobMode") != "K8sJobMode":
        return
    if "submitterPodTemplate" not in spec:
        yield "submitterPodTemplate: expected one; the operator's own has no securityContext"
        return
    template = spec["submitterPodTemplate"]
    yield from (f"submitter: {problem}" for problem in _template_problems(template))
    if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        yield "submitter: restartPolicy: expected Never or OnFailure, as of any Job"

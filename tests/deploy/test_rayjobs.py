"""The manifests of batch jobs hold, broken ones are refused, and their commands exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import (
    NETWORK,
    RAYJOB_SCORE,
    RAYJOB_TRAIN,
    RAYSERVICE,
    ROOT,
    SHARED_VOLUME,
    document,
    documents,
    kubernetes_problems,
    ray_cluster,
    rayjob_problems,
    templates,
)
from tests.deploy.rayjob_commands import commands, oodgate_commands, parsed

JOBS = {path.stem: path for path in (RAYJOB_SCORE, RAYJOB_TRAIN)}
Change = Callable[[dict[str, Any]], object]

every_job = pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)


def head(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = ray_cluster(manifest)["headGroupSpec"]["template"]["spec"]
    return spec


def submitter(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["submitterPodTemplate"]["spec"]
    return spec


def limits(group: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


@every_job
def test_job_holds(job: Path) -> None:
    assert rayjob_problems(document(job)) == []


BROKEN: dict[str, tuple[Change, str]] = {
    "a field no RayJob has": (lambda m: m["spec"].update(retries=2), "retries"),
    "a service's cluster": (
        lambda m: m["spec"].update(rayClusterConfig=m["spec"]["rayClusterSpec"]),
        "rayClusterConfig",
    ),
    "a field no cluster has": (lambda m: ray_cluster(m).update(autoscaling=True), "autoscaling"),
    "a field no pod has": (lambda m: head(m).update(serviceAcount="x"), "serviceAcount"),
    "a field no submitter has": (lambda m: submitter(m).update(serviceAcount="x"), "submitter"),
    "another kind": (lambda m: m.update(kind="Job"), "RayJob"),
    "no command": (lambda m: m["spec"].pop("entrypoint"), "entrypoint"),
    "a command of two lines": (
        lambda m: m["spec"].update(entrypoint="oodgate score\n--out x"),
        "one line",
    ),
    "a way to submit that is none": (
        lambda m: m["spec"].update(submissionMode="K8sJob"),
        "K8sJob",
    ),
    "a sidecar with a pod": (lambda m: m["spec"].update(submissionMode="SidecarMode"), "False"),
    "a person who tries again": (
        lambda m: m["spec"].update(submissionMode="InteractiveMode"),
        "backoffLimit",
    ),
    "a string for a number": (
        lambda m: m["spec"].update(backoffLimit="3"),
        "'3' is not of type 'integer'",
    ),
    "less than no attempt": (lambda m: m["spec"].update(backoffLimit=-1), "-1"),
    "no further attempt": (lambda m: m["spec"].pop("backoffLimit"), "backoffLimit"),
    "no end": (lambda m: m["spec"].pop("activeDeadlineSeconds"), "activeDeadlineSeconds"),
    "an end at once": (lambda m: m["spec"].update(activeDeadlineSeconds=0), "0"),
    "a cluster that stays": (
        lambda m: m["spec"].update(shutdownAfterJobFinishes=False),
        "shutdownAfterJobFinishes",
    ),
    "a delay without an end": (
        lambda m: m["spec"].pop("shutdownAfterJobFinishes"),
        "shutdownAfterJobFinishes",
    ),
    "an environment as an object": (
        lambda m: m["spec"].update(runtimeEnvYAML={"pip": []}),
        "runtimeEnvYAML",
    ),
    "the operator's own submitter": (
        lambda m: m["spec"].pop("submitterPodTemplate"),
        "securityContext",
    ),
    "a submitter that restarts": (
        lambda m: submitter(m).update(restartPolicy="Always"),
        "restartPolicy",
    ),
    "root submits": (lambda m: submitter(m).pop("securityContext"), "runAsUser"),
    "root": (lambda m: head(m)["securityContext"].update(runAsUser=0), "runAsUser"),
    "a way to more rights": (
        lambda m: head(m)["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
        "allowPrivilegeEscalation",
    ),
    "no limits": (lambda m: head(m)["containers"][0]["resources"].pop("limits"), "limits"),
    "no liveness probe": (
        lambda m: head(m)["containers"][0].pop("livenessProbe"),
        "livenessProbe",
    ),
    "the host's network": (lambda m: head(m).update(hostNetwork=True), "hostNetwork"),
    "a token without a version": (lambda m: ray_cluster(m).pop("rayVersion"), "rayVersion"),
    "too few at most": (
        lambda m: ray_cluster(m)["workerGroupSpecs"][0].update(maxReplicas=0),
        "minReplicas <= replicas",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@every_job
def test_broken_job_is_refused(job: Path, name: str) -> None:
    change, said = BROKEN[name]
    manifest = document(job)
    change(manifest)
    problems = rayjob_problems(manifest)
    assert any(said in problem for problem in problems), problems


@every_job
def test_commands_exist(job: Path) -> None:
    found = oodgate_commands(document(job)["spec"]["entrypoint"])
    assert found
    for arguments in found:
        assert parsed(arguments)["address"] == "auto"


@pytest.mark.parametrize("option", ["--adress auto", "--replicas 2", "--workers many"])
def test_other_options_are_refused(option: str) -> None:
    text = f"sh -c 'if true; then exec oodgate train --out x {option}; fi'"
    (arguments,) = oodgate_commands(text)
    with pytest.raises(Exception, match=r"No such option|valid int"):
        parsed(arguments)


def test_commands_of_the_readme_exist() -> None:
    from ray.dashboard.modules.job import cli

    text = (ROOT / "deploy" / "README.md").read_text()
    section = text.partition("## Batch jobs\n")[2].partition("\n## ")[0]
    found = [
        words
        for block in re.findall(r"^```\n(.*?)^```", section, flags=re.M | re.S)
        for words in commands(block)
    ]
    for words in found:
        if words[0] == "oodgate":
            assert parsed(words[1:])["address"] == "auto"
        if words[:2] == ["ray", "job"]:
            getattr(cli, words[2]).make_context(words[2], words[3:])
        for file in (word for word in words if word.startswith("deploy/")):
            assert (ROOT / file).is_file()
    submitted = [words[words.index("--") + 1 :] for words in found if "submit" in words]
    score = document(RAYJOB_SCORE)["spec"]["entrypoint"].split()
    assert submitted == [score], "what a RayJob runs and what is submitted by hand is the same"


@every_job
def test_versions_are_those_of_the_project(job: Path) -> None:
    manifest = document(job)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert ray_cluster(manifest)["rayVersion"] == pins["ray"]
    pods = [*templates(manifest), ("submitter", manifest["spec"]["submitterPodTemplate"])]
    for name, template in pods:
        (only,) = template["spec"]["containers"]
        variant = "cuda" if "nvidia.com/gpu" in only["resources"]["limits"] else "cpu"
        assert only["image"] == f"oodgate:{version}-{variant}", name


@every_job
def test_probes_ask_rays_agent(job: Path) -> None:
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

    agent = {"path": "/api/healthz", "port": DEFAULT_DASHBOARD_AGENT_LISTEN_PORT}
    for _, template in templates(document(job)):
        (only,) = template["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert only[probe]["httpGet"] == agent


@every_job
def test_pods_are_those_of_the_service_in_what_is_safe(job: Path) -> None:
    manifest, service = document(job), document(RAYSERVICE)
    ours = [*templates(manifest), ("submitter", manifest["spec"]["submitterPodTemplate"])]
    ((_, wanted), *_) = templates(service)
    for name, template in ours:
        assert template["spec"]["securityContext"] == wanted["spec"]["securityContext"], name
        # the autoscaler, a container of the head, asks Kubernetes for pods
        scales = name == "head" and ray_cluster(manifest)["enableInTreeAutoscaling"]
        assert template["spec"].get("automountServiceAccountToken", True) is scales, name
    for field in ("serviceType", "enableIngress"):
        there = ray_cluster(service)["headGroupSpec"][field]
        assert ray_cluster(manifest)["headGroupSpec"][field] == there
    assert ray_cluster(manifest)["authOptions"] == ray_cluster(service)["authOptions"]


@every_job
def test_only_jobs_and_the_operator_reach_a_job(job: Path) -> None:
    of_service, policy, service = documents(NETWORK.read_text())
    manifest = document(job)
    label = policy["spec"]["podSelector"]["matchLabels"]
    pods = [*templates(manifest), ("submitter", manifest["spec"]["submitterPodTemplate"])]
    assert [template["metadata"]["labels"] for _, template in pods] == [label] * len(pods)
    among, operator = policy["spec"]["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": label}}]}
    assert operator in of_service["spec"]["ingress"], "the operator's way is that to the service"
    assert not of_service["spec"]["podSelector"]["matchLabels"].items() <= label.items()
    assert not service["spec"]["selector"].items() <= label.items()


def test_actors_fit_into_the_pods() -> None:
    """One core an actor: the fewest in the pods that are always there, the most in all."""
    manifest = document(RAYJOB_SCORE)
    (arguments,) = oodgate_commands(manifest["spec"]["entrypoint"])
    least, most = map(int, str(parsed(arguments)["workers"]).split("-"))
    (group,) = ray_cluster(manifest)["workerGroupSpecs"]
    a_pod = int(limits(group)["cpu"])
    assert a_pod * group["minReplicas"] >= least
    assert a_pod * group["maxReplicas"] == most
    assert ray_cluster(manifest)["enableInTreeAutoscaling"] is True


def test_driver_and_workers_read_the_same_store() -> None:
    for name, template in templates(document(RAYJOB_SCORE)):
        (source,) = template["spec"]["containers"][0]["envFrom"]
        assert source["secretRef"]["name"] == "oodgate-storage", name


def test_training_goes_on_where_it_began() -> None:
    from train.run_file import RUN_FILE

    text = document(RAYJOB_TRAIN)["spec"]["entrypoint"]
    resumed, begun = (parsed(arguments) for arguments in oodgate_commands(text))
    assert resumed["resume"] is True
    assert begun["resume"] is False
    assert resumed["out"] == begun["out"]
    asked = [words for words in commands(text) if words[0] == "test"]
    assert asked == [["test", "-f", str(begun["out"] / RUN_FILE)]]


def test_training_fits_into_the_pods() -> None:
    manifest = document(RAYJOB_TRAIN)
    _, arguments = oodgate_commands(manifest["spec"]["entrypoint"])
    begun = parsed(arguments)
    cpu, gpu = ray_cluster(manifest)["workerGroupSpecs"]
    assert (cpu["replicas"], gpu["replicas"]) == (begun["workers"], 0)
    assert (cpu["minReplicas"], gpu["minReplicas"]) == (0, 0), "one or the other is empty"
    assert gpu["maxReplicas"] >= begun["workers"]
    assert limits(gpu)["nvidia.com/gpu"] == "1"
    assert min(int(limits(group)["cpu"]) for group in (cpu, gpu)) >= begun["threads"]


def test_training_shares_a_volume() -> None:
    claim = document(SHARED_VOLUME)
    assert kubernetes_problems(claim) == []
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    manifest = document(RAYJOB_TRAIN)
    *_, arguments = oodgate_commands(manifest["spec"]["entrypoint"])
    begun = parsed(arguments)
    for name, template in templates(manifest):
        (volume,) = template["spec"]["volumes"]
        assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}, name
        (mount,) = template["spec"]["containers"][0]["volumeMounts"]
        assert mount["name"] == volume["name"]
        assert not mount.get("readOnly")
        for path in (begun["out"], Path(begun["data"])):
            assert path.is_relative_to(mount["mountPath"])

"""What all four clients of tritonclient ask, and are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import Message
from tritonclient._auth import BasicAuth

from tests.clients.expected import ALPHA, EXPLAINED, OUTPUTS, UNKNOWN_VERSION
from tests.clients.talk import ask
from tests.clients.triton_client import Triton, plain
from tests.clients.triton_errors import errors, unsupported

EXTENSIONS = {
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
}
CONFIG_TYPES = {"BYTES": "TYPE_STRING", **{t: f"TYPE_{t}" for t in ("INT64", "FP32", "FP64")}}
CONFIG_TYPES |= {"BOOL": "TYPE_BOOL", "UINT8": "TYPE_UINT8"}
LONG_US = 60_000_000
WAIT_S = 60.0


async def server(triton: Triton) -> None:
    """Health, metadata, readiness, and the repository's index."""
    talk, client, case = triton.talk, triton.client, triton.case
    talk.check("server live", await ask(client.is_server_live()), True)
    talk.check("server ready", await ask(client.is_server_ready()), True)
    for version, wanted in (("", True), (case.version, True), (UNKNOWN_VERSION, False)):
        found = await ask(client.is_model_ready(case.model, version))
        talk.check(f"model ready, version {version!r}", found, wanted)
    talk.check("unknown model ready", await ask(client.is_model_ready("nobody")), False)

    metadata = plain(await ask(client.get_server_metadata()))
    talk.check("server's name", metadata["name"], "oodgate")
    talk.check("missing extensions", EXTENSIONS - set(metadata["extensions"]), set())
    index = plain(await ask(client.get_model_repository_index()))
    index = index["models"] if isinstance(index, dict) else index
    found = [(entry["name"], entry["version"], entry["state"]) for entry in index]
    talk.check("index", found, [(case.model, case.version, "READY")])


async def model(triton: Triton) -> None:
    """Metadata, configuration and statistics of the model."""
    talk, client, case = triton.talk, triton.client, triton.case
    for version in ("", case.version):
        metadata = plain(await ask(client.get_model_metadata(case.model, version)))
        talk.check("model's name", metadata["name"], case.model)
        talk.check("platform", metadata["platform"], "oodgate_ibinn")
        talk.check("versions", metadata["versions"], [case.version])
        wanted = [("image", "BYTES", [-1]), ("pixels", "UINT8", [-1, *case.pixels.shape[1:]])]
        talk.check("inputs", _tensors(metadata["inputs"]), wanted)
        wanted = [(name, kind, case.shape_of(name)) for name, kind in OUTPUTS.items()]
        told = _tensors(metadata["outputs"])
        talk.check("outputs", told[: len(OUTPUTS)], wanted)
        explained = {name: len(shape) for name, _, shape in told[len(OUTPUTS) :]}
        talk.check("outputs that explain", explained, EXPLAINED)

        config = plain(await ask(client.get_model_config(case.model, version)))
        config = config.get("config", config)
        talk.check("name in the configuration", config["name"], case.model)
        found = {entry["name"]: entry["data_type"] for entry in config["input"]}
        talk.check("configured inputs", found, {"image": "TYPE_STRING", "pixels": "TYPE_UINT8"})
        kinds = {entry["name"]: entry["data_type"] for entry in config["output"]}
        wanted_types = {name: CONFIG_TYPES[kind] for name, kind in OUTPUTS.items()}
        configured = {name: kind for name, kind in kinds.items() if name in OUTPUTS}
        talk.check("configured outputs", configured, wanted_types)
        talk.check("configured to explain", set(kinds) - set(OUTPUTS), set(EXPLAINED))


async def statistics(triton: Triton) -> None:
    """Counts of one model, by version, and of all; they never fall and are a second old."""
    talk, client, case = triton.talk, triton.client, triton.case
    counts: list[tuple[int, ...]] = [(0, 0, 0)]
    deadline = time.monotonic() + WAIT_S
    while not all(counts[-1]) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        for arguments in ((case.model,), (case.model, case.version), ()):
            (entry,) = plain(await ask(client.get_inference_statistics(*arguments)))["model_stats"]
            found = (entry["name"], entry["version"])
            talk.check("statistics of", found, (case.model, case.version))
            success = entry["inference_stats"]["success"]
            values = (entry["inference_count"], success["count"], success["ns"])
            counts.append(tuple(map(int, values)))
    talk.check("counts", counts, sorted(counts))
    talk.check("counts above 0", all(counts[-1]), True)


def _tensors(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[int]]]:
    return [(e["name"], e["datatype"], [int(d) for d in e["shape"]]) for e in entries]


async def infers(triton: Triton) -> None:
    """Every kind of input, choice of outputs and parameter."""
    talk, case = triton.talk, triton.case
    many = {"image": case.image_tensor()}
    result = await triton.infers("encoded images", many, request_id="seven")
    head = _head(result)
    talk.check("id", head["id"], "seven")
    talk.check("model", (head["model_name"], head["model_version"]), (case.model, case.version))
    talk.check("outputs without a choice", head["outputs"], list(OUTPUTS))
    verdict = case.verdicts[0]
    for name in ("alpha", "threshold", "mode"):
        talk.check(f"parameter {name}", head["parameters"].get(name), verdict[name])
    talk.check("parameter version", head["parameters"].get("version"), case.version)

    for i, image in enumerate(case.images):
        result = await triton.infer({"image": np.array([image], dtype=object)})
        outputs = {name: result.as_numpy(name) for name in OUTPUTS}
        talk.agrees(f"image {i} alone", outputs, [case.verdicts[i]])
    await triton.infers("images in a column", {"image": case.image_tensor()[:, None]})
    await triton.infers("pixels, channels first", {"pixels": case.pixels})
    await triton.infers("pixels, channels last", {"pixels": case.channels_last()})

    await triton.infers_again("a hundred images", 100)

    some = ("decision", "p_value", "posterior", "class_label")
    result = await triton.infers("some outputs", many, outputs=triton.outputs(*some))
    talk.check("chosen outputs", _head(result)["outputs"], list(some))
    result = await triton.infer(many, outputs=triton.outputs(*EXPLAINED))
    found = {name: result.as_numpy(name) for name in EXPLAINED}
    talk.check("explained", {name: one.ndim for name, one in found.items()}, EXPLAINED)
    talk.check("explained images", {len(one) for one in found.values()}, {len(case.images)})
    chosen = triton.outputs("posterior", class_count=3) + triton.outputs("rejected")
    result = await triton.infer(many, outputs=chosen)
    talk.agrees_classification("classification", result.as_numpy("posterior"), 3)
    talk.agrees("beside it", {"rejected": result.as_numpy("rejected")}, case.verdicts)

    at_alpha = {"alpha": ALPHA}
    result = await triton.infers("own alpha", many, alpha=True, parameters=at_alpha)
    talk.check("parameter alpha", _head(result)["parameters"].get("alpha"), ALPHA)
    await triton.infers("version", many, model_version=case.version)
    await triton.infers("time enough, priority", many, timeout=LONG_US, priority=1)
    await triton.infers("headers", many, headers={"x-request-id": "seven"})


def _head(result: Any) -> dict[str, Any]:
    """The answer without its tensors; parameters as Python's own types."""
    response = result.get_response()
    if not isinstance(response, Message):
        names = [output["name"] for output in response["outputs"]]
        return {"id": "", "parameters": {}, **response, "outputs": names}
    message: Any = response
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in message.parameters.items()
    }
    fields = {name: getattr(message, name) for name in ("id", "model_name", "model_version")}
    return {**fields, "parameters": parameters, "outputs": [o.name for o in message.outputs]}


async def plugin(triton: Triton) -> None:
    """What an authenticating proxy would want changes nothing on an open service."""
    client = triton.client
    proof = BasicAuth("nobody", "nothing")
    client.register_plugin(proof)
    triton.talk.check("the plugin is kept", client.plugin() is proof, True)
    await triton.infers("plugin", {"pixels": triton.case.pixels}, headers={})
    client.unregister_plugin()


async def all_parts(triton: Triton) -> None:
    """In an order in which statistics come after inference."""
    for part in (server, model, infers, statistics, plugin, errors, unsupported):
        await triton.talk.part(part.__name__, partial(part, triton))

"""What both gRPC clients of tritonclient do beyond HTTP."""

from __future__ import annotations

from functools import partial

from tests.clients.expected import OUTPUTS, UNKNOWN_VERSION
from tests.clients.talk import LATE, ask
from tests.clients.triton_calls import all_parts
from tests.clients.triton_client import Triton


async def grpc_parts(triton: Triton) -> None:
    """All that both gRPC clients do."""
    await all_parts(triton)
    for part in (as_json, compression, deadlines):
        await triton.talk.part(part.__name__, partial(part, triton))


async def as_json(triton: Triton) -> None:
    """Every reply of the client has a second form."""
    talk, client, case = triton.talk, triton.client, triton.case
    metadata = await ask(client.get_server_metadata(as_json=True))
    talk.check("server's name as JSON", metadata["name"], "oodgate")
    metadata = await ask(client.get_model_metadata(case.model, as_json=True))
    talk.check("versions as JSON", metadata["versions"], [case.version])
    config = await ask(client.get_model_config(case.model, as_json=True))
    talk.check("configuration as JSON", config["config"]["name"], case.model)
    index = await ask(client.get_model_repository_index(as_json=True))
    talk.check("index as JSON", index["models"][0]["version"], case.version)
    statistics = await ask(client.get_inference_statistics(case.model, as_json=True))
    talk.check("statistics as JSON", statistics["model_stats"][0]["version"], case.version)
    result = await triton.infer({"pixels": case.pixels}, request_id="nine")
    talk.check("answer as JSON", result.get_response(as_json=True)["id"], "nine")
    shape = list(result.get_output("posterior").shape)
    talk.check("shape", shape, [len(case.images), len(case.labels)])


async def compression(triton: Triton) -> None:
    """Compressed messages, and headers beside them."""
    many = {"image": triton.case.image_tensor()}
    for algorithm in ("gzip", "deflate"):
        headers = {"x-request-id": algorithm}
        way = f"messages by {algorithm}"
        await triton.infers(way, many, compression_algorithm=algorithm, headers=headers)


async def deadlines(triton: Triton) -> None:
    """The client's own deadline, long and short."""
    talk, client, case = triton.talk, triton.client, triton.case
    talk.check("live in time", await ask(client.is_server_live(client_timeout=60)), True)
    many = {"image": case.image_tensor()}
    await triton.infers("in time", many, client_timeout=60)
    call = partial(triton.infer, many, client_timeout=1e-6)
    await talk.refuses("too late", call, LATE, may_answer=True)
    await triton.infers("after a deadline", many)


def requests_of_a_stream(triton: Triton) -> dict[str, dict[str, object]]:
    """By request id; what begins with ``bad`` is refused, and the stream goes on."""
    case = triton.case
    many = triton.inputs({"image": case.image_tensor()})
    wrong = triton.inputs({"pixels": case.pixels[:, :, 1:]})
    some = triton.outputs("decision", "p_value")
    return {
        "first": {"model_name": case.model, "inputs": many},
        "bad shape": {"model_name": case.model, "inputs": wrong},
        "second": {"model_name": case.model, "inputs": many, "model_version": case.version},
        "bad model": {"model_name": "nobody", "inputs": many},
        "bad version": {
            "model_name": case.model,
            "inputs": many,
            "model_version": UNKNOWN_VERSION,
        },
        "third": {"model_name": case.model, "inputs": many, "outputs": some},
    }


def check_stream(triton: Triton, results: list[object], errors: list[object]) -> None:
    """Good requests are answered under their ids, each bad one gets a message."""
    asked = requests_of_a_stream(triton)
    found = {}
    for result in results:
        head = result.get_response()  # type: ignore[attr-defined]
        names = [output.name for output in head.outputs]
        found[head.id] = {name: result.as_numpy(name) for name in names}  # type: ignore[attr-defined]
    good = [name for name in asked if not name.startswith("bad")]
    triton.talk.check("answered in a stream", list(found), good)
    for name, outputs in found.items():
        triton.talk.agrees(f"{name} of a stream", outputs, triton.case.verdicts)
    triton.talk.check("whole answers of a stream", list(found.get("first", ())), list(OUTPUTS))
    triton.talk.check("errors of a stream", len(errors), len(asked) - len(good))
    triton.talk.check("all errors have a text", all(str(error) for error in errors), True)

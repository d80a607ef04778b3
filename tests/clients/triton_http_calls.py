"""What both HTTP clients of tritonclient do beyond gRPC: JSON data, compression, raw bodies."""

from __future__ import annotations

import http.client
from functools import partial
from typing import Any

import numpy as np

from tests.clients.expected import ALPHA, OUTPUTS, Array
from tests.clients.talk import INVALID, ask
from tests.clients.triton_calls import all_parts
from tests.clients.triton_client import Triton

SIZE_HEADER = "Inference-Header-Content-Length"
WAIT_S = 120
MANY = 60
COMPRESSIONS = (None, "gzip", "deflate")


async def http_parts(triton: Triton, address: str) -> None:
    """All that both HTTP clients do."""
    await all_parts(triton)
    for part in (json_data, compression, names_in_urls):
        await triton.talk.part(part.__name__, partial(part, triton))
    await triton.talk.part("bodies", partial(bodies, triton, address))


def json_input(triton: Triton, name: str, tensor: Array) -> Any:
    """An input tensor as numbers or text in the JSON of the request."""
    made = triton.input(name, tensor)
    return made.set_data_from_numpy(tensor, binary_data=False)


async def json_data(triton: Triton) -> None:
    """Every mixture of JSON and binary data in request and answer."""
    case, talk, client = triton.case, triton.talk, triton.client
    texts = np.array(case.image_texts(), dtype=object)
    for name, tensor in (
        ("pixels", case.pixels),
        ("pixels", case.channels_last()),
        ("image", texts),
    ):
        for binary in (False, True):
            way = f"{name} {list(tensor.shape)} in JSON, answer binary {binary}"
            result = await ask(
                client.infer(
                    case.model,
                    [json_input(triton, name, tensor)],
                    outputs=triton.outputs(*OUTPUTS, binary_data=binary),
                )
            )
            tensors = {name: result.as_numpy(name) for name in OUTPUTS}
            talk.agrees(way, tensors, case.verdicts)
            for output in result.get_response()["outputs"]:
                sized = "binary_data_size" in output.get("parameters", {})
                talk.check(
                    f"{way}: {output['name']} is", (sized, "data" not in output), (binary,) * 2
                )

    mixed = triton.outputs("decision", "reason") + triton.outputs("score", binary_data=False)
    mixed += triton.outputs("posterior", class_count=2, binary_data=False)
    result = await triton.infer({"pixels": case.pixels}, outputs=mixed)
    tensors = {name: result.as_numpy(name) for name in ("decision", "reason", "score")}
    talk.agrees("binary and JSON outputs", tensors, case.verdicts)
    talk.agrees_classification("classification in JSON", result.as_numpy("posterior"), 2)

    for what, name, tensor in (
        ("words as images in JSON", "image", np.array(["no image"], dtype=object)),
        ("three channels in JSON", "pixels", np.zeros((1, 3, 8, 8), np.uint8)),
    ):
        inputs = [json_input(triton, name, tensor)]
        await talk.refuses(what, partial(client.infer, case.model, inputs), INVALID)


async def compression(triton: Triton) -> None:
    """Requests and answers in each of the client's encodings; many images, so that it is done."""
    for request in COMPRESSIONS:
        for response in COMPRESSIONS:
            chosen: dict[str, Any] = {
                "request_compression_algorithm": request,
                "response_compression_algorithm": response,
            }
            await triton.infers_again(f"request {request}, answer {response}", MANY, **chosen)
            chosen["outputs"] = triton.outputs(*OUTPUTS, binary_data=False)
            await triton.infers_again(f"request {request}, JSON answer {response}", MANY, **chosen)
    many = {"image": triton.case.image_tensor()}
    headers = {"Content-Encoding": "gzip"}
    call = partial(triton.infer, many, headers=headers)
    await triton.talk.refuses("gzip that is none", call, INVALID)


async def bodies(triton: Triton, address: str) -> None:
    """A body of the client's making that another library sends, and the client reads the answer."""
    client, case = triton.client, triton.case
    inputs = triton.inputs({"pixels": case.pixels})
    body, size = client.generate_request_body(inputs, parameters={"alpha": ALPHA})
    connection = http.client.HTTPConnection(address, timeout=WAIT_S)
    headers = {SIZE_HEADER: str(size)}
    connection.request("POST", f"/v2/models/{case.model}/infer", body, headers)
    response = connection.getresponse()
    answer, json_size = response.read(), response.headers[SIZE_HEADER]
    connection.close()
    triton.talk.check("status of a body of the client's", response.status, 200)
    result = client.parse_response_body(answer, header_length=int(json_size))
    outputs = {name: result.as_numpy(name) for name in OUTPUTS}
    triton.talk.agrees("the client's bodies", outputs, case.verdicts_at_alpha)


async def names_in_urls(triton: Triton) -> None:
    """Parameters of the query change nothing; odd names are unknown, and no fault of the server."""
    client, case, talk = triton.client, triton.case, triton.talk
    query = {"trace": ["on", "off"], "n": 1}
    talk.check("live", await ask(client.is_server_live(query_params=query)), True)
    talk.check("ready", await ask(client.is_model_ready(case.model, query_params=query)), True)
    await triton.infers("query", {"pixels": case.pixels}, query_params=query)
    for name in ("no body", "ümlaut", "a%2Fb", ".."):
        talk.check(f"{name!r} is ready", await ask(client.is_model_ready(name)), False)

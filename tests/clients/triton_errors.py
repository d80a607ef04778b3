"""What all four clients of tritonclient are refused, and how."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.clients.expected import UNKNOWN_VERSION
from tests.clients.talk import INVALID, LATE, TOO_MUCH, UNKNOWN, UNSUPPORTED
from tests.clients.triton_client import Triton


async def errors(triton: Triton) -> None:
    """Each fault of a request is refused as such, and the service goes on."""
    talk, client, case = triton.talk, triton.client, triton.case
    for name, call in (
        ("metadata", client.get_model_metadata),
        ("configuration", client.get_model_config),
        ("statistics", client.get_inference_statistics),
    ):
        for model, version in (("nobody", ""), (case.model, UNKNOWN_VERSION)):
            what = f"{name} of {model} {version}"
            await talk.refuses(what, partial(call, model, version), UNKNOWN)
    many = {"image": case.image_tensor()}
    call = partial(client.infer, "nobody", triton.inputs(many))
    await talk.refuses("unknown model", call, UNKNOWN)
    call = partial(triton.infer, many, model_version=UNKNOWN_VERSION)
    await talk.refuses("unknown version", call, UNKNOWN)
    for what, inputs, settings in _bad_requests(triton):
        call = partial(client.infer, case.model, inputs, **settings)
        await talk.refuses(what, call, INVALID)
    for what, inputs in _too_much(triton).items():
        await talk.refuses(what, partial(client.infer, case.model, inputs), TOO_MUCH)
    call = partial(triton.infer, many, timeout=1)
    await talk.refuses("a microsecond", call, LATE, may_answer=True)
    await triton.infers("after all errors", many)


def _bad_requests(triton: Triton) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """What is wrong, the inputs, and further settings of a request."""
    case = triton.case
    pixels = case.pixels
    image = triton.input("image", case.image_tensor())
    longer = triton.input("pixels", pixels).set_shape([len(pixels) + 1, *pixels.shape[1:]])
    negative = triton.input("pixels", pixels).set_shape([-1, *pixels.shape[1:]])
    shared = triton.module.InferInput("pixels", list(pixels.shape), "UINT8")
    shared.set_shared_memory("nowhere", pixels.nbytes)
    bad_image = np.array([case.images[0], b"not an image"], dtype=object)
    floats = triton.input("pixels", pixels.astype(np.float32), "FP32")
    table = np.repeat(case.image_tensor()[:, None], 2, axis=1)
    wider = np.zeros((2, *(2 * side for side in pixels.shape[1:])), np.uint8)
    return [
        ("image and pixels", triton.inputs({"image": case.image_tensor(), "pixels": pixels}), {}),
        ("no input", [], {}),
        ("unknown input", triton.inputs({"x": case.image_tensor()}), {}),
        ("twice the same input", [image, image], {}),
        ("unknown output", [image], {"outputs": triton.outputs("shoe_size")}),
        ("classes of a label", [image], {"outputs": triton.outputs("score", class_count=2)}),
        ("bad image", triton.inputs({"image": bad_image}), {}),
        ("empty image", triton.inputs({"image": np.array([b""], dtype=object)}), {}),
        ("float pixels", [floats], {}),
        ("pixels as image", [triton.input("image", pixels, "UINT8")], {}),
        ("wrong size", triton.inputs({"pixels": wider}), {}),
        ("wrong rank", triton.inputs({"pixels": pixels[0]}), {}),
        ("images in a table", triton.inputs({"image": table}), {}),
        ("more pixels said than sent", [longer], {}),
        ("negative shape", [negative], {}),
        ("shared memory", [shared], {}),
        ("alpha 1.5", [image], {"parameters": {"alpha": 1.5}}),
        ("alpha too small", [image], {"parameters": {"alpha": 1e-6}}),
        ("alpha in words", [image], {"parameters": {"alpha": "many"}}),
        ("alpha true", [image], {"parameters": {"alpha": True}}),
    ]


def _too_much(triton: Triton) -> dict[str, list[Any]]:
    """Inputs beyond the limits that a service has unless it is told others."""
    case = triton.case
    shape = case.pixels.shape[1:]
    heavy = np.array([case.images[0] + bytes(11 * 1024 * 1024)], dtype=object)
    return {
        "an image of 11 MB": triton.inputs({"image": heavy}),
        "257 images": triton.inputs({"pixels": np.resize(case.pixels, (257, *shape))}),
        "endless pixels said": [triton.input("pixels", case.pixels).set_shape([2**40, *shape])],
    }


async def unsupported(triton: Triton) -> None:
    """Parts of Triton that a service of one bundle does not offer say so."""
    client, name = triton.client, triton.case.model
    calls = {
        "load": partial(client.load_model, name),
        "load with files": partial(client.load_model, name, config="{}", files=None),
        "unload": partial(client.unload_model, name),
        "trace settings": partial(client.get_trace_settings),
        "trace settings of a model": partial(client.get_trace_settings, name),
        "new trace settings": partial(client.update_trace_settings, name, {"trace_rate": "1"}),
        "log settings": partial(client.get_log_settings),
        "new log settings": partial(client.update_log_settings, {"log_info": True}),
    }
    for kind in ("system", "cuda"):
        register = getattr(client, f"register_{kind}_shared_memory")
        arguments = ("key", 64) if kind == "system" else (b"aGFuZGxl", 0, 64)
        status = getattr(client, f"get_{kind}_shared_memory_status")
        forget = getattr(client, f"unregister_{kind}_shared_memory")
        calls |= {
            f"{kind} memory": partial(register, "region", *arguments),
            f"{kind} memory's status": partial(status),
            f"{kind} memory's status, one region": partial(status, "region"),
            f"no more {kind} memory": partial(forget),
            f"no more {kind} memory, one region": partial(forget, "region"),
        }
    for what, call in calls.items():
        await triton.talk.refuses(what, call, UNSUPPORTED)

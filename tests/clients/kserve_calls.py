"""What both clients of kserve ask; the tensors are its own classes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput

from tests.clients.expected import OUTPUTS, Array, Case
from tests.clients.talk import INVALID, UNKNOWN, Talk

#: A request to the client's answer.
Infer = Callable[[InferRequest], Awaitable[Any]]


def tensor(name: str, values: Array | list[Any], *, binary: bool = False) -> Any:
    """An input: numbers and text as they are, or, ``binary``, as raw bytes."""
    array = np.array(values, dtype=object) if isinstance(values, list) else values
    datatype = "BYTES" if array.dtype == object else "UINT8"
    if binary:
        made = InferInput(name, list(array.shape), datatype)
        made.set_data_from_numpy(array, binary_data=True)
        return made
    return InferInput(name, list(array.shape), datatype, array.flatten().tolist())


def request(case: Case, inputs: Sequence[Any], **settings: Any) -> Any:
    """A request for the model of the case, unless ``model_name`` says otherwise."""
    outputs = settings.pop("outputs", None)
    wanted = outputs and [RequestedOutput(name, chosen) for name, chosen in outputs.items()]
    settings = {"model_name": case.model, "request_outputs": wanted, **settings}
    return InferRequest(infer_inputs=list(inputs), **settings)


def tensors(answer: Any) -> Mapping[str, Array]:
    """The outputs by name, in their order."""
    return {output.name: output.as_numpy() for output in answer.outputs}


async def infers(
    talk: Talk, infer: Infer, ways: Mapping[str, Sequence[Any]], alpha: float | str
) -> None:
    """Each way of sending all images, then the settings of a request."""
    case = talk.case
    for way, inputs in ways.items():
        answer = await infer(request(case, inputs, request_id=way))
        talk.check("id", answer.id, way)
        talk.check("model", answer.model_name, case.model)
        talk.check(f"outputs of {way}", list(tensors(answer)), list(OUTPUTS))
        talk.agrees(way, tensors(answer), case.verdicts)
        answer = await infer(request(case, inputs, parameters={"alpha": alpha}))
        talk.agrees(f"{way} at alpha", tensors(answer), case.verdicts_at_alpha)
    inputs = next(iter(ways.values()))
    chosen: dict[str, Any] = {"reason": None, "posterior": {"classification": 2}}
    found = tensors(await infer(request(case, inputs, outputs=chosen)))
    talk.check("chosen outputs", list(found), list(chosen))
    talk.agrees_classification("classification", found["posterior"], 2)
    talk.agrees("beside it", {"reason": found["reason"]}, case.verdicts)


async def errors(talk: Talk, infer: Infer, good: Any) -> None:
    """Each fault is refused as such; ``good`` is an input with all images."""
    case = talk.case
    wide = np.zeros((1, *(2 * side for side in case.pixels.shape[1:])), np.uint8)
    bad: dict[str, tuple[Sequence[Any], dict[str, Any]]] = {
        "no input": ([], {}),
        "image and pixels": ([good, tensor("image", ["x"])], {}),
        "unknown input": ([tensor("x", case.pixels)], {}),
        "wrong size": ([tensor("pixels", wide)], {}),
        "bad image": ([tensor("image", ["no image"])], {}),
        "unknown output": ([good], {"outputs": {"shoe_size": None}}),
        "alpha in words": ([good], {"parameters": {"alpha": "many"}}),
        "alpha 7": ([good], {"parameters": {"alpha": 7}}),
    }
    for what, (inputs, settings) in bad.items():
        asked = request(case, inputs, **settings)
        await talk.refuses(what, partial(infer, asked), INVALID)
    asked = request(case, [good], model_name="nobody")
    await talk.refuses("unknown model", partial(infer, asked), UNKNOWN)
    talk.agrees("after all errors", tensors(await infer(request(case, [good]))), case.verdicts)

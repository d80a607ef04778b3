"""What the four clients of tritonclient have in common: HTTP and gRPC, with and without asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tests.clients.expected import OUTPUTS, Array
from tests.clients.talk import Talk, ask

Tensors = Mapping[str, Array]


class Triton:
    """A client with the module that its inputs and outputs come from."""

    def __init__(self, talk: Talk, module: ModuleType) -> None:
        self.talk, self.client, self.case, self.module = talk, talk.client, talk.case, module

    def input(self, name: str, tensor: Array, datatype: str | None = None) -> Any:
        """An input tensor with its data."""
        datatype = datatype or ("BYTES" if tensor.dtype == object else "UINT8")
        made = self.module.InferInput(name, list(tensor.shape), datatype)
        made.set_data_from_numpy(tensor)
        return made

    def inputs(self, tensors: Tensors) -> list[Any]:
        """Input tensors with their data."""
        return [self.input(name, tensor) for name, tensor in tensors.items()]

    def outputs(self, *names: str, **settings: Any) -> list[Any]:
        """Requested outputs."""
        return [self.module.InferRequestedOutput(name, **settings) for name in names]

    async def infer(self, tensors: Tensors, **settings: Any) -> Any:
        """The client's result."""
        return await ask(self.client.infer(self.case.model, self.inputs(tensors), **settings))

    async def infers(self, way: str, tensors: Tensors, alpha: bool = False, **settings: Any) -> Any:
        """A result that has to agree with all verdicts."""
        result = await self.infer(tensors, **settings)
        names = [output.name() for output in settings.get("outputs", [])] or list(OUTPUTS)
        verdicts = self.case.verdicts_at_alpha if alpha else self.case.verdicts
        self.talk.agrees(way, {name: result.as_numpy(name) for name in names}, verdicts)
        return result

    async def infers_again(self, way: str, count: int, **settings: Any) -> None:
        """So many images, each of them several times; all outputs."""
        pixels = np.resize(self.case.pixels, (count, *self.case.pixels.shape[1:]))
        result = await self.infer({"pixels": pixels}, **settings)
        outputs = {name: result.as_numpy(name) for name in OUTPUTS}
        verdicts = self.case.verdicts
        self.talk.agrees(way, outputs, [verdicts[i % len(verdicts)] for i in range(count)])


def fault(error: Exception) -> tuple[str, str]:
    """Status and message of an InferenceServerException."""
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    return (str(status()), str(message())) if status and message else ("none", repr(error))


def plain(reply: Any) -> Any:
    """JSON or a message as dictionaries."""
    if isinstance(reply, Message):
        return MessageToDict(
            reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    return reply

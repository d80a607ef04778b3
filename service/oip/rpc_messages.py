"""Messages of the Open Inference Protocol over gRPC, to and from what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any

from service.ask import Reply
from service.errors import BadRequestError
from service.oip.outputs import WantedOutput, outputs_of, response_parameters, wanted_output
from service.oip.tensors import InputTensor, refuse_shared_memory
from service.protos import oip_pb2

#: Elements that are read one by one, while nothing else runs.
MAX_TYPED = 1_000_000
#: Inputs, outputs or parameters; a message has room for millions that say nothing.
MAX_ENTRIES = 64

#: Which list of typed contents an input's datatype is in.
_CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents"}


def inputs_of(message: Any) -> list[InputTensor]:
    """Inputs as they came, raw or typed."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadRequestError(
            f"raw_input_contents has {len(raw)} entries: expected one for each of the "
            f"{len(message.inputs)} inputs"
        )
    inputs = []
    for place, tensor in enumerate(message.inputs):
        refuse_shared_memory(tensor.parameters)
        if raw and tensor.HasField("contents") and tensor.contents.ByteSize():
            raise BadRequestError(
                f"input {tensor.name[:40]!r} has contents beside raw_input_contents: expected one "
                "of the two"
            )
        inputs.append(
            InputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tuple(tensor.shape[:9]),  # more than 8 are refused
                data=raw[place] if raw else _typed(tensor),
            )
        )
    return inputs


def check_entries(name: str, entries: Sized) -> None:
    """Refuse what is long to walk through before anybody does."""
    if len(entries) > MAX_ENTRIES:
        raise BadRequestError(
            f"{name} has {len(entries):,} entries: expected at most {MAX_ENTRIES}"
        )


def _typed(tensor: Any) -> Sequence[Any]:
    field = _CONTENTS.get(tensor.datatype)
    values: Sequence[Any] = () if field is None else getattr(tensor.contents, field)
    if len(values) > MAX_TYPED:
        raise BadRequestError(
            f"input {tensor.name[:40]!r} has {len(values):,} typed elements: expected at most "
            f"{MAX_TYPED:,}; send larger tensors in raw_input_contents"
        )
    return values


def wanted_of(output: Any) -> WantedOutput:
    """A requested output; it is always answered raw."""
    return wanted_output(output.name, parameters_in(output.parameters), binary=True)


def parameters_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Each parameter as the Python value that it holds; one that holds nothing is left out."""
    check_entries("parameters", given)
    found = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def response_of(reply: Reply, wanted: list[WantedOutput]) -> Any:
    """Outputs are always raw: the stock client reads nothing else."""
    response = oip_pb2.ModelInferResponse(
        model_name=reply.model.name, model_version=reply.model.version, id=reply.id
    )
    for name, value in response_parameters(reply).items():
        if isinstance(value, str):
            response.parameters[name].string_param = value
        else:
            response.parameters[name].double_param = value
    for tensor in outputs_of(reply, wanted):
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(tensor.raw())
    return response

"""Inference over gRPC: typed and raw tensors, parameters, and what is refused."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from service.oip.outputs import OUTPUTS
from service.oip.rpc_messages import MAX_ENTRIES, MAX_TYPED
from service.protos import oip_pb2
from tests.service.faces.asking import Context, over_grpc
from tests.service.faces.fakes import BROKEN, GREY, LABELS, VERSION, Bench, bench, png, verdict_of
from tests.service.faces.messages import SERVICE, Output, pixels, request, tensors

BAD = grpc.StatusCode.INVALID_ARGUMENT


def infer(message: Any, at: Bench | None = None, context: Context | None = None) -> Any:
    return over_grpc(f"{SERVICE}/ModelInfer", message, at, context)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("values", [(5,), (0, 3, 9, 12, 29, 1, 2, 8)])
def test_images_keep_their_order(raw: bool, values: tuple[int, ...]) -> None:
    answer, context = infer(request(*map(png, values), raw=raw, id="me"))
    assert context.code is None
    assert (answer.model_name, answer.model_version, answer.id) == (GREY, VERSION, "me")
    assert [output.name for output in answer.outputs] == list(OUTPUTS)
    found = tensors(answer)
    assert found["class_index"].tolist() == list(values)
    assert found["p_value"].tolist() == [verdict_of(v).p_value for v in values]
    assert found["rejected"].tolist() == [verdict_of(v).rejected for v in values]
    assert found["posterior"].shape == (len(values), len(LABELS))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_pixels_are_typed_or_raw(raw: bool, last: bool) -> None:
    array = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    moved = array.transpose(0, 2, 3, 1) if last else array
    found = tensors(infer(pixels(moved, raw))[0])
    assert found["class_index"].tolist() == [0, 16]


def test_what_was_promised_is_in_the_parameters() -> None:
    message = request(png(5))
    message.parameters["alpha"].double_param = 0.2
    answer, _ = infer(message)
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in answer.parameters.items()
    }
    assert parameters == {
        "alpha": 0.2,
        "mode": "marginal",
        "version": VERSION,
        "threshold": 0.8 * 0.2,
    }


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("double_param", 0.2, None),
        ("string_param", "0.2", None),
        ("double_param", float("nan"), BAD),
        ("string_param", "much", BAD),
        ("int64_param", 1, BAD),
        ("uint64_param", 2**64 - 1, BAD),
        ("bool_param", True, BAD),
    ],
)
def test_alpha_may_be_text_since_some_clients_can_send_no_number(
    field: str, value: object, code: grpc.StatusCode | None
) -> None:
    message = request(png(5))
    setattr(message.parameters["alpha"], field, value)
    answer, context = infer(message)
    assert context.code is code
    if code is None:
        assert answer.parameters["alpha"].double_param == 0.2


def test_a_parameter_that_holds_nothing_is_left_out() -> None:
    message = request(png(5))
    message.parameters["alpha"].SetInParent()
    message.parameters["timeout"].int64_param = 60_000_000
    answer, context = infer(message)
    assert context.code is None
    assert answer.parameters["alpha"].double_param == 0.05


def test_outputs_in_the_order_asked_and_the_best_classes() -> None:
    message = request(png(5))
    for name in ("score", "posterior", "decision"):
        message.outputs.append(Output(name=name))
    message.outputs[1].parameters["classification"].int64_param = 2
    answer, _ = infer(message)
    assert [output.name for output in answer.outputs] == ["score", "posterior", "decision"]
    assert list(answer.outputs[1].shape) == [1, 2]
    texts = [text.decode().split(":")[1:] for text in tensors(answer)["posterior"]]
    assert texts == [["5", "class 5"], ["6", "class 6"]]


def _changed(change: str) -> Any:
    message = request(png(5))
    tensor = message.inputs[0]
    match change:
        case "both kinds of contents":
            tensor.contents.bytes_contents.append(png(5))
        case "too many raw entries":
            message.raw_input_contents.append(b"")
        case "no input":
            del message.inputs[:]
        case "two inputs":
            message.inputs.append(tensor)
            message.raw_input_contents.append(message.raw_input_contents[0])
        case "another name":
            tensor.name = "picture"
        case "another datatype":
            tensor.datatype = "FP32"
        case "an unknown datatype":
            message = request(png(5), raw=False)
            message.inputs[0].datatype = "X" * 1000
        case "another shape":
            tensor.shape[:] = [2]
        case "a negative shape":
            tensor.shape[:] = [-1]
        case "a giant shape":
            tensor.shape[:] = [1, 2**63 - 1, 2**63 - 1]
        case "a giant element":
            message.raw_input_contents[0] = b"\xff" * 8
        case "shared memory":
            tensor.parameters["shared_memory_region"].string_param = "a"
        case "shared memory for an output":
            output = Output(name="score")
            output.parameters["shared_memory_region"].string_param = "a"
            message.outputs.append(output)
        case "an unknown output":
            message.outputs.append(Output(name="verdict"))
        case "an output twice":
            message.outputs.extend([Output(name="score"), Output(name="score")])
        case "a long id":
            message.id = "x" * 257
        case "a typed pixel of 256":
            message = pixels(np.full((1, 1, 4, 4), 0, np.uint8), raw=False)
            message.inputs[0].contents.uint_contents[0] = 256
        case "no bytes at all":
            message = request(b"")
        case "more typed elements than are read":
            message = pixels(np.full((1, 1, 4, 4), 0, np.uint8), raw=False)
            message.inputs[0].contents.uint_contents.extend(bytes(MAX_TYPED))
        case "more dimensions than are read":
            tensor.shape.extend([1] * 100_000)
        case "more inputs than are read":
            message.ParseFromString(message.SerializeToString() + b"\x2a\x00" * 100_000)
        case "more outputs than are read":
            message.ParseFromString(message.SerializeToString() + b"\x32\x00" * 100_000)
        case "more parameters than are read":
            for number in range(MAX_ENTRIES + 1):
                message.parameters[str(number)].bool_param = True
    return message


@pytest.mark.parametrize(
    "change",
    [
        "both kinds of contents",
        "too many raw entries",
        "no input",
        "two inputs",
        "another name",
        "another datatype",
        "an unknown datatype",
        "another shape",
        "a negative shape",
        "a giant shape",
        "a giant element",
        "shared memory",
        "shared memory for an output",
        "an unknown output",
        "an output twice",
        "a long id",
        "a typed pixel of 256",
        "no bytes at all",
        "more typed elements than are read",
        "more dimensions than are read",
        "more inputs than are read",
        "more outputs than are read",
        "more parameters than are read",
    ],
)
def test_a_bad_request_is_an_invalid_argument(change: str) -> None:
    answer, context = infer(_changed(change))
    assert context.code is BAD
    assert context.details
    assert len(context.details) < 400
    assert answer == oip_pb2.ModelInferResponse()


def test_other_refusals_have_their_own_status() -> None:
    at = bench()
    assert infer(request(png(), model_name="nobody"), at)[1].code is grpc.StatusCode.NOT_FOUND
    assert infer(request(png(), model_version="1"), at)[1].code is grpc.StatusCode.NOT_FOUND
    _, context = infer(request(png(BROKEN)), at)
    assert context.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(context.details)
    _, context = infer(b"\xff" * 9, at)
    assert context.code is BAD
    assert context.details == "the message cannot be read: expected an inference.ModelInferRequest"
    for code, count in (("unknown_model", 2), ("internal", 1), ("bad_request", 1), ("ok", 0)):
        assert at.counted("oip_grpc", code) == count

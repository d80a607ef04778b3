"""A message is looked at before it becomes objects."""

from __future__ import annotations

import pytest

from service.grpc_wire import MAX_FIELDS, _fields, _parser
from service.protos import oip_pb2


def test_a_message_of_very_many_fields_is_not_parsed() -> None:
    bomb = b"\x2a\x00" * (MAX_FIELDS + 1)  # empty inputs
    assert _parser(oip_pb2.ModelInferRequest)(bomb) == bomb
    good = _parser(oip_pb2.ModelInferRequest)(bomb[: 2 * MAX_FIELDS])
    assert len(good.inputs) == MAX_FIELDS


def test_fields_are_counted_as_they_are() -> None:
    message = oip_pb2.ModelInferRequest(model_name="m" * 300, id="i")
    message.parameters["alpha"].double_param = 0.1
    for _ in range(5):
        message.inputs.add(name="x").contents.uint_contents.extend(range(1000))
    message.raw_input_contents.append(bytes(100_000))
    assert _fields(message.SerializeToString()) == 9


@pytest.mark.parametrize("data", [b"", b"\xff" * 50, b"\x2a\xff", b"\x0b", b"\x2a\x80", b"\x09"])
def test_what_is_no_message_ends_the_count(data: bytes) -> None:
    assert _fields(data) <= len(data)

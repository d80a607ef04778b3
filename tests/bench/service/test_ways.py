"""Messages say what they should, and the peers' settings are those that ours is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.config import ServiceConfig
from service.protos import oip_pb2
from tests.bench.service import oip
from tests.bench.service.environments import NAMES, PEERS
from tests.bench.service.ways import batch_settings
from tests.bench.service.wire import HEAD_END, body_of

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 1, 3, 4)


def test_a_binary_message_is_json_and_then_raw_tensors() -> None:
    sent = oip.pixels("m", PIXELS)
    head, body = sent.partition(HEAD_END)[0].decode(), body_of(sent)
    length = int(head.split(oip.LENGTH + ": ")[1].split("\r\n")[0])
    tensor = json.loads(body[:length])["inputs"][0]
    assert tensor["shape"] == [2, 1, 3, 4]
    assert tensor["parameters"] == {"binary_data_size": 24}
    assert body[length:] == PIXELS.tobytes()
    assert f"Content-Length: {len(body)}" in head


def test_a_protobuf_message_has_raw_tensors() -> None:
    sent = oip_pb2.ModelInferRequest.FromString(oip.grpc_encoded("m", b"png"))
    assert (sent.model_name, list(sent.inputs[0].shape)) == ("m", [1])
    assert sent.raw_input_contents[0] == b"\x03\0\0\0png"


def test_p_values_are_found_in_each_kind_of_answer() -> None:
    p = np.array([0.25, 0.5])
    plain = {"outputs": [{"name": "p_value", "data": p.tolist()}]}
    assert oip.p_values_of_json(b"HTTP/1.1 200 OK" + HEAD_END + json.dumps(plain).encode()) == [
        0.25,
        0.5,
    ]
    sized = [{"name": name, "parameters": {"binary_data_size": 16}} for name in ("x", "p_value")]
    document = json.dumps({"outputs": sized}).encode()
    head = f"HTTP/1.1 200 OK\r\n{oip.LENGTH}: {len(document)}".encode()
    binary = head + HEAD_END + document + bytes(16) + p.tobytes()
    assert oip.p_values_of_binary(binary) == [0.25, 0.5]
    reply = oip_pb2.ModelInferResponse(raw_output_contents=[b"", p.tobytes()])
    reply.outputs.add(name="x")
    reply.outputs.add(name="p_value")
    assert oip.p_values_of_protobuf(reply.SerializeToString()) == [0.25, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_settings_of_peers_are_ours_too(name: str) -> None:
    options = batch_settings(name)
    if options is not None:
        config = ServiceConfig(bundles=(Path("bundle"),), **options)
        assert config.max_batch_size > 1


@pytest.mark.parametrize("name", NAMES)
def test_packages_of_peers_are_pinned(name: str) -> None:
    lines = (PEERS / name / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(pin.count("==") == 1 for pin in pins)
    assert any(pin.startswith(f"{name}==") for pin in pins)

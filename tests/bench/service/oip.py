"""Messages of the Open Inference Protocol, as a stock client sends them: raw tensors behind JSON,
or in protobuf; and the p-values in the answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from model.image import UInt8Array
from service.protos import oip_pb2
from tests.bench.service.wire import HEAD_END, body_of, message

LENGTH = "Inference-Header-Content-Length"
RPC = "/inference.GRPCInferenceService/ModelInfer"


def path(model: str) -> str:
    return f"/v2/models/{model}/infer"


def encoded(model: str, image: bytes) -> bytes:
    """HTTP: one encoded image as BYTES [1]; an element is its length and its bytes."""
    raw = len(image).to_bytes(4, "little") + image
    return _binary(model, {"name": "image", "datatype": "BYTES", "shape": [1]}, raw)


def pixels(model: str, images: UInt8Array) -> bytes:
    """HTTP: decoded images as UINT8 [n, C, H, W]."""
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(images.shape)}
    return _binary(model, tensor, images.tobytes())


def base64_json(model: str, image: bytes) -> bytes:
    """HTTP without raw tensors: one encoded image in base64, as MLServer takes it."""
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1, 1],
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(image).decode()],
    }
    body = json.dumps({"inputs": [tensor]}).encode()
    return message(path(model), body, {"Content-Type": "application/json"})


def grpc_encoded(model: str, image: bytes) -> bytes:
    """gRPC: one encoded image as BYTES [1]."""
    raw = len(image).to_bytes(4, "little") + image
    return _protobuf(model, {"name": "image", "datatype": "BYTES", "shape": [1]}, raw)


def grpc_pixels(model: str, images: UInt8Array) -> bytes:
    """gRPC: decoded images as UINT8 [n, C, H, W]."""
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(images.shape)}
    return _protobuf(model, tensor, images.tobytes())


def p_values_of_json(answer: bytes) -> list[float]:
    """Of an answer that is JSON alone."""
    outputs = {o["name"]: o for o in json.loads(body_of(answer))["outputs"]}
    return [float(p) for p in outputs["p_value"]["data"]]


def p_values_of_binary(answer: bytes) -> list[float]:
    """Of an answer with raw tensors behind its JSON, in the order of its outputs."""
    head, body = answer.partition(HEAD_END)[0].decode().lower(), body_of(answer)
    length = int(head.split(LENGTH.lower() + ":")[1].split("\r\n")[0])
    place = length
    for output in json.loads(body[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        if output["name"] == "p_value":
            return _float64(body[place : place + size])
        place += size
    raise ValueError("the answer has no output p_value")


def p_values_of_protobuf(answer: bytes) -> list[float]:
    reply = oip_pb2.ModelInferResponse.FromString(answer)
    names = [output.name for output in reply.outputs]
    return _float64(reply.raw_output_contents[names.index("p_value")])


def _binary(model: str, tensor: Mapping[str, Any], raw: bytes) -> bytes:
    inputs = [{**tensor, "parameters": {"binary_data_size": len(raw)}}]
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    document = json.dumps(asked).encode()
    return message(path(model), document + raw, {LENGTH: str(len(document))})


def _protobuf(model: str, tensor: Mapping[str, Any], raw: bytes) -> bytes:
    asked = oip_pb2.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    asked.inputs.add(**tensor)
    return bytes(asked.SerializeToString())


def _float64(raw: bytes) -> list[float]:
    return [float(value) for value in np.frombuffer(raw, "<f8")]

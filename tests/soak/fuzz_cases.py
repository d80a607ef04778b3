"""One fuzzed request by its number: the same number and seed give the same request.

Images over all faces; bodies of the Open Inference Protocol, JSON and binary, broken by structure
or byte by byte; its gRPC messages, and ours, likewise.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from service.protos import classifier_pb2, oip_pb2
from tests.soak.hostile_images import HOSTILE, seeds
from tests.soak.mutation import mutated

CLASSIFY, INFER = "/v1/classify", "/v2/models/{model}/infer"
GRPC_CLASSIFY = "/oodgate.v1.Classifier/Classify"
GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
LENGTH = "Inference-Header-Content-Length"

#: What may stand anywhere in a JSON document.
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, 0.5, "", "x" * 5_000, "\ud800", "\0",
    [], {}, [[[[]]]], {"a": {"b": [1, None]}}, [None] * 300, "image", "BYTES", "UINT8",
)  # fmt: skip
_INT64 = (-(2**63), -1, 0, 1, 7, 2**31, 2**62, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is sent: a body to a path, or to a gRPC method; ``family`` is how it was made."""

    family: str
    path: str
    body: bytes
    grpc: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


def case(number: int, seed: int, model: str, shape: tuple[int, int, int]) -> Case:
    """Request ``number`` of the run ``seed``; ``shape`` is the model's (C, H, W)."""
    source = random.Random(f"{seed}-{number}")
    if number % 100 < len(HOSTILE) and number < 10_000:  # each is dear to send
        name = list(HOSTILE)[number % 100]
        return _image(f"hostile: {name}", _hostile(name), model, source)
    return source.choices(_FAMILIES, weights=(6, 3, 3, 3, 3))[0](model, shape, source)


def _images(model: str, shape: tuple[int, int, int], source: random.Random) -> Case:
    good = _seeds()
    return _image("image", mutated(source.choice(good), good, source), model, source)


def _image(family: str, image: bytes, model: str, source: random.Random) -> Case:
    """Over a face that the number chooses."""
    face = source.randrange(6)
    infer = INFER.format(model=model)
    if face == 0:
        return Case(family=family, path=CLASSIFY, body=image)
    if face == 1:
        form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        body = form + image + b"\r\n--b--\r\n"
        return Case(family=family, path=CLASSIFY, body=body, headers=kind)
    if face == 2:
        return Case(family=family, path=infer, body=image, headers={LENGTH: "0"})
    if face == 3:
        return Case(family=family, path=infer, body=json.dumps(_document(image)).encode())
    if face == 4:
        message = classifier_pb2.ClassifyRequest(image=image)
        return _grpc(family, GRPC_CLASSIFY, message.SerializeToString())
    return _grpc(family, GRPC_INFER, _message(image, model).SerializeToString())


def _json(model: str, shape: tuple[int, int, int], source: random.Random) -> Case:
    """A JSON document with one to three values exchanged, or bytes of it."""
    document: Any = source.choice((_document(source.choice(_seeds())), _pixels(shape)))
    document |= {
        "id": "f",
        "parameters": {"alpha": 0.1},
        "outputs": [{"name": "posterior", "parameters": {"classification": 3}}],
    }
    for _ in range(source.randint(1, 3)):
        document = _exchanged(document, source)
    body = json.dumps(document).encode()
    if source.random() < 0.3:
        body = mutated(body, [body, b'{"inputs": [' * 2_000], source)
    headers = {}
    if source.random() < 0.2:
        packed = gzip.compress(body)
        body = mutated(packed, [packed], source) if source.random() < 0.7 else packed
        headers["Content-Encoding"] = source.choice(("gzip", "deflate", "br", ""))
    return Case(family="json", path=INFER.format(model=model), body=body, headers=headers)


def _binary(model: str, shape: tuple[int, int, int], source: random.Random) -> Case:
    """JSON and raw tensors behind it, where lengths, shapes or bytes do not fit."""
    image = source.choice(_seeds())
    raw = struct.pack("<I", len(image)) + image
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    if source.random() < 0.5:
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, *shape]}
        raw = bytes(shape[0] * shape[1] * shape[2])
    size: Any = len(raw) if source.random() < 0.5 else source.choice((*_INT64, len(raw) + 1, 0.5))
    document: Any = {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}
    document["parameters"] = {"binary_data_output": True}
    if source.random() < 0.4:
        document = _exchanged(document, source)
    head = json.dumps(document).encode()
    if source.random() < 0.6:
        raw = mutated(raw, [raw, head], source)
    length: Any = len(head) if source.random() < 0.7 else source.choice(_INT64)
    body = mutated(head + raw, [head], source) if source.random() < 0.3 else head + raw
    headers = {LENGTH: str(length), "Content-Type": "application/octet-stream"}
    return Case(family="binary", path=INFER.format(model=model), body=body, headers=headers)


def _messages(model: str, shape: tuple[int, int, int], source: random.Random) -> Case:
    """A gRPC message whose fields do not fit each other."""
    message = _message(source.choice(_seeds()), model)
    tensor = message.inputs[0]
    for change in source.sample(_CHANGES, source.randint(1, 4)):
        change(message, tensor, source)
    return _grpc("grpc fields", GRPC_INFER, message.SerializeToString())


def _wire(model: str, shape: tuple[int, int, int], source: random.Random) -> Case:
    """Bytes of a gRPC message."""
    image = source.choice(_seeds())
    ours = classifier_pb2.ClassifyRequest(image=image, alpha=0.1, id="f", top_k=3)
    infer = _message(image, model).SerializeToString()
    classify = ours.SerializeToString()
    path, body = source.choice(((GRPC_CLASSIFY, classify), (GRPC_INFER, infer)))
    return _grpc("grpc bytes", path, mutated(body, [classify, infer], source))


_FAMILIES: tuple[Callable[[str, tuple[int, int, int], random.Random], Case], ...] = (
    _images,
    _json,
    _binary,
    _messages,
    _wire,
)


def _grpc(family: str, path: str, body: bytes) -> Case:
    return Case(family=family, path=path, body=body, grpc=True)


def _document(image: bytes) -> dict[str, Any]:
    text = base64.b64encode(image).decode()
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def _pixels(shape: tuple[int, int, int]) -> dict[str, Any]:
    data = [7] * (shape[0] * shape[1] * shape[2])
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, *shape], "data": data}
    return {"inputs": [tensor]}


def _message(image: bytes, model: str) -> oip_pb2.ModelInferRequest:
    message = oip_pb2.ModelInferRequest(model_name=model, id="f")
    message.parameters["alpha"].double_param = 0.1
    message.outputs.add(name="posterior").parameters["classification"].int64_param = 3
    tensor = message.inputs.add(name="image", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(image)
    return message


def _shape(message: Any, tensor: Any, source: random.Random) -> None:
    del tensor.shape[:]
    tensor.shape.extend(source.choices(_INT64, k=source.randrange(6)))


def _raw(message: Any, tensor: Any, source: random.Random) -> None:
    if source.random() < 0.5:
        tensor.ClearField("contents")
    for _ in range(source.randrange(4)):
        message.raw_input_contents.append(source.randbytes(source.choice((0, 3, 4, 100))))


def _name(message: Any, tensor: Any, source: random.Random) -> None:
    tensor.name = source.choice(("pixels", "image", "", "x" * 10_000, "é\0"))
    tensor.datatype = source.choice(("UINT8", "FP32", "BYTES", "", "INT64"))


def _contents(message: Any, tensor: Any, source: random.Random) -> None:
    tensor.contents.uint_contents.extend(source.choices((0, 255, 256, 2**32 - 1), k=64))
    tensor.contents.fp32_contents.append(float("nan"))


def _more(message: Any, tensor: Any, source: random.Random) -> None:
    message.inputs.add().CopyFrom(tensor)


def _parameter(message: Any, tensor: Any, source: random.Random) -> None:
    parameter = message.parameters[source.choice(("alpha", "priority", "", "é"))]
    source.choice(
        (
            lambda: setattr(parameter, "double_param", float("nan")),
            lambda: setattr(parameter, "double_param", float("inf")),
            lambda: setattr(parameter, "int64_param", -(2**63)),
            lambda: setattr(parameter, "uint64_param", 2**64 - 1),
            lambda: setattr(parameter, "string_param", "x" * 1_000),
            lambda: setattr(parameter, "bool_param", True),
        )
    )()


def _asked(message: Any, tensor: Any, source: random.Random) -> None:
    output = message.outputs.add(name=source.choice(("posterior", "reason", "", "nothing")))
    output.parameters["classification"].int64_param = source.choice(_INT64)


def _model(message: Any, tensor: Any, source: random.Random) -> None:
    message.model_name = source.choice(("", "nobody", "x" * 10_000))
    message.model_version = source.choice(("", "1", "0" * 12))


_CHANGES = (_shape, _raw, _name, _contents, _more, _parameter, _asked, _model)


def _exchanged(document: Any, source: random.Random) -> Any:
    """The document with one of its values, anywhere in it, exchanged for another."""
    if isinstance(document, dict) and document and source.random() < 0.85:
        name = source.choice(list(document))
        if source.random() < 0.1:
            return {k: v for k, v in document.items() if k != name}
        return {**document, name: _exchanged(document[name], source)}
    if isinstance(document, list) and document and source.random() < 0.75:
        place = source.randrange(len(document))
        return [*document[:place], _exchanged(document[place], source), *document[place + 1 :]]
    return source.choice(_VALUES)


@cache
def _seeds() -> Sequence[bytes]:
    return seeds()


@cache
def _hostile(name: str) -> bytes:
    return HOSTILE[name]()

"""One caller on each face of the service, over connections that stay open.

A caller's ``ask`` returns what became of one request: the version that answered it, a refusal in
the service's own words, or a connection that broke. Answers that are no version's raise
``Mismatch``.
"""

from __future__ import annotations

import base64
import http.client
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import grpc
import numpy as np

from service.protos import classifier_pb2, oip_pb2
from tests.clients.expected import NUMPY, Array, Mismatch
from tests.integration.running import as_json
from tests.soak.expected import Version, check_answer, check_tensors

#: No answer for so long is a hang, and nothing of a service that works takes it.
DEADLINE_S = 120.0

_RAW = {"INT64": "<i8", "FP32": "<f4", "FP64": "<f8", "BOOL": "?"}


class Fate(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"  # in the service's own words, with a code
    BROKEN = "broken"  # the connection ended, or nobody took it
    HUNG = "hung"
    DIRTY = "dirty"  # an error that is not one of the service's


class Outcome(NamedTuple):
    """``what``: the version, or the code of the refusal, or the error."""

    fate: Fate
    what: str


class Caller(ABC):
    """Asks for the verdict of one image at a time."""

    def __init__(self, port: int, images: Sequence[bytes], versions: Sequence[Version]) -> None:
        self.port = port
        self.images = images
        self.versions = versions

    @abstractmethod
    def ask(self, image: int) -> Outcome:
        """Send image number ``image`` and hold the answer against the versions."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""


class _Http(Caller):
    path = "/v1/classify"

    def __init__(self, port: int, images: Sequence[bytes], versions: Sequence[Version]) -> None:
        super().__init__(port, images, versions)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)

    def ask(self, image: int) -> Outcome:
        try:
            self._connection.request("POST", self.path, self.body(image))
            response = self._connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            self._connection.close()
            return Outcome(Fate.HUNG, type(error).__name__)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Outcome(Fate.BROKEN, type(error).__name__)
        if status == 200:
            return Outcome(Fate.ANSWERED, self.check(json.loads(content), image))
        return _refusal(status, content)

    def body(self, image: int) -> bytes:
        return self.images[image]

    def check(self, found: Mapping[str, Any], image: int) -> str:
        return check_answer(found, self.versions, image)

    def close(self) -> None:
        self._connection.close()


class _OipHttp(_Http):
    def __init__(self, port: int, images: Sequence[bytes], versions: Sequence[Version]) -> None:
        super().__init__(port, images, versions)
        self.path = f"/v2/models/{versions[0].name}/infer"

    def body(self, image: int) -> bytes:
        text = base64.b64encode(self.images[image]).decode()
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
        return json.dumps({"inputs": [tensor]}).encode()

    def check(self, found: Mapping[str, Any], image: int) -> str:
        outputs = {
            output["name"]: np.array(output["data"], NUMPY[output["datatype"]]).reshape(
                output["shape"]
            )
            for output in found["outputs"]
        }
        parameters = found["parameters"]
        return check_tensors(found["model_version"], parameters, outputs, self.versions, image)


class _Grpc(Caller):
    method = "/oodgate.v1.Classifier/Classify"
    answer: Any = classifier_pb2.ClassifyResponse

    def __init__(self, port: int, images: Sequence[bytes], versions: Sequence[Version]) -> None:
        super().__init__(port, images, versions)
        # after a broken connection, soon again; and each caller has a connection of its own
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._call = self._channel.unary_unary(
            self.method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.answer.FromString,
        )

    def ask(self, image: int) -> Outcome:
        try:
            found = self._call(self.message(image), timeout=DEADLINE_S)
        except grpc.RpcError as error:
            return _grpc_refusal(error.code(), str(error.details()))
        return Outcome(Fate.ANSWERED, self.check(found, image))

    def message(self, image: int) -> Any:
        return classifier_pb2.ClassifyRequest(image=self.images[image])

    def check(self, found: Any, image: int) -> str:
        return check_answer(as_json(found), self.versions, image)

    def close(self) -> None:
        self._channel.close()


class _OipGrpc(_Grpc):
    method = "/inference.GRPCInferenceService/ModelInfer"
    answer = oip_pb2.ModelInferResponse

    def message(self, image: int) -> Any:
        request = oip_pb2.ModelInferRequest(model_name=self.versions[0].name)
        tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(self.images[image])
        return request

    def check(self, found: Any, image: int) -> str:
        outputs = {
            output.name: _tensor(output.datatype, tuple(output.shape), raw)
            for output, raw in zip(found.outputs, found.raw_output_contents, strict=True)
        }
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in found.parameters.items()
        }
        return check_tensors(found.model_version, parameters, outputs, self.versions, image)


#: Name of each face, its caller, and whether that speaks gRPC.
FACES: dict[str, tuple[type[Caller], bool]] = {
    "http": (_Http, False),
    "oip_http": (_OipHttp, False),
    "oip_grpc": (_OipGrpc, True),
    "grpc": (_Grpc, True),
}


def _refusal(status: int, content: bytes) -> Outcome:
    try:
        found = json.loads(content)
        clean = set(found) == {"error", "code"} and "Traceback" not in found["error"]
    except (ValueError, TypeError):
        clean = False
    if not clean or status == 500:
        return Outcome(Fate.DIRTY, f"{status} {content[:200]!r}")
    return Outcome(Fate.REFUSED, f"{status} {found['code']}")


def _grpc_refusal(code: grpc.StatusCode, details: str) -> Outcome:
    """HAProxy, and a connection that broke, say UNAVAILABLE, or CANCELLED with a stream's reset."""
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return Outcome(Fate.HUNG, code.name)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Outcome(Fate.BROKEN, f"{code.name} {details[:60]}")
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) or "Traceback" in details:
        return Outcome(Fate.DIRTY, f"{code.name} {details[:200]}")
    return Outcome(Fate.REFUSED, code.name)


def _tensor(datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    if datatype != "BYTES":
        return np.frombuffer(raw, _RAW[datatype]).reshape(shape)
    values: list[bytes] = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        if end > len(raw):
            raise Mismatch("a BYTES tensor is cut off")
        values.append(raw[4:end])
        raw = raw[end:]
    return np.array(values, dtype=object).reshape(shape)

"""The gRPC face: envelopes only.

Ray Serve's gRPC proxy routes a call by its method *name* to the ingress deployment, so every
method of each registered service is defined here, as a mix-in of that deployment. No protobuf
class appears in an annotation: Serve pickles the class.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from service.engine import Ask, Engine
from service.errors import BadParameterError, Fault, NotFoundError, Status, fault_of
from service.protos import classifier_pb2

#: What Ray Serve registers (``gRPCOptions.grpc_servicer_functions``).
SERVICER_FUNCTIONS = (
    "service.grpc_api.add_classifier_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)

#: Names that the health service answers for; the empty one is the whole server.
SERVICES = ("", "oodgate.v1.Classifier")

_UNIMPLEMENTED = Status(code="unimplemented", http=501, grpc=grpc.StatusCode.UNIMPLEMENTED)


class GrpcFace:
    """The methods of ``oodgate.v1.Classifier`` and ``grpc.health.v1.Health``."""

    engine: Engine

    async def Classify(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """One image in, one verdict out."""

        async def read() -> Ask:
            if isinstance(request, bytes):
                raise BadParameterError(
                    "the message cannot be read: expected an oodgate.v1.ClassifyRequest"
                )
            return Ask(
                image=request.image,
                alpha=request.alpha if request.HasField("alpha") else None,
                id=request.id,
                top_k=request.top_k if request.HasField("top_k") else None,
            )

        try:
            response = await self.engine.answer("grpc", read)
        except Fault as fault:
            _refuse(grpc_context, fault)
            return classifier_pb2.ClassifyResponse()
        fields = response.model_dump(by_alias=True)
        return json_format.ParseDict(fields, classifier_pb2.ClassifyResponse())

    async def Check(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Serving, for a replica is reachable only once its model is warm."""
        if request.service not in SERVICES:
            _refuse(grpc_context, fault_of(NotFoundError(f"no service {request.service[:100]!r}")))
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def List(self, request: Any) -> Any:  # noqa: N802
        """The status of every service."""
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(SERVICES, serving))

    async def Watch(self, request: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Not served: a watcher would hold one of the replica's places for as long as it lives."""
        text = "Watch is not served; poll Check"
        _refuse(grpc_context, Fault(_UNIMPLEMENTED, text))
        raise NotImplementedError(text)  # a stream's status is only sent when it fails
        yield  # an async generator that yields nothing


def add_classifier_to_server(servicer: Any, server: Any) -> None:
    """As the generated function does, but a message that cannot be read reaches ``Classify``."""
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.Classify,
        request_deserializer=_parsed,
        response_serializer=classifier_pb2.ClassifyResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("oodgate.v1.Classifier", {"Classify": handler})
    server.add_generic_rpc_handlers((service,))


def _parsed(data: bytes) -> Any:
    """The request, or its bytes as they are: of an error here gRPC tells the client the type."""
    try:
        return classifier_pb2.ClassifyRequest.FromString(data)
    except DecodeError:
        return data


def _refuse(context: Any, fault: Fault) -> None:
    context.set_code(fault.status.grpc)
    context.set_details(fault.message)

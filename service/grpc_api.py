"""Our own gRPC face and the health service: envelopes only.

A mix-in of the ingress deployment, which Serve calls by the name of the method.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2

from service.answer import answer
from service.ask import Ask, Reply
from service.engine import Engine
from service.errors import Fault, NotFoundError, ServiceError, Status, fault_of
from service.grpc_wire import (
    add_service,
    check_key,
    checked_message,
    refuse,
    request_id,
    turn_away,
)
from service.keys import Keys
from service.protos import classifier_pb2

#: What Ray Serve registers (``gRPCOptions.grpc_servicer_functions``).
SERVICER_FUNCTIONS = (
    "service.grpc_api.add_classifier_to_server",
    "service.oip.rpc.add_inference_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
)

#: Names that the health service answers for; the empty one is the whole server.
SERVICES = ("", "oodgate.v1.Classifier", "inference.GRPCInferenceService")

_UNIMPLEMENTED = Status(code="unimplemented", http=501, grpc=grpc.StatusCode.UNIMPLEMENTED)


class GrpcFace:
    """The methods of ``oodgate.v1.Classifier`` and ``grpc.health.v1.Health``."""

    engine: Engine
    keys: Keys

    async def Classify(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """One image in, one verdict out."""
        try:
            check_key(grpc_context, self.keys)
        except ServiceError as error:
            turn_away(self.engine, grpc_context, error)
            return classifier_pb2.ClassifyResponse()

        async def read() -> Ask:
            message = checked_message(request, "an oodgate.v1.ClassifyRequest")
            return Ask(
                images=(message.image,),
                model=message.model,
                alpha=message.alpha if message.HasField("alpha") else None,
                id=message.id,
                top_k=message.top_k if message.HasField("top_k") else None,
            )

        try:
            return await self.engine.answer("grpc", read, _render, request_id(grpc_context))
        except Fault as fault:
            refuse(grpc_context, fault)
            return classifier_pb2.ClassifyResponse()

    async def Check(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Serving, for a replica is reachable only once its model is warm."""
        if request.service not in SERVICES:
            refuse(grpc_context, fault_of(NotFoundError(f"no service {request.service[:100]!r}")))
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def List(self, request: Any) -> Any:  # noqa: N802
        """The status of every service."""
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(SERVICES, serving))

    async def Watch(self, request: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Not served: a watcher would hold one of the replica's places for as long as it lives."""
        text = "Watch is not served; poll Check"
        refuse(grpc_context, Fault(_UNIMPLEMENTED, text))
        raise NotImplementedError(text)  # a stream's status is only sent when it fails
        yield  # an async generator that yields nothing


def _render(ask: Ask, reply: Reply) -> Any:
    (verdict,) = reply.verdicts
    response = answer(verdict, reply.labels, reply.model, reply.id, ask.top_k)
    fields = response.model_dump(by_alias=True)
    return json_format.ParseDict(fields, classifier_pb2.ClassifyResponse())


def add_classifier_to_server(servicer: Any, server: Any) -> None:
    """Register ``oodgate.v1.Classifier``."""
    requests = {"Classify": classifier_pb2.ClassifyRequest}
    add_service(servicer, server, "oodgate.v1.Classifier", requests)

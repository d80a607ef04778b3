"""The Open Inference Protocol over gRPC: ``inference.GRPCInferenceService``, envelopes only.

A mix-in of the ingress deployment. Methods that Triton has beyond these are not registered, so
gRPC itself answers UNIMPLEMENTED.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from google.protobuf import json_format

from service.ask import Ask, Reply
from service.engine import Engine
from service.errors import (
    Fault,
    NotReadyError,
    OverloadedError,
    ServiceError,
    SlowBodyError,
    UnknownModelError,
    fault_of,
)
from service.grpc_wire import (
    add_service,
    check_key,
    checked_message,
    refuse,
    request_id,
    turn_away,
)
from service.keys import Keys
from service.oip import metadata
from service.oip.outputs import WantedOutput, checked_wanted, wish_in
from service.oip.rpc_messages import (
    check_entries,
    inputs_of,
    parameters_in,
    response_of,
    wanted_of,
)
from service.oip.tensors import ask_of
from service.protos import oip_pb2

#: Open streams of a replica: each holds one of its places for as long as it lives.
MAX_STREAMS = 32


class InferenceFace:
    """The methods of ``inference.GRPCInferenceService``."""

    engine: Engine
    keys: Keys
    _streams = 0

    async def statistics(self) -> Mapping[tuple[str, ...], int]:
        """Statistics of each version over all replicas; the deployment asks the Monitor."""
        raise NotImplementedError

    async def ServerLive(self, request: Any) -> Any:  # noqa: N802
        """The process lives."""
        return oip_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any) -> Any:  # noqa: N802
        """All models are loaded and warm: a replica is not reachable before."""
        return oip_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """An unknown model is not ready; that is an answer."""

        def ready(message: Any) -> Any:
            try:
                self.engine.models.find(message.name, message.version)
            except UnknownModelError:
                return oip_pb2.ModelReadyResponse(ready=False)
            return oip_pb2.ModelReadyResponse(ready=True)

        return self._told(request, grpc_context, oip_pb2.ModelReadyResponse, ready)

    async def ServerMetadata(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Name, version and extensions."""
        kind = oip_pb2.ServerMetadataResponse
        return self._told(
            request, grpc_context, kind, lambda _: _filled(metadata.server_metadata(), kind)
        )

    async def ModelMetadata(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Tensors of a model."""
        kind = oip_pb2.ModelMetadataResponse
        return self._told(
            request,
            grpc_context,
            kind,
            lambda message: _filled(metadata.model_metadata(self._model(message)), kind),
        )

    async def ModelConfig(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Triton's configuration of a model."""
        kind = oip_pb2.ModelConfigResponse
        return self._told(
            request,
            grpc_context,
            kind,
            lambda message: _filled({"config": metadata.model_config(self._model(message))}, kind),
        )

    async def RepositoryIndex(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """What is served."""
        kind = oip_pb2.RepositoryIndexResponse
        return self._told(
            request,
            grpc_context,
            kind,
            lambda _: _filled({"models": metadata.repository_index(self.engine.models)}, kind),
        )

    async def ModelStatistics(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Statistics of one model, or of all where none is named."""
        kind = oip_pb2.ModelStatisticsResponse
        try:
            check_key(grpc_context, self.keys)
            values = await self._values()
        except ServiceError as error:
            turn_away(self.engine, grpc_context, error)
            return kind()

        def told(message: Any) -> Any:
            models = [self._model(message)] if message.name else self.engine.models
            return _filled(metadata.model_statistics(models, values), kind)

        return self._told(request, grpc_context, kind, told)

    async def ModelInfer(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802
        """Classify the images of one request."""
        try:
            check_key(grpc_context, self.keys)
        except ServiceError as error:
            turn_away(self.engine, grpc_context, error)
            return oip_pb2.ModelInferResponse()
        try:
            return await self._infer(request, request_id(grpc_context))
        except Fault as fault:
            refuse(grpc_context, fault)
            return oip_pb2.ModelInferResponse()

    async def ModelStreamInfer(  # noqa: N802
        self, request_stream: Any, grpc_context: Any
    ) -> AsyncIterator[Any]:
        """One answer a request, in their order; a request that fails does not end the stream."""
        kind = oip_pb2.ModelStreamInferResponse
        try:
            check_key(grpc_context, self.keys)
            if self._streams >= MAX_STREAMS:
                raise OverloadedError
        except ServiceError as error:
            turn_away(self.engine, grpc_context, error)
            yield kind(error_message=str(error))
            return
        self._streams += 1
        try:
            async for request in self._arriving(request_stream):
                try:
                    yield kind(infer_response=await self._infer(request, ""))
                except Fault as fault:
                    yield kind(
                        error_message=fault.message,
                        infer_response=oip_pb2.ModelInferResponse(id=_id_of(request)),
                    )
        except SlowBodyError as error:
            yield kind(error_message=str(error))
        finally:
            self._streams -= 1

    async def _arriving(self, stream: Any) -> AsyncIterator[Any]:
        """The stream's requests; one that is silent for too long ends."""
        requests = aiter(stream)
        while True:
            try:
                async with asyncio.timeout(self.engine.limits.read_timeout_s):
                    request = await anext(requests)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise SlowBodyError(self.engine.limits.read_timeout_s) from None
            yield request

    async def _infer(self, request: Any, request_id: str) -> Any:
        async def read() -> Ask:
            message = checked_message(request, "an inference.ModelInferRequest")
            for name in ("inputs", "outputs"):
                check_entries(name, getattr(message, name))
            wanted = checked_wanted([wanted_of(output) for output in message.outputs])
            wants.extend(wanted)
            return ask_of(
                inputs_of(message),
                parameters_in(message.parameters),
                self.engine.limits.max_images,
                model=message.model_name,
                version=message.model_version,
                request_id=message.id,
                explain=wish_in(wanted),
            )

        def render(ask: Ask, reply: Reply) -> Any:
            return response_of(reply, wants)

        wants: list[WantedOutput] = []
        return await self.engine.answer("oip_grpc", read, render, request_id)

    def _told(self, request: Any, context: Any, kind: Any, tell: Callable[[Any], Any]) -> Any:
        """The answer of a call that asks about the service, or an empty one beside its status."""
        try:
            check_key(context, self.keys)
            return tell(checked_message(request, f"an inference.{_request_of(kind)}"))
        except ServiceError as error:
            if isinstance(error, UnknownModelError):
                refuse(context, fault_of(error))
            else:
                turn_away(self.engine, context, error)
            return kind()

    async def _values(self) -> Mapping[tuple[str, ...], int]:
        try:
            return await self.statistics()
        except Exception as error:
            raise NotReadyError("the monitor is not reachable; try again") from error

    def _model(self, message: Any) -> Any:
        return self.engine.models.find(message.name, message.version)


def add_inference_to_server(servicer: Any, server: Any) -> None:
    """Register ``inference.GRPCInferenceService`` with messages of our own package."""
    methods = (
        "ServerLive",
        "ServerReady",
        "ModelReady",
        "ServerMetadata",
        "ModelMetadata",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryIndex",
    )
    requests = {name: getattr(oip_pb2, f"{name}Request") for name in methods}
    requests |= dict.fromkeys(("ModelInfer", "ModelStreamInfer"), oip_pb2.ModelInferRequest)
    add_service(
        servicer, server, "inference.GRPCInferenceService", requests, streams=("ModelStreamInfer",)
    )


def _request_of(kind: Any) -> str:
    return str(kind.DESCRIPTOR.name).replace("Response", "Request")


def _filled(fields: Mapping[str, Any], kind: Any) -> Any:
    return json_format.ParseDict(fields, kind())


def _id_of(request: Any) -> str:
    return "" if isinstance(request, bytes) else str(request.id)

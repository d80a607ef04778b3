"""What the gRPC faces share: registering methods with Serve, keys, ids, and how a fault is told.

Serve's proxy routes a call by its method *name* to the ingress deployment, and pickles messages on
the way, so their classes are importable modules and appear in no annotation of that deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.engine import Engine
from service.errors import BadRequestError, Fault, ServiceError, UnauthenticatedError
from service.keys import Keys, presented

#: Top-level fields of a request: inputs, outputs and parameters are tens at most.
MAX_FIELDS = 1_000


def add_service(
    servicer: Any, server: Any, service: str, requests: Mapping[str, Any], streams: Any = ()
) -> None:
    """Register ``requests`` (method to class of its message), as generated code does.

    But a message that cannot be read reaches the method as its bytes: gRPC itself would answer
    UNKNOWN with the name of a Python class. ``streams`` are the methods that stream both ways.
    """
    handlers = {}
    for method, message in requests.items():
        kind: Callable[..., Any] = (
            grpc.stream_stream_rpc_method_handler
            if method in streams
            else grpc.unary_unary_rpc_method_handler
        )
        handlers[method] = kind(
            getattr(servicer, method),
            request_deserializer=_parser(message),
            response_serializer=_serialized,
        )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def checked_message(request: Any, name: str) -> Any:
    """The message; raises ``BadRequestError`` where it could not be read."""
    if isinstance(request, bytes):
        raise BadRequestError(f"the message cannot be read: expected {name}")
    return request


def check_key(context: Any, keys: Keys) -> None:
    """Raise ``UnauthenticatedError`` where keys are needed and no good one is in the metadata."""
    if keys and not keys.accepts(presented(_metadata(context).items())):
        raise UnauthenticatedError


def request_id(context: Any) -> str:
    """The caller's ``x-request-id``; empty where there is none."""
    return _metadata(context).get("x-request-id", "")[:256]


def turn_away(engine: Engine, context: Any, error: ServiceError) -> None:
    """Count and answer a call that never reached the engine."""
    refuse(context, engine.refuse("grpc", error, request_id(context)))


def refuse(context: Any, fault: Fault) -> None:
    """Status and text of a fault."""
    context.set_code(fault.status.grpc)
    context.set_details(fault.message)


def _metadata(context: Any) -> dict[str, str]:
    found = {}
    for key, value in context.invocation_metadata():
        found[key.lower()] = value if isinstance(value, str) else ""
    return found


def _parser(message: Any) -> Callable[[bytes], Any]:
    def parsed(data: bytes) -> Any:
        if _fields(data) > MAX_FIELDS:
            return data
        try:
            return message.FromString(data)
        except DecodeError:
            return data

    return parsed


def _fields(data: bytes) -> int:
    """Fields of a message at its top level, counted up to one over the bound.

    Each may become an object of a hundred bytes for two on the wire. What cannot be walked is left
    to the parser to refuse.
    """
    at = found = 0
    while at < len(data) and found <= MAX_FIELDS:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            break
        found += 1
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at


def _serialized(message: Any) -> bytes:
    content: bytes = message.SerializeToString()
    return content

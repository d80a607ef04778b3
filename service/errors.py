"""What can go wrong with a request, and how each protocol says so.

One tree of exceptions and one table. A face never words an error itself: it sends the message,
the status and the code of a ``Fault``, so both protocols say the same. Whatever the table does not
name is internal: it is logged here under an incident id and answered by a fixed text.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass

import grpc

from calibration.conformal import UnsupportedAlphaError
from model.image import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
)

logger = logging.getLogger("oodgate")

#: The `code` of a request that was answered with a verdict.
OK = "ok"


class ServiceError(Exception):
    """A fault of the request or of the moment; its message may be shown to a client."""


class BodyTooLargeError(ServiceError):
    """More bytes than the service reads."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the image is over the limit of {limit:,} bytes; send a smaller or more strongly "
            "compressed one"
        )


class BadParameterError(ServiceError):
    """A parameter beside the image that has no meaning here."""


class NotFoundError(ServiceError):
    """No such path or service."""


class MethodNotAllowedError(ServiceError):
    """The path exists, the verb does not."""


class SlowBodyError(ServiceError):
    """The body did not arrive in time; a waiting place is worth more than a stalled upload."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request did not arrive completely within {seconds:g} seconds")


class ClientGoneError(ServiceError):
    """The connection ended before the request had arrived: nobody is left to answer."""

    def __init__(self) -> None:
        super().__init__("the client went away before its request had arrived completely")


class OverloadedError(ServiceError):
    """More requests than the replica admits; worth trying again."""

    def __init__(self) -> None:
        super().__init__("the service is overloaded: too many requests are waiting; try again")


class NotReadyError(ServiceError):
    """The part that should answer is still starting or has gone."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How one kind of error travels; ``code`` is also the metric label."""

    code: str
    http: int
    grpc: grpc.StatusCode
    retry_after_s: int | None = None


INTERNAL = Status(code="internal", http=500, grpc=grpc.StatusCode.INTERNAL)
#: Nobody waits for this answer; 499 is what HAProxy's and nginx's logs call it.
CANCELLED = Status(code="cancelled", http=499, grpc=grpc.StatusCode.CANCELLED)

_BAD = grpc.StatusCode.INVALID_ARGUMENT
_BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED

#: Exception type to status; the first type that matches decides, so narrow types come first.
TABLE: tuple[tuple[type[Exception], Status], ...] = (
    (EmptyImageError, Status(code="empty_image", http=400, grpc=_BAD)),
    (NotAnImageError, Status(code="not_an_image", http=400, grpc=_BAD)),
    (TruncatedImageError, Status(code="truncated_image", http=400, grpc=_BAD)),
    (ImageTooLargeError, Status(code="image_too_large", http=400, grpc=_BAD)),
    (ImageError, Status(code="bad_image", http=400, grpc=_BAD)),
    (BodyTooLargeError, Status(code="body_too_large", http=413, grpc=_BAD)),
    (BadParameterError, Status(code="bad_parameter", http=400, grpc=_BAD)),
    (UnsupportedAlphaError, Status(code="unsupported_alpha", http=400, grpc=_BAD)),
    (NotFoundError, Status(code="not_found", http=404, grpc=grpc.StatusCode.NOT_FOUND)),
    (
        MethodNotAllowedError,
        Status(code="method_not_allowed", http=405, grpc=grpc.StatusCode.UNIMPLEMENTED),
    ),
    (
        SlowBodyError,
        Status(code="slow_body", http=408, grpc=grpc.StatusCode.DEADLINE_EXCEEDED),
    ),
    (ClientGoneError, CANCELLED),
    (OverloadedError, Status(code="overloaded", http=429, grpc=_BUSY, retry_after_s=1)),
    (
        NotReadyError,
        Status(code="not_ready", http=503, grpc=grpc.StatusCode.UNAVAILABLE, retry_after_s=1),
    ),
)


class Fault(Exception):  # noqa: N818  # what a client sees of an error
    """An error as a client sees it: status and public message."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def fault_of(error: Exception) -> Fault:
    """Any exception to what may be said about it; an unknown one is logged, not shown."""
    if isinstance(error, Fault):
        return error
    for kind, status in TABLE:
        if isinstance(error, kind):
            return Fault(status, str(error))
    incident = uuid.uuid4().hex[:12]
    logger.error("incident %s: %s", incident, type(error).__name__, exc_info=error)
    return Fault(
        INTERNAL, f"internal error; the service's log has the details under incident {incident}"
    )

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

from calibration.errors import UnsupportedAlphaError
from model.image import (
    EmptyImageError,
    ImageError,
    ImageShapeError,
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


class TooManyImagesError(ServiceError):
    """More images in one request than the service takes."""

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(
            f"the request has {found:,} images: expected at most {limit:,}; send several requests"
        )


class BadParameterError(ServiceError):
    """A parameter beside the image that has no meaning here."""


class BadRequestError(ServiceError):
    """An envelope that cannot be read, or a tensor that is not what the model takes."""


class BadHostError(ServiceError):
    """Asked for by a name that is not this service's: a page in a browser may have been misled."""

    def __init__(self) -> None:
        super().__init__(
            "this service is not known by the request's Host: ask for it by a name that it was "
            "started with (--allowed-host)"
        )


class UnauthenticatedError(ServiceError):
    """No key, or one that is not known."""

    def __init__(self) -> None:
        super().__init__(
            "an API key is needed: send the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
        )


class ForbiddenError(ServiceError):
    """A good key that is not good for this."""

    def __init__(self) -> None:
        super().__init__("this needs an admin key, which the key that was sent is not")


class NotFoundError(ServiceError):
    """No such path or service."""


class UnknownModelError(NotFoundError):
    """No model of that name, or not in that version."""


class UnsupportedError(ServiceError):
    """Part of a protocol that this service does not offer."""


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


class DeadlineError(ServiceError):
    """The answer would come too late to be of use, so it was not computed."""

    def __init__(self, waited_s: float) -> None:
        super().__init__(
            f"the deadline passed after {waited_s:.3f} s of waiting: send less at once, or allow "
            "more time"
        )


class DeployError(ServiceError):
    """A bundle that was not taken into service; the one before goes on."""


class BusyError(DeployError):
    """One deployment at a time; nothing is wrong with the bundle."""


class OverloadedError(ServiceError):
    """More requests than the replica admits; worth trying again."""

    def __init__(self) -> None:
        super().__init__("the service is overloaded: too many requests are waiting; try again")


class TooManyExplanationsError(OverloadedError):
    """More explanations than are made at once; classification goes on."""

    def __init__(self) -> None:
        ServiceError.__init__(
            self, "too many explanations are being made: classification goes on; try again"
        )


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

#: More than the service admits; the caller may try again.
OVERLOADED = Status(
    code="overloaded", http=429, grpc=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after_s=1
)

DEADLINE_EXCEEDED = Status(
    code="deadline_exceeded", http=504, grpc=grpc.StatusCode.DEADLINE_EXCEEDED
)
NOT_READY = Status(code="not_ready", http=503, grpc=grpc.StatusCode.UNAVAILABLE, retry_after_s=1)

_BAD = grpc.StatusCode.INVALID_ARGUMENT

#: Exception type to status; the first type that matches decides, so narrow types come first.
TABLE: tuple[tuple[type[Exception], Status], ...] = (
    (EmptyImageError, Status(code="empty_image", http=400, grpc=_BAD)),
    (NotAnImageError, Status(code="not_an_image", http=400, grpc=_BAD)),
    (TruncatedImageError, Status(code="truncated_image", http=400, grpc=_BAD)),
    (ImageTooLargeError, Status(code="image_too_large", http=400, grpc=_BAD)),
    (ImageShapeError, Status(code="bad_shape", http=400, grpc=_BAD)),
    (ImageError, Status(code="bad_image", http=400, grpc=_BAD)),
    (BodyTooLargeError, Status(code="body_too_large", http=413, grpc=_BAD)),
    (TooManyImagesError, Status(code="too_many_images", http=413, grpc=_BAD)),
    (BadParameterError, Status(code="bad_parameter", http=400, grpc=_BAD)),
    (BadRequestError, Status(code="bad_request", http=400, grpc=_BAD)),
    (BadHostError, Status(code="bad_host", http=400, grpc=_BAD)),
    (
        UnauthenticatedError,
        Status(code="unauthenticated", http=401, grpc=grpc.StatusCode.UNAUTHENTICATED),
    ),
    (ForbiddenError, Status(code="forbidden", http=403, grpc=grpc.StatusCode.PERMISSION_DENIED)),
    (UnsupportedAlphaError, Status(code="unsupported_alpha", http=400, grpc=_BAD)),
    (UnknownModelError, Status(code="unknown_model", http=404, grpc=grpc.StatusCode.NOT_FOUND)),
    (NotFoundError, Status(code="not_found", http=404, grpc=grpc.StatusCode.NOT_FOUND)),
    (
        MethodNotAllowedError,
        Status(code="method_not_allowed", http=405, grpc=grpc.StatusCode.UNIMPLEMENTED),
    ),
    (
        SlowBodyError,
        Status(code="slow_body", http=408, grpc=grpc.StatusCode.DEADLINE_EXCEEDED),
    ),
    (
        UnsupportedError,
        Status(code="unsupported", http=501, grpc=grpc.StatusCode.UNIMPLEMENTED),
    ),
    (DeadlineError, DEADLINE_EXCEEDED),
    (
        DeployError,
        Status(code="deploy_refused", http=409, grpc=grpc.StatusCode.FAILED_PRECONDITION),
    ),
    (ClientGoneError, CANCELLED),
    (OverloadedError, OVERLOADED),
    (NotReadyError, NOT_READY),
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

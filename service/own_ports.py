"""A gRPC server of this service has its port to itself.

Ray Serve 2.60 asks for that with the text "0", where gRPC wants a number and, without one, shares.
Two services on one machine would then both bind 40000 for their first replicas, and the kernel
would hand requests of one to the other. With the number a port that is taken is refused, and Serve
takes the next one. ``worker.py`` changes it in every worker process.
"""

from __future__ import annotations

from typing import Any

_SHARED = "grpc.so_reuseport"


def insist() -> None:
    """For every gRPC server that this process makes."""
    from grpc.aio import _server  # the class that grpc.aio.server() gives; it has no public name

    augmented = _server._augment_channel_arguments

    def with_number(options: Any, compression: Any) -> Any:
        numbers = [
            (name, int(value)) if name == _SHARED else (name, value)
            for name, value in options or ()
        ]
        return augmented(numbers, compression)

    _server._augment_channel_arguments = with_number

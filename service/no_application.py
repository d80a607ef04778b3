"""What the proxies answer while they know no application: that the service is not ready.

So it is when a proxy has just been started again, and when the service ends. Ray Serve 2.60 says
then, in words of its own, that there is no such path; but the application has all paths, so that
would send callers away for good who are to try again. ``worker.py`` changes it, in HAProxy's
configuration and in Serve's Python proxies.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

TEXT = "the service is not ready, or has just lost a replica; try again"
BODY = {"error": TEXT, "code": "not_ready"}

#: The whole answer, for HAProxy.
HTTP_ANSWER = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    f"Cache-Control: no-cache\r\nConnection: close\r\nContent-Length: {len(json.dumps(BODY))}\r\n"
    f"\r\n{json.dumps(BODY)}"
)

_HAPROXY_HTTP = re.compile(r"http-request return status 404 .*")
_HAPROXY_GRPC = re.compile(r'grpc-status 5 hdr grpc-message "[^"]*"')


def in_haproxy(template: str) -> str:
    """HAProxy's configuration: the answer that it has for 503, or UNAVAILABLE."""
    template = _HAPROXY_HTTP.sub("http-request deny deny_status 503", template)
    return _HAPROXY_GRPC.sub(f'grpc-status 14 hdr grpc-message "{TEXT}"', template)


def in_python_proxies() -> None:
    """The same of Serve's own proxies in this process."""
    import grpc
    from ray.serve._private import proxy
    from ray.serve._private.http_util import convert_object_to_asgi_messages
    from ray.serve._private.proxy_request_response import ResponseStatus

    async def over_http(self: Any, request: Any) -> AsyncIterator[Any]:
        headers = [(b"retry-after", b"1")]
        for message in convert_object_to_asgi_messages(BODY, 503, headers):
            yield message
        yield ResponseStatus(code=503, is_error=True)

    async def over_grpc(self: Any, request: Any) -> AsyncIterator[Any]:
        yield ResponseStatus(code=grpc.StatusCode.UNAVAILABLE, message=TEXT, is_error=True)

    answers: list[tuple[Any, Any]] = [(proxy.HTTPProxy, over_http), (proxy.gRPCProxy, over_grpc)]
    for kind, answer in answers:
        kind.not_found_response = answer

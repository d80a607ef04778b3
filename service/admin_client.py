"""The caller's side of ``/admin``, for the command line; needs nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from service import admin_key
from service.startup import LOOPBACK_HOSTS, StartupError

#: Where the admin key for another machine's service is read from.
VARIABLE = "OODGATE_ADMIN_KEY"

#: A bundle may have to be compiled on every replica.
_TIMEOUT_S = 660.0


class AdminClient:
    """Asks the service at ``url``; raises ``StartupError`` with its answer where it refuses."""

    def __init__(self, url: str, ca_cert: str | None = None) -> None:
        parts = _parts(url)
        self._url = url.rstrip("/")
        handlers: list[urllib.request.BaseHandler] = []
        if parts.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=ca_cert)
            except OSError as error:
                raise StartupError(f"{ca_cert}: {error}; expected certificates in PEM") from error
            handlers.append(urllib.request.HTTPSHandler(context=context))
        if parts.hostname in LOOPBACK_HOSTS:  # a proxy is another machine, and would learn the key
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        #: Whether the key can be read on the way.
        self.in_plain_text = parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS
        self._key = _given_key() or _local_key(parts)

    def state(self) -> dict[str, Any]:
        """What is served."""
        return self._ask("GET", "/admin/models")

    def deploy(self, bundle: str, shadow: bool, share: float) -> dict[str, Any]:
        """Swap or shadow."""
        wish = {"bundle": bundle, "shadow": shadow, "share": share}
        return self._ask("POST", "/admin/deploy", wish)

    def end_shadow(self, name: str) -> dict[str, Any]:
        """What is served without it."""
        return self._ask("DELETE", f"/admin/shadows/{urllib.parse.quote(name, safe='')}")

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            request = urllib.request.Request(  # noqa: S310  # http or https, checked above
                self._url + path,
                method=method,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {self._key}"},
            )
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                found = json.load(response)
            if not isinstance(found, dict):
                raise ValueError("its answer is no JSON object")
        except urllib.error.HTTPError as error:
            raise StartupError(f"{self._url}: {_message(error)}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StartupError(f"{self._url} does not answer as a service does: {error}") from error
        return found


def resolved(bundle: str, url: str, bundles: Path | None) -> str:
    """The bundle as the service knows it: of this machine its path, else what was said.

    A name without ``bundles`` is for the service to look up, where it runs.
    """
    if urllib.parse.urlsplit(url).hostname not in LOOPBACK_HOSTS:
        return bundle
    if Path(bundle).exists():
        return str(Path(bundle).resolve())
    if bundles is None:
        return bundle
    from service.catalog import find_bundle  # brings the model's libraries with it

    return str(find_bundle(bundle, bundles).resolve())


def _parts(url: str) -> urllib.parse.SplitResult:
    with contextlib.suppress(ValueError):  # brackets or a port that make no sense
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise StartupError(f"{url} is no URL of a service: expected http://HOST:PORT")


def _given_key() -> str:
    key = os.environ.get(VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise StartupError(f"${VARIABLE} is no key: expected one, of printable ASCII characters")
    return key


def _local_key(parts: urllib.parse.SplitResult) -> str:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    key = admin_key.find(port) if parts.hostname in LOOPBACK_HOSTS else None
    if key is None:
        raise StartupError(
            f"an admin key is needed: set ${VARIABLE} to one of those that the service was started "
            "with (--admin-keys)"
        )
    return key


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"

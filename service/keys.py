"""API keys: several at once, from a file that may change meanwhile, or from the environment.

A file has one key a line; empty lines and lines that begin with ``#`` do not count. It is looked at
again at most once a second, so a key is added or taken away without a restart; while it cannot be
read, the keys that it had go on. Keys are kept as SHA-256 digests, compared in constant time with
every one of them, and never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger("oodgate")

#: Keys for inference, and for changing what is served: comma-separated.
API_KEYS = "OODGATE_API_KEYS"
ADMIN_KEYS = "OODGATE_ADMIN_KEYS"

#: Shorter ones can be guessed.
MIN_LENGTH = 16

_LOOK_EVERY_S = 1.0


class KeysError(ValueError):
    """Keys that cannot be used; the message names the place and never a key."""


class Keys:
    """The keys that open a door; falsy where none is configured, which leaves it open or shut."""

    def __init__(self, file: Path | None, variable: str) -> None:
        """Raises ``KeysError`` where the file cannot be read, is empty or has a short key."""
        self._file = file
        self._from_environment = _digests(os.environ.get(variable, "").split(","), f"${variable}")
        self._from_file: frozenset[bytes] = frozenset()
        self._stamp: tuple[int, int, int] | None = None
        self._looked_at = time.monotonic()
        if file is not None:
            self._read(file)

    def __bool__(self) -> bool:
        return self._file is not None or bool(self._from_environment)

    def accepts(self, key: str) -> bool:
        """Whether this is one of the keys, in time that does not depend on which."""
        self._look()
        digest = _digest(key)
        matches = [
            hmac.compare_digest(digest, known)
            for known in (*self._from_environment, *self._from_file)
        ]
        return any(matches)

    def _look(self) -> None:
        now = time.monotonic()
        if self._file is None or now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            if _stamp(self._file) != self._stamp:
                self._read(self._file)
        except (OSError, KeysError) as error:
            logger.warning("the keys from before stay in force: %s", error)

    def _read(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
            lines = file.read_text().splitlines()
        except OSError as error:
            raise KeysError(f"{file}: {error}; expected a file of one key a line") from error
        except UnicodeDecodeError:  # it holds what the file holds
            raise KeysError(f"{file} is no text: expected a file of one key a line") from None
        keys = (line for line in lines if not line.lstrip().startswith("#"))
        digests = _digests(keys, str(file))
        if not digests:
            raise KeysError(f"{file} has no key: expected one a line")
        self._from_file, self._stamp = digests, stamp


def presented(headers: Iterable[tuple[str, str]]) -> str:
    """The key among lower-cased headers or gRPC metadata; empty where there is none."""
    found = dict(headers)
    scheme, _, value = found.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    return found.get("x-api-key", "").strip()


def _digests(keys: Iterable[str], place: str) -> frozenset[bytes]:
    stripped = [key.strip() for key in keys]
    found = [key for key in stripped if key]
    for key in found:
        if not (key.isascii() and key.isprintable()):
            raise KeysError(f"{place} has a key that no header can carry: expected plain ASCII")
        if len(key) < MIN_LENGTH:
            raise KeysError(
                f"{place} has a key of {len(key)} characters: expected at least {MIN_LENGTH}"
            )
    return frozenset(_digest(key) for key in found)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _stamp(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino

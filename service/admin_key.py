"""The key by which ``oodgate deploy`` may change what an ``oodgate serve`` of this machine serves.

Where no admin keys are given, ``oodgate serve`` draws one and leaves it in a file that only this
user can read, named after its port; so the command needs no key on the machine of the service.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from service.startup import StartupError


def create(port: int) -> Path:
    """Write a new key for the service on ``port``; returns its file."""
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
            raise StartupError(
                f"{folder} is not this user's alone, and the admin key has to be: remove it, or "
                "pass --admin-keys FILE"
            )
        file = _file(port)
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32) + "\n")
        return file
    except OSError as error:
        raise StartupError(f"the admin key cannot be kept: {error}") from error


def find(port: int) -> str | None:
    """The key of the service on ``port`` of this machine, where this user has started it."""
    try:
        return _file(port).read_text().strip()
    except OSError:
        return None


def _file(port: int) -> Path:
    return _folder() / f"{port}.key"


def _folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime or tempfile.gettempdir()) / f"oodgate-{os.getuid()}"

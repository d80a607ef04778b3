"""The access log on the terminal: replicas write into a named pipe, ``oodgate serve`` prints.

Ray would carry a replica's output as well, but puts a prefix before each line and drops lines that
look alike.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

_CHUNK = 65536


def print_from(path: Path) -> None:
    """Make a pipe at ``path`` and print whatever is written into it, until this process ends."""
    os.mkfifo(path, 0o600)
    # for writing, too: so it never ends, and writers find a reader at once
    descriptor = os.open(path, os.O_RDWR)
    threading.Thread(target=_copy, args=(descriptor,), daemon=True, name="access-log").start()


def _copy(descriptor: int) -> None:
    """Whole lines, so that what this process prints itself does not fall into one."""
    rest = b""
    while chunk := os.read(descriptor, _CHUNK):
        lines, _, rest = (rest + chunk).rpartition(b"\n")
        if lines:
            try:
                sys.stdout.buffer.write(lines + b"\n")
                sys.stdout.buffer.flush()
            except OSError:  # nobody reads any more; the pipe has to be emptied all the same
                continue

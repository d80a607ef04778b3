"""One line of JSON a request: who asked what of which model, what was decided, what it took.

Nothing of an image, no key and no header is in it. A line is written whole, by one call, so several
replicas may share a file or a pipe; where that would block, the line is dropped and counted in the
next one: a full disk or a stopped reader must not hold up a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.trace import Trace

#: Verdicts that a line shows of a request with many images: it has to fit into a pipe's atom.
MAX_SHOWN = 64

_LOOK_EVERY_S = 1.0


class AccessLog:
    """Appends to a file or pipe; ``None`` means this process's standard error.

    A file that was moved away by log rotation is opened anew within a second.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._dropped = 0
        self._looked_at = 0.0
        self._descriptor = self._opened()

    def write(self, trace: Trace) -> None:
        """Append the line of one request."""
        entry = line_of(trace)
        if self._dropped:
            entry["lines_dropped_before"] = self._dropped
        text = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        self._reopen_if_moved()
        try:
            os.write(self._descriptor, text.encode("utf-8", "replace"))
            self._dropped = 0
        except OSError:
            self._dropped += 1

    def close(self) -> None:
        """Give the file back."""
        if self._path is not None and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _opened(self) -> int:
        if self._path is None:
            # Serve replaces sys.stderr; this is the process's own
            stream = sys.__stderr__
            return 2 if stream is None else stream.fileno()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        return os.open(self._path, flags, 0o640)

    def _reopen_if_moved(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        with contextlib.suppress(OSError):  # where it cannot be opened the old file goes on
            here = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                there = self._path.stat()
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    return
            opened = self._opened()
            self.close()
            self._descriptor = opened


def line_of(trace: Trace) -> dict[str, Any]:
    """The fields of a line; milliseconds by stage, ``total`` from arrival to answer."""
    stages = {**trace.stages, "total": trace.seconds}
    shown = trace.verdicts[:MAX_SHOWN]
    decisions = [verdict.decision.value for verdict in shown]
    p_values = [round(verdict.p_value, 6) for verdict in shown]
    single = len(trace.verdicts) == 1
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "id": trace.id,
        "protocol": trace.protocol,
        "code": trace.code,
        "model": trace.model.name if trace.model else None,
        "version": trace.model.version if trace.model else None,
        "images": len(trace.verdicts),
        "decision": decisions[0] if single else decisions,
        "p_value": p_values[0] if single else p_values,
        "ms": {stage: round(1000 * seconds, 3) for stage, seconds in stages.items()},
    }

"""The processes below this one (Linux), so that what was started can be ended by its id.

A process is named by id *and* start time: an id alone may have been given to another since.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process that existed; ``started`` is in clock ticks since boot."""

    pid: int
    started: int


def descendants(pid: int) -> set[Process]:
    """All children of ``pid``, theirs too; empty where there is no /proc."""
    parents: dict[int, list[Process]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        if (found := _parse(entry)) is not None:
            process, parent, _ = found
            parents.setdefault(parent, []).append(process)
    below: set[Process] = set()
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        below.update(children)
        waiting.extend(child.pid for child in children)
    return below


def alive(process: Process) -> bool:
    """Whether this very process still runs; one that waits to be reaped does not."""
    found = _parse(Path(f"/proc/{process.pid}/stat"))
    return found is not None and found[0] == process and found[2] not in ("Z", "X")


def end(processes: Iterable[Process], grace_s: float) -> None:
    """Wait for them to be gone; ask the rest, then force it."""
    rest = _wait(processes, grace_s)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in rest:
            try:
                os.kill(process.pid, sign)
            except ProcessLookupError:
                continue
        rest = _wait(rest, 2)


def _wait(processes: Iterable[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    rest = [process for process in processes if alive(process)]
    while rest and time.monotonic() < deadline:
        time.sleep(0.1)
        rest = [process for process in rest if alive(process)]
    return rest


def _parse(stat: Path) -> tuple[Process, int, str] | None:
    try:
        text = stat.read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return Process(int(stat.parent.name), int(fields[19])), int(fields[1]), fields[0]

"""Resident memory of a service's processes, by the part that each of them plays (Linux)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service import processes

#: Beginning of what a process calls itself, or a piece of it, and the part.
PARTS = {
    "ray::ServeReplica:oodgate:Gateway": "replica",
    "ray::ServeReplica:oodgate:Monitor": "monitor",
    "ray::ServeController": "controller",
    "ray::HAProxyManager": "haproxy manager",
    "ray::ProxyActor": "python proxy",
    "ray::DashboardAgent": "dashboard agent",
    "ray::RuntimeEnvAgent": "environment agent",
    "ray::IDLE": "idle worker",
    "/bin/haproxy ": "haproxy",
    "/gcs_server ": "gcs server",
    "/raylet ": "raylet",
    "/autoscaler/": "autoscaler",
    "/dashboard.py": "dashboard",
    "/log_monitor.py": "log monitor",
}


@dataclass(frozen=True)
class Part:
    """One process and the part that it plays."""

    name: str
    process: processes.Process

    def __str__(self) -> str:
        return f"{self.name} {self.process.pid}"


def parts(pid: int) -> list[Part]:
    """The process ``pid``, ``oodgate serve``, and all below it."""
    found = [Part("oodgate serve", process) for process in _self(pid)]
    for process in processes.descendants(pid):
        if processes.alive(process):
            found.append(Part(_name(process.pid), process))
    return sorted(found, key=lambda part: (part.name, part.process.pid))


def named(pid: int, name: str) -> list[processes.Process]:
    """The living processes below ``pid`` that play this part."""
    return [part.process for part in parts(pid) if part.name == name]


def resident_mb(process: processes.Process) -> float:
    """Resident memory in megabytes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    sizes = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return sizes[0] * 1024 / 1e6 if sizes else 0.0


def resident(pid: int) -> dict[Part, float]:
    """Of each process of the service."""
    return {part: resident_mb(part.process) for part in parts(pid)}


def _name(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "ended"
    names = [part for piece, part in PARTS.items() if piece in text]
    return names[0] if names else text.split(" ", 1)[0].rpartition("/")[2] or "unnamed"


def _self(pid: int) -> list[processes.Process]:
    """``pid`` itself: a child of its parent."""
    text = Path(f"/proc/{pid}/stat").read_text()
    parent = int(text[text.rindex(")") + 2 :].split()[1])
    return [process for process in processes.descendants(parent) if process.pid == pid]

"""``build/bench/model.json``: what was measured, an entry a row of the benchmark.

Each entry holds its own setting and time, so that a run of some rows replaces these alone, and is
written after each of its results. Until the last of them it stands under another name, beside what
it will replace; so does what ``--quick`` measured, for good.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

from model.checkpoint import write_atomic
from model.scoring import default_device
from tests.bench.pairs import Pace
from train.run_file import git_commit

DEFAULT_PATH = Path("build/bench/model.json")
PACKAGES = ("torch", "torchvision", "numpy", "FrEIA")


class Result(Protocol):
    """Something measured: ``str`` of it is for the terminal."""

    def to_dict(self) -> dict[str, Any]: ...


class Record:
    """The file's entries by name; others may add theirs meanwhile."""

    def __init__(self, path: Path) -> None:
        _read(path)  # before hours of measuring
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def measure(self, name: str, setting: dict[str, Any], results: Iterable[Result]) -> None:
        """Print and keep each of ``results`` as it comes, as the entry ``name``."""
        name += " (quick)" if setting["quick"] else ""
        unfinished = f"{name} (unfinished)"
        entry: dict[str, Any] = {"measured": _now(), "setting": setting, "results": []}
        for result in results:
            print(result, flush=True)
            entry["results"].append(result.to_dict())
            self._write({unfinished: entry})
        self._write({name: entry}, without=unfinished)

    def _write(self, entries: dict[str, Any], without: str = "") -> None:
        merged = {**_read(self._path), **entries}
        merged.pop(without, None)
        content = json.dumps(merged, indent=2, sort_keys=True, allow_nan=False)
        write_atomic(self._path, content.encode() + b"\n")


def setting(*, quick: bool, seed: int, pace: Pace | None = None) -> dict[str, Any]:
    """What figures depend on; ``pace`` where steps were timed in rounds."""
    device = default_device()
    gpu = device.type == "cuda"
    return {
        "git_commit": git_commit(),
        "quick": quick,
        "seed": seed,
        **({} if pace is None else {"rounds": pace.rounds, "least_s": pace.least_s}),
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _read(path: Path) -> dict[str, Any]:
    """The entries there are; what is no such file is not written over."""
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_bytes())
        if all("results" in entry for entry in entries.values()):
            return dict(entries)
    except (ValueError, AttributeError, TypeError):
        pass
    raise SystemExit(f"{path}: not a record of this benchmark; move it away or choose --out")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # FrEIA, which some rows do without
            found[name] = "not installed"
    return found


def _processor() -> str:
    """The processor's name where Linux tells it; ``platform`` often has only the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

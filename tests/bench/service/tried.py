"""Settings of the peers that were tried beside those in ``peers/``: ``--rows tuning``.

Each side's committed settings were the best or among the best of these at 16 callers on two cores;
where ranges overlap the better median was taken. Run the row again on another machine: what is best
depends on its cores.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.service.environments import PEERS, ROOT

#: A file, and what is changed in it.
Change = Mapping[str, Mapping[str, Any]]

HOME = ROOT / "runs" / "bench" / "tried"
_SETTINGS, _MODEL = "settings.json", "model-settings.json"


def _litserve(size: int, wait_s: float, workers: int = 2, fast_queue: bool = False) -> Change:
    batch = {"max_batch_size": size, "batch_timeout": wait_s}
    server = {"workers_per_device": workers, "fast_queue": fast_queue}
    return {_SETTINGS: {"api": batch, "server": server}}


def _mlserver(size: int, wait_s: float, workers: int) -> Change:
    batch = {"max_batch_size": size, "max_batch_time": wait_s}
    return {_MODEL: batch, _SETTINGS: {"parallel_workers": workers}}


#: Sizes and waits around those of the peers' documentation; workers up to the two cores.
TRIED: Mapping[str, Mapping[str, Change]] = {
    "fastapi": {f"threads {n}": {_SETTINGS: {"threads": n}} for n in (1, 4, 16)},
    "litserve": {
        "1 worker, 16 in 10 ms": _litserve(16, 0.01, workers=1),
        "1 worker, 16 in 50 ms": _litserve(16, 0.05, workers=1),
        "16 in 10 ms": _litserve(16, 0.01),
        "fast_queue": _litserve(8, 0.01, fast_queue=True),
    },
    "mlserver": {
        "no worker, 16 in 10 ms": _mlserver(16, 0.01, workers=0),
        "no worker, 32 in 50 ms": _mlserver(32, 0.05, workers=0),
        "1 worker, 16 in 10 ms": _mlserver(16, 0.01, workers=1),
        "16 in 10 ms": _mlserver(16, 0.01, workers=2),
        "no batches": _mlserver(0, 0.0, workers=0),
    },
}

#: Ours beside peers, as fields of ``ServiceConfig``; the peers have two processes, too.
OURS: Mapping[str, Any] = {"replicas": 2}
OURS_TRIED: Mapping[str, Mapping[str, Any]] = {
    "1 replica": {"replicas": 1},
    "3 replicas": {"replicas": 3, "num_cpus": 0.3},
}


def changed(name: str, label: str) -> Path:
    """A folder of that label with the peer's settings after the change."""
    folder = HOME / name / label
    shutil.copytree(PEERS / name, folder, dirs_exist_ok=True)
    for file, values in TRIED[name][label].items():
        merged = {**json.loads((PEERS / name / file).read_text()), **values}
        (folder / file).write_text(json.dumps(merged, indent=2) + "\n")
    return folder

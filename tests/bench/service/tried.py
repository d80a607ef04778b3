"""Settings of the peers that were tried beside those in ``peers/``: ``--rows tuning``.

Each peer's committed settings were the best or among the best of these at 16 callers on two cores;
where ranges overlap (MLServer with and without worker processes) the better median was taken. Run
the row again on another machine: what is best depends on its cores.
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


def _litserve(size: int, wait_s: float, **server: Any) -> Change:
    batch = {"max_batch_size": size, "batch_timeout": wait_s}
    return {_SETTINGS: {"api": batch, "server": {"workers_per_device": 1, **server}}}


def _mlserver(size: int, wait_s: float, workers: int) -> Change:
    batch = {"max_batch_size": size, "max_batch_time": wait_s}
    return {_MODEL: batch, _SETTINGS: {"parallel_workers": workers}}


#: Sizes and waits around those of the peers' documentation; workers up to the two cores.
TRIED: Mapping[str, Mapping[str, Change]] = {
    "fastapi": {f"threads {n}": {_SETTINGS: {"threads": n}} for n in (1, 4, 16)},
    "litserve": {
        "16 in 10 ms": _litserve(16, 0.01),
        "32 in 10 ms": _litserve(32, 0.01),
        "2 workers, 8 in 10 ms": _litserve(8, 0.01, workers_per_device=2),
        "fast_queue": _litserve(16, 0.05, fast_queue=True),
    },
    "mlserver": {
        "1 worker": _mlserver(16, 0.01, workers=1),
        "2 workers": _mlserver(16, 0.01, workers=2),
        "2 workers, 8 in 10 ms": _mlserver(8, 0.01, workers=2),
        "32 in 50 ms": _mlserver(32, 0.05, workers=0),
        "no batches": _mlserver(0, 0.0, workers=0),
    },
}


def changed(name: str, label: str) -> Path:
    """A folder of that label with the peer's settings after the change."""
    folder = HOME / name / label
    shutil.copytree(PEERS / name, folder, dirs_exist_ok=True)
    for file, values in TRIED[name][label].items():
        merged = {**json.loads((PEERS / name / file).read_text()), **values}
        (folder / file).write_text(json.dumps(merged, indent=2) + "\n")
    return folder

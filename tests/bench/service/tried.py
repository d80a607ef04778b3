"""Settings of the peers that were tried beside those in ``peers/``: ``--rows tuning``."""

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
        "16 in 50 ms": _litserve(16, 0.05),
        "32 in 10 ms": _litserve(32, 0.01),
        "2 workers, 8 in 10 ms": _litserve(8, 0.01, workers_per_device=2),
        "fast_queue": _litserve(16, 0.01, fast_queue=True),
    },
    "mlserver": {
        "no worker process": _mlserver(16, 0.01, workers=0),
        "2 workers": _mlserver(16, 0.01, workers=2),
        "2 workers, 8 in 10 ms": _mlserver(8, 0.01, workers=2),
        "32 in 50 ms": _mlserver(32, 0.05, workers=1),
        "no batches": _mlserver(0, 0.0, workers=1),
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

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
TRIED: Mapping[str, tuple[Change, ...]] = {
    "fastapi": tuple({_SETTINGS: {"threads": threads}} for threads in (1, 4, 16)),
    "litserve": (
        _litserve(16, 0.05),
        _litserve(32, 0.01),
        _litserve(8, 0.01, workers_per_device=2),
        _litserve(16, 0.01, fast_queue=True),
    ),
    "mlserver": (
        _mlserver(16, 0.01, workers=0),
        _mlserver(16, 0.01, workers=2),
        _mlserver(8, 0.01, workers=2),
        _mlserver(32, 0.05, workers=1),
        _mlserver(0, 0.0, workers=1),
    ),
}


def changed(name: str, change: Change) -> Path:
    """A folder with the peer's settings after the change, named after it."""
    told = json.dumps(list(change.values()))
    folder = HOME / "".join(c for c in told if c not in '"[]{}').replace(": ", "=")
    shutil.copytree(PEERS / name, folder, dirs_exist_ok=True)
    for file, values in change.items():
        merged = {**json.loads((PEERS / name / file).read_text()), **values}
        (folder / file).write_text(json.dumps(merged, indent=2) + "\n")
    return folder

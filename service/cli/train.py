"""``oodgate train``: the command of ``python -m train``; --init may also be a bundle's name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from train.cli import train as train_command


@functools.wraps(train_command)
def train(*, init: Path | None = None, **others: Any) -> None:
    """Find the bundle that ``init`` names and check the whole of its seal, then train."""
    from service.bundle import MANIFEST, Bundle
    from service.catalog import find_bundle

    if init is not None:
        init = init if init.exists() else find_bundle(str(init))
        if (init / MANIFEST).is_file():
            Bundle.load(init)
    train_command(init=init, **others)

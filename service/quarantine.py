"""Keeps rejected images, with their verdicts, for somebody to look at; off unless asked for.

The folder never holds more than a number of files and of bytes: the oldest go first. An image is
named by time and content, so that the same one is kept once, and never by what a client sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.ask import Ask
from service.trace import Trace
from service.verdict import Verdict

logger = logging.getLogger("oodgate")

#: Images on their way to the disk; while it is slower than that, further ones are not kept.
MAX_PENDING = 16


class Quarantine:
    """A folder of rejected images, shared by all replicas of a machine."""

    def __init__(self, folder: Path, max_files: int, max_bytes: int) -> None:
        """Makes the folder, readable by this user alone; raises ``OSError`` where it cannot."""
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._pending = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="quarantine")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, trace: Trace, ask: Ask) -> None:
        """Hand the rejected images of an answered request to the writer; drops what is too much."""
        for image, verdict in zip(ask.images, trace.verdicts, strict=True):
            if verdict.rejected and self._pending < MAX_PENDING:
                self._pending += 1
                self._writer.submit(self._write, image, _record(trace, verdict))

    def close(self) -> None:
        """Wait for what is on its way."""
        self._writer.shutdown(wait=True)

    def _write(self, image: bytes | npt.NDArray[Any], record: dict[str, Any]) -> None:
        try:
            content, ending = _encoded(image)
            digest = hashlib.sha256(content).hexdigest()[:16]
            if not list(self._folder.glob(f"*-{digest}.*")):
                name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{digest}"
                text = json.dumps(record, indent=1, allow_nan=True).encode()
                self._put(f"{name}.json", text)
                self._put(f"{name}.{ending}", content)
                self._trim()
        except OSError as error:
            logger.warning("a rejected image could not be kept in %s: %s", self._folder, error)
        finally:
            self._pending -= 1

    def _put(self, name: str, content: bytes) -> None:
        unfinished = self._folder / f".{name}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        unfinished.rename(self._folder / name)

    def _trim(self) -> None:
        """Remove the oldest pairs until both caps hold; names begin with the time."""
        sizes: dict[str, int] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another replica was quicker
                    sizes[entry.name] = entry.stat().st_size
        kept = sorted(sizes)
        total = sum(sizes.values())
        while kept and (len(kept) > self._max_files or total > self._max_bytes):
            name = kept.pop(0)
            total -= sizes[name]
            (self._folder / name).unlink(missing_ok=True)


def _encoded(image: bytes | npt.NDArray[Any]) -> tuple[bytes, str]:
    """The client's own bytes and their format; raw pixels become a PNG."""
    if isinstance(image, bytes):
        try:
            with Image.open(io.BytesIO(image)) as opened:
                return image, (opened.format or "bin").lower()
        except Exception:  # it was decoded a moment ago; what it is called matters little
            return image, "bin"
    channels_first = image.shape[0] in (1, 3)
    pixels = image.transpose(1, 2, 0) if channels_first else image
    grey = pixels.shape[-1] == 1
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels)).save(out, "PNG")
    return out.getvalue(), "png"


def _record(trace: Trace, verdict: Verdict) -> dict[str, Any]:
    model = None if trace.model is None else trace.model.model_dump()
    decision = verdict.decision.value
    return {"id": trace.id, "model": model, **asdict(verdict), "decision": decision}

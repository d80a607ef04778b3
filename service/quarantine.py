"""Keeps rejected images, with their verdicts, for somebody to look at; off unless asked for.

The folder never holds more than a number of files and of bytes of this module's: the oldest go
first, and what else is in it stays. An image is named by time and content, so that the same one is
kept once, and never by what a client sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.image import FORMATS
from service.ask import Ask
from service.trace import Trace
from service.verdict import Verdict

logger = logging.getLogger("oodgate")

#: Images on their way to the disk; while it is slower than that, further ones are not kept.
MAX_PENDING = 16

#: The names that are given here, finished or not; an image and its verdict share the group.
_OURS = re.compile(r"\.?(\d{8}T\d{6}\.\d{6}-[0-9a-f]{16})\.\w+")


class Quarantine:
    """A folder of rejected images, shared by all replicas of a machine."""

    def __init__(self, folder: Path, max_files: int, max_bytes: int) -> None:
        """Makes the folder, readable by this user alone; raises ``OSError`` where it cannot."""
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._places = threading.BoundedSemaphore(MAX_PENDING)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="quarantine")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, trace: Trace, ask: Ask) -> None:
        """Hand the rejected images of an answered request to the writer; drops what is too much."""
        for image, verdict in zip(ask.images, trace.verdicts, strict=True):
            if verdict.rejected and self._places.acquire(blocking=False):
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
                text = json.dumps(_without_nan(record), indent=1, allow_nan=False).encode()
                if self._has_room(len(content) + len(text)):
                    self._put(f"{name}.json", text)
                    self._put(f"{name}.{ending}", content)
        except OSError as error:
            logger.warning("a rejected image could not be kept in %s: %s", self._folder, error)
        finally:
            self._places.release()

    def _put(self, name: str, content: bytes) -> None:
        unfinished = self._folder / f".{name}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        unfinished.rename(self._folder / name)

    def _has_room(self, size: int) -> bool:
        """Remove the oldest images with their verdicts until two more files fit in."""
        if size > self._max_bytes:
            return False
        sizes = self._sizes()
        files = 2 + sum(map(len, sizes.values()))
        total = size + sum(sum(pair.values()) for pair in sizes.values())
        for _, pair in sorted(sizes.items()):  # names begin with the time
            if files <= self._max_files and total <= self._max_bytes:
                break
            files -= len(pair)
            total -= sum(pair.values())
            for name in pair:
                (self._folder / name).unlink(missing_ok=True)
        return True

    def _sizes(self) -> dict[str, dict[str, int]]:
        """Bytes of each file that was kept here, by what an image and its verdict share."""
        found: dict[str, dict[str, int]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if ours := _OURS.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):  # another replica was quicker
                        found.setdefault(ours[1], {})[entry.name] = entry.stat().st_size
        return found


def _encoded(image: bytes | npt.NDArray[Any]) -> tuple[bytes, str]:
    """The client's own bytes and their format; raw pixels become a PNG."""
    if isinstance(image, bytes):
        try:
            with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
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


def _without_nan(value: Any) -> Any:
    """What JSON has no number for becomes null, as in an answer."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Which rows trained a model and which calibrated it, by content hash.

The record makes leakage checkable by anyone: the SHA-256 of every row's shape and pixels, 32
bytes each, training rows first, then fit, then calibration rows. Counts are stored beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError

Digests = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


class RowsError(CalibrationError):
    """A record whose size does not fit its counts."""


def content_digests(pixels: npt.NDArray[np.uint8], levels: int) -> Digests:
    """SHA-256 of each image's shape and pixels, (N, C, H, W) to (N, 32).

    Of the ``levels`` grey values that the model tells apart, so whatever is the same image to the
    model has the same sum, however it was stored.
    """
    shape = np.array([*pixels.shape[1:], levels], dtype="<i8").tobytes()
    level_of = ((np.arange(256) * (levels - 1) + 127) // 255).astype(np.uint8)
    sums = [hashlib.sha256(shape + level_of[image].tobytes()).digest() for image in pixels]
    return np.frombuffer(b"".join(sums), dtype=np.uint8).reshape(-1, 32)


@dataclass(frozen=True, kw_only=True)
class RowRecord:
    """The digests (n, 32) of the rows that trained, fitted and calibrated."""

    train: Digests
    fit: Digests
    cal: Digests

    def to_bytes(self) -> bytes:
        """The record as one run of bytes; ``counts`` is needed to read it back."""
        return b"".join(np.ascontiguousarray(p).tobytes() for p in (self.train, self.fit, self.cal))

    def counts(self) -> dict[str, int]:
        """Rows of each part."""
        return {"train": len(self.train), "fit": len(self.fit), "cal": len(self.cal)}

    @property
    def known(self) -> Digests:
        """The digests of all parts together (n, 32)."""
        return np.concatenate([self.train, self.fit, self.cal])

    def found_among(self, digests: Digests) -> dict[str, int]:
        """How many of ``digests`` (N, 32) are known from each part, and how many are ``new``.

        Exact copies alone: an image that differs in one pixel is new.
        """
        parts = {"train": self.train, "fit": self.fit, "cal": self.cal}
        found = {name: int(is_in(digests, part).sum()) for name, part in parts.items()}
        return found | {"new": int((~is_in(digests, self.known)).sum())}

    @classmethod
    def from_bytes(cls, content: bytes, counts: Mapping[str, int]) -> RowRecord:
        """The inverse of ``to_bytes``; raises ``RowsError`` where size and counts disagree."""
        if not isinstance(counts, Mapping) or set(counts) != {"train", "fit", "cal"}:
            raise RowsError(f"row hashes: counts are {counts!r}, expected train, fit and cal")
        train, fit, cal = (counts[part] for part in ("train", "fit", "cal"))
        total = train + fit + cal
        if min(train, fit, cal) < 0 or len(content) != 32 * total:
            raise RowsError(
                f"row hashes: {len(content)} bytes for counts {dict(counts)}, expected {32 * total}"
            )
        rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, 32)
        parts = np.split(rows, [train, train + fit])
        return cls(train=parts[0], fit=parts[1], cal=parts[2])


def is_in(digests: Digests, known: Digests) -> BoolArray:
    """For each digest (N, 32), whether it is among ``known`` (M, 32): (N,)."""
    table = {row.tobytes() for row in known}
    return np.array([row.tobytes() in table for row in digests], dtype=bool)

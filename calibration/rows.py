"""Which rows trained a model and which calibrated it, by content hash.

The record makes leakage checkable by anyone: the SHA-256 of every row's shape and pixels, 32
bytes each, in the order of ``PARTS``. Counts are stored beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError

Digests = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

#: In the order of the bytes; those of ``OPTIONAL`` are counted only where there is such a row.
PARTS = ("train", "fit", "cal", "kept", "ancestor")
OPTIONAL = ("kept", "ancestor")


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
    """The digests (n, 32) of the rows that trained, fitted and calibrated.

    ``kept``: fit and calibration rows of an earlier calibration from which this one, made of rows
    without labels, has its temperature and prediction sets. ``ancestor``: rows that trained the
    model which training began with, and not this one.
    """

    train: Digests
    fit: Digests
    cal: Digests
    kept: Digests = field(default_factory=lambda: np.empty((0, 32), dtype=np.uint8))
    ancestor: Digests = field(default_factory=lambda: np.empty((0, 32), dtype=np.uint8))

    def to_bytes(self) -> bytes:
        """The record as one run of bytes; ``counts`` is needed to read it back."""
        return b"".join(np.ascontiguousarray(rows).tobytes() for rows in self._parts().values())

    def counts(self) -> dict[str, int]:
        """Rows of each part; of those of ``OPTIONAL`` where there are such rows."""
        counts = {name: len(rows) for name, rows in self._parts().items()}
        return {name: count for name, count in counts.items() if count or name not in OPTIONAL}

    @property
    def trained_on(self) -> Digests:
        """The digests (n, 32) of all rows that the weights come from."""
        return np.concatenate([self.train, self.ancestor])

    @property
    def own(self) -> RowRecord:
        """The record without the ancestor's rows."""
        return replace(self, ancestor=self.ancestor[:0])

    def descended(self, ancestor: Digests) -> RowRecord:
        """The record of a model begun with one that was trained on ``ancestor`` (n, 32)."""
        return replace(self, ancestor=ancestor[~is_in(ancestor, self.train)])

    @property
    def known(self) -> Digests:
        """The digests of all parts together (n, 32)."""
        return np.concatenate(list(self._parts().values()))

    def recalibrated(self, fit: Digests, cal: Digests, *, borrowed: bool) -> RowRecord:
        """The record of the same model, calibrated anew on ``fit`` and ``cal``.

        ``borrowed``: temperature and prediction sets stay, and so do the rows they were fitted on.
        """
        before = self.kept if len(self.kept) else np.concatenate([self.fit, self.cal])
        return replace(self, fit=fit, cal=cal, kept=before if borrowed else before[:0])

    def found_among(self, digests: Digests) -> dict[str, int]:
        """How many of ``digests`` (N, 32) are known from each part, and how many are ``new``.

        Exact copies alone: an image that differs in one pixel is new.
        """
        found = {name: int(is_in(digests, part).sum()) for name, part in self._parts().items()}
        return found | {"new": int((~is_in(digests, self.known)).sum())}

    def _parts(self) -> dict[str, Digests]:
        return {name: getattr(self, name) for name in PARTS}

    @classmethod
    def from_bytes(cls, content: bytes, counts: Mapping[str, int]) -> RowRecord:
        """The inverse of ``to_bytes``; raises ``RowsError`` where size and counts disagree."""
        if not isinstance(counts, Mapping) or {*counts, *OPTIONAL} != set(PARTS):
            raise RowsError(
                f"row hashes: counts are {counts!r}, expected train, fit, cal and perhaps "
                f"{' and '.join(OPTIONAL)}"
            )
        sizes = [counts.get(name, 0) for name in PARTS]
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise RowsError(f"row hashes: counts are {dict(counts)}, expected whole numbers from 0")
        total = sum(sizes)
        if len(content) != 32 * total:
            raise RowsError(
                f"row hashes: {len(content)} bytes for counts {dict(counts)}, expected {32 * total}"
            )
        rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, 32)
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        return cls(**dict(zip(PARTS, parts, strict=True)))


def is_in(digests: Digests, known: Digests) -> BoolArray:
    """For each digest (N, 32), whether it is among ``known`` (M, 32): (N,)."""
    table = {row.tobytes() for row in known}
    return np.array([row.tobytes() in table for row in digests], dtype=bool)

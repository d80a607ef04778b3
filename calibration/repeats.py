"""Whether an id occurs twice, among more ids than fit into memory.

Ids are read several times, and each time the 64-bit hashes of a share of them are kept: equal ids
have equal hashes, so they meet in one share. Ids whose hashes are equal are then read once more and
compared, so a collision is never taken for a repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

#: Equal hashes that are looked up in one pass over the ids, so that memory is bounded there too.
SUSPECTS = 1_000_000

#: Ids that are hashed before their hashes are compressed into an array.
BATCH = 65_536

Hashes = npt.NDArray[np.uint64]
Read = Callable[[], Iterable["pa.Array | Sequence[str]"]]


def hashes(ids: Sequence[str]) -> Hashes:
    """64 bits of BLAKE2b of each: the same on every machine, and in every run."""
    sums = [
        hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=8).digest() for one in ids
    ]
    return np.frombuffer(b"".join(sums), dtype="<u8").astype(np.uint64)


def first_repeat(read: Read, rows: int, *, at_once: int = 20_000_000) -> str | None:
    """The first id, in the order of reading, that was there before; None where all are unique.

    ``read`` gives all ids, about ``rows``, in arrays without nulls, each time it is called.
    ``at_once``: hashes in memory, 8 bytes each; so many shares of the ids make a pass each.
    """
    if at_once < 1:
        raise ValueError(f"at_once {at_once}: expected 1 or more")
    shares = max(1, -(-rows // at_once))
    found = [_first_among(read, suspects) for suspects in _suspects(read, shares)]
    places = [place for place in found if place is not None]
    return min(places)[1] if places else None


def _suspects(read: Read, shares: int) -> Iterator[Hashes]:
    """Hashes that occur more than once, ``SUSPECTS`` at a time."""
    for share in range(shares):
        kept = [own[own % np.uint64(shares) == share] for _, own in _hashed(read)]
        ordered = np.concatenate(kept) if kept else np.empty(0, dtype=np.uint64)
        del kept
        ordered.sort()
        equal = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        for first in range(0, len(equal), SUSPECTS):
            yield equal[first : first + SUSPECTS]


def _first_among(read: Read, suspects: Hashes) -> tuple[int, str] | None:
    """The place and id of the first repeat among ids of these hashes."""
    seen: set[str] = set()
    first = 0
    for ids, own in _hashed(read):
        for i in np.flatnonzero(np.isin(own, suspects)).tolist():
            if ids[i] in seen:
                return first + i, ids[i]
            seen.add(ids[i])
        first += len(ids)
    return None


def _hashed(read: Read) -> Iterator[tuple[list[str], Hashes]]:
    for array in read():
        for first in range(0, len(array), BATCH):
            part: Any = array[first : first + BATCH]
            ids: list[str] = part.to_pylist() if isinstance(part, pa.Array) else list(part)
            yield ids, hashes(ids)

"""Repeats among ids: exact, whatever the hashes do and however many passes are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from calibration import repeats
from calibration.repeats import first_repeat


def naive(ids: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            return one
        seen.add(one)
    return None


@pytest.mark.parametrize("at_once", [1, 3, 7, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_as_a_set_finds_them(seed: int, at_once: int) -> None:
    random = np.random.default_rng(seed)
    ids = [str(i) for i in random.integers(0, 200, 12)]
    assert first_repeat(lambda: [ids[:5], ids[5:]], len(ids), at_once=at_once) == naive(ids)


def test_arrow_arrays_and_none_at_all() -> None:
    ids = [pa.array(["a", "b"]), pa.array([], pa.string()), pa.array(["c", "é", "b"])]
    assert first_repeat(lambda: ids, 5) == "b"
    assert first_repeat(lambda: ids[:2], 2) is None
    assert first_repeat(lambda: [], 0) is None


@pytest.mark.parametrize("at_once", [2, 100])
def test_a_collision_is_no_repeat(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(
        repeats, "hashes", lambda ids: np.array([len(one) for one in ids], dtype=np.uint64)
    )
    assert first_repeat(lambda: [["a", "b", "cc", "dd"]], 4, at_once=at_once) is None
    assert first_repeat(lambda: [["cc", "a", "b"], ["dd", "b", "cc"]], 6, at_once=at_once) == "b"


def test_no_more_hashes_in_memory_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of one pass each; and equal hashes are looked up a few at a time."""
    passes = 0
    ids = [str(i) for i in range(1000)]

    def read() -> Iterable[Sequence[str]]:
        nonlocal passes
        passes += 1
        return [ids]

    assert first_repeat(read, len(ids), at_once=100) is None
    assert passes == 10
    monkeypatch.setattr(repeats, "SUSPECTS", 300)
    passes = 0
    assert first_repeat(lambda: [*read(), ids], 2 * len(ids)) == "0"
    assert passes == 1 + 4


def test_hashes_are_the_same_everywhere() -> None:
    assert repeats.hashes(["a/b.png"]).tolist() == [hash_of("a/b.png")]


def hash_of(text: str) -> int:
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def test_at_once_is_checked() -> None:
    with pytest.raises(ValueError, match="at_once 0"):
        first_repeat(lambda: [], 0, at_once=0)

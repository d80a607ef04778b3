"""Bytes that were something good: flipped, cut, spliced, stretched; the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

#: Numbers that break what counts with them, in both byte orders.
_EXTREMES = [
    n.to_bytes(size, order)
    for size in (2, 4)
    for order in ("big", "little")
    for n in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, 60_000)
]


def mutated(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    """One to four changes, each at a place drawn from all of the bytes."""
    for _ in range(source.randint(1, 4)):
        data = source.choice(_WAYS)(data, others, source)
    return data


def _flip(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(min(len(content), source.choice((1, 1, 2, 8, 64)))):
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    return bytes(content)


def _truncate(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    return data[: source.randrange(len(data) + 1)]


def _splice(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    """The beginning of one and the end of another."""
    other = source.choice(others)
    return data[: source.randrange(len(data) + 1)] + other[source.randrange(len(other) + 1) :]


def _append(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    """One behind the other, both whole."""
    return data + source.choice(others)


def _repeat(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    start = source.randrange(len(data) + 1)
    piece = data[start : start + source.randint(1, 64)]
    return data[:start] + piece * source.choice((2, 10, 500)) + data[start:]


def _remove(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    start = source.randrange(len(data) + 1)
    return data[:start] + data[start + source.randint(1, 32) :]


def _extreme(data: bytes, others: Sequence[bytes], source: random.Random) -> bytes:
    number = source.choice(_EXTREMES)
    start = source.randrange(max(1, len(data)))
    return data[:start] + number + data[start + len(number) :]


_WAYS = (_flip, _flip, _truncate, _splice, _append, _repeat, _remove, _extreme)

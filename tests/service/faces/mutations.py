"""Valid requests made wrong at random, from a seed: bytes, JSON, and values seldom tried."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

#: One of every type of JSON, and numbers and texts at the ends of what they can be.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 1e-300),
    *(2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**300, 10**4000, -(10**4000)),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "x", "0.1", "nan", "image", "pixels", "posterior", "\ud800", "\udfff\ud800", "\x00"),
    *("x" * 300, "\U0001f600" * 70, "../../etc/passwd", "%s%n{0}", "fake", "AAAA", "iVBORw0KGgo="),
    *([], {}, [[]], [[[[0]]]], [None], [{}], [0] * 16, [1, 1, 4, 4], [-1], [0, 2**40], [10**4000]),
    *({"a": 1}, {"name": "image"}, {"binary_data_size": 2**40}, {"classification": 10**20}),
)

#: Keys that mean something where they are least expected.
KEYS = (
    *("id", "inputs", "outputs", "parameters", "name", "datatype", "shape", "data"),
    *("alpha", "timeout", "binary_data_size", "binary_data", "binary_data_output"),
    *("classification", "shared_memory_region", "priority", "sequence_id", "", "\ud800"),
)

#: Values of headers.
HEADERS = (
    *(b"", b"0", b"1", b"-1", b"+1", b" 1", b"1.0", b"1e9", b"0x10", b"9" * 30, b"9" * 5000),
    *(b"\xff", b"\xb2", b"\x00", b"a" * 5000, b",;,;=", b"gzip", b"deflate", b"gzip;q=nan", b"br"),
    *(b"identity", b"multipart/form-data", b"multipart/form-data; boundary=", b"100-continue"),
    *(b"multipart/form-data; boundary=b; charset=utf-7", b"multipart/form-data; boundary*=b"),
    *(b"application/json; charset=utf-16", b"*/*", b"Bearer", b"Bearer \xff"),
)

_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def flipped(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, lost, doubled or added in one to four places."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(found))
        size = rng.choice((1, 1, 2, 4, 16, 64))
        match rng.randrange(6):
            case 0:
                found[at : at + 1] = rng.randbytes(1)
            case 1:
                del found[at : at + size]
            case 2:
                found[at:at] = rng.randbytes(size)
            case 3:
                found[at:at] = found[at : at + size] * rng.randint(1, 4)
            case 4:
                found[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(_WORDS))
            case _:
                del found[at:]
    return bytes(found)


def changed(rng: random.Random, document: Any) -> Any:
    """A JSON document with one to three of its values replaced, added or taken away."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return odd(rng)
        holder, key = rng.choice(places)
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(KEYS)] = odd(rng)
            case 2:
                for _ in range(rng.choice((1, 3, 30))):
                    holder[key] = [holder[key]]
            case 3 if isinstance(holder, list):
                holder.extend(holder * rng.choice((1, 20)))
            case _:
                holder[key] = odd(rng)
    return document


def text(rng: random.Random, document: Any) -> bytes:
    """JSON of what may hold values that no JSON should, now and then nested beyond all reason."""
    found = json.dumps(document, ensure_ascii=rng.random() < 0.9)
    if rng.random() < 0.02:
        depth = rng.choice((100, 3000, 9000))
        found = found.replace("1", "[" * depth + "1" + "]" * depth, 1)
    encoding = rng.choice(("utf-8",) * 20 + ("utf-16", "utf-32", "utf-8-sig"))
    return found.encode(encoding, "surrogatepass")


def odd(rng: random.Random) -> Any:
    """A value of its own: the next change may be inside it."""
    return copy.deepcopy(rng.choice(ODD))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a document: what holds it, and its key there."""
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        items = iter(list(value.items()))
    elif isinstance(value, list):
        items = iter(list(enumerate(value)))
    for key, entry in items:
        yield value, key
        yield from _places(entry)

"""What a folder holds: images or tables; found in one walk, and held compactly.

A name is bytes relative to the folder with NUL between its parts, so that bytes sort as paths do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from train.data import IMAGE_SUFFIXES, TAR_SUFFIXES
from train.places import Place

TABLES = (b".arrow", b".feather")
TARS = tuple(suffix.encode() for suffix in TAR_SUFFIXES)
IMAGES = {suffix.encode() for suffix in IMAGE_SUFFIXES}

#: Names that are Python objects before they are packed.
PACKED_AT_ONCE = 65_536


class Entry(NamedTuple):
    """A file: its name, and its size where listing says it (else 0)."""

    name: bytes
    size: int


@dataclass(frozen=True)
class Listing:
    """Images in their order with their sizes, and whether there are tables; sorted names of
    tars."""

    images: pa.LargeBinaryArray
    sizes: npt.NDArray[np.int64]
    parquet: bool
    arrow: bool
    tars: tuple[str, ...]


def listed(place: Place) -> Listing:
    """What a folder holds, sub-folders too; raises ``OSError`` where it cannot be read."""
    found = {"parquet": False, "arrow": False}
    tars: list[str] = []

    def images() -> Iterator[Entry]:
        for entry in _local(place.path) if place.local else _remote(place):
            base = entry.name.rsplit(b"\0", 1)[-1]
            visible = not any(part.startswith((b".", b"_")) for part in entry.name.split(b"\0"))
            if is_image(base):
                yield entry
            elif base.endswith(b".parquet") and visible:
                found["parquet"] = True
            elif base.endswith(TABLES) and visible:
                found["arrow"] = True
            elif base.endswith(TARS) and visible:
                tars.append(os.fsdecode(entry.name.replace(b"\0", b"/")))

    names, sizes = packed(images())
    return Listing(names, sizes, found["parquet"], found["arrow"], tuple(sorted(tars)))


def packed(entries: Iterable[Entry]) -> tuple[pa.LargeBinaryArray, npt.NDArray[np.int64]]:
    """Names and sizes in the order of names."""
    kept: list[pa.Array] = []
    sizes: list[npt.NDArray[np.int64]] = []
    held: list[Entry] = []

    def pack() -> None:
        kept.append(pa.array([entry.name for entry in held], pa.large_binary()))
        sizes.append(np.array([entry.size for entry in held], dtype=np.int64))
        held.clear()

    for entry in entries:
        held.append(entry)
        if len(held) == PACKED_AT_ONCE:
            pack()
    pack()
    names = pa.concat_arrays(kept)
    order = pc.sort_indices(names)
    return names.take(order), np.concatenate(sizes)[order.to_numpy()]


def is_image(name: bytes) -> bool:
    """Whether a file of this name is one."""
    return os.path.splitext(name.rsplit(b"\0", 1)[-1])[1].lower() in IMAGES


def shown(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 are spelt out."""
    return name.replace(b"\0", b"/").decode("utf-8", "backslashreplace")


def _local(folder: str) -> Iterator[Entry]:
    """Links to folders are followed at the top alone, where a class may be one."""
    waiting = [(os.fsencode(folder), b"")]
    while waiting:
        path, above = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                name = above + entry.name
                if entry.is_dir(follow_symlinks=not above):
                    waiting.append((entry.path, name + b"\0"))
                elif entry.is_file():
                    yield Entry(name, 0)


def _remote(place: Place) -> Iterator[Entry]:
    filesystem, waiting = place.filesystem, [place.path]
    while waiting:
        for info in filesystem.get_file_info(pafs.FileSelector(waiting.pop())):
            if info.type == pafs.FileType.Directory:
                waiting.append(info.path)
            elif info.is_file:
                name = place.name(info.path).encode("utf-8", "surrogateescape")
                yield Entry(name.replace(b"/", b"\0"), info.size or 0)

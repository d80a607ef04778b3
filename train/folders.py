"""Images that are files: a folder with one sub-folder a class, a folder or glob without, one file.

On this machine or behind a URL. Names are held in one run of bytes, not as objects: there may be
millions. A name is bytes with NUL between its parts, so that bytes sort as paths do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from train.data import IMAGE_SUFFIXES, DataError, ImageRows, Row
from train.listing import Entry, Listing, packed, shown
from train.places import BrokenError, Place, reason, resumed
from train.progress import say

#: Bytes of the largest file that is read.
MAX_FILE = 512 * 2**20

#: Files of a chunk, or more where that fills whole batches.
CHUNK_FILES = 256

#: Names of images that are passed over which are told.
TOLD = 3


@dataclass(frozen=True, kw_only=True)
class FileRun:
    """Consecutive files below ``root``; ``prefix`` is what ids begin with."""

    place: Place
    root: bytes
    prefix: bytes
    names: tuple[bytes, ...]
    labels: tuple[int, ...] | None

    def read(self) -> Iterator[Row]:
        """The rows; a file that cannot be read has its error.

        Raises ``DataError`` where a remote store does not answer.
        """
        for i, name in enumerate(self.names):
            path = os.path.join(self.root, name)
            label = self.labels[i] if self.labels is not None else None
            image, error = self._content(path)
            yield Row(id=shown(self.prefix + name), image=image, label=label, error=error)

    def _content(self, path: bytes) -> tuple[bytes, str | None]:
        try:
            if self.place.local:
                with open(path, "rb") as file:  # pyarrow knows no names but UTF-8
                    _check_size(os.fstat(file.fileno()).st_size)
                    return file.read(), None
            remote = os.fsdecode(path)
            return next(resumed(self.place, remote, lambda _: self._remote(remote))), None
        except (OSError, BrokenError) as error:
            return b"", f"cannot be read: {reason(error)}"

    def _remote(self, path: str) -> Iterator[bytes]:
        with self.place.filesystem.open_input_file(path) as file:
            _check_size(file.size())
            yield file.read()


def _check_size(size: int) -> None:
    if size > MAX_FILE:
        raise BrokenError(f"{size:,} bytes, expected at most {MAX_FILE:,}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """A sorted list of files, cut and read; ``sizes`` are known where a listing says them."""

    place: Place
    root: bytes
    prefix: bytes = b""
    names: pa.LargeBinaryArray
    sizes: npt.NDArray[np.int64] | None = None
    classes: tuple[bytes, ...] | None = None
    index: dict[bytes, int] = field(default_factory=dict)

    def rows(self, spec: str) -> ImageRows:
        """As a data set."""
        labels = None if self.classes is None else tuple(map(shown, self.classes))
        return ImageRows(
            spec=spec,
            size=len(self.names),
            class_labels=labels,
            read=self.read,
            read_labels=self.labels if labels is not None else None,
            chunks=lambda batch: FileRuns(self, -(-CHUNK_FILES // batch) * batch),
            files=self.stated,
        )

    def read(self) -> Iterator[Row]:
        """All rows, as the chunks have them."""
        for run in FileRuns(self, CHUNK_FILES):
            yield from run.read()

    def labels(self) -> Iterator[int]:
        """By the first part of each name."""
        for run in FileRuns(self, CHUNK_FILES):
            yield from run.labels or ()

    def run(self, first: int, count: int) -> FileRun:
        """``count`` files, or as many as there are, from number ``first`` on."""
        parts = self.names.slice(first, count).to_pylist()
        labels = None
        if self.classes is not None:
            labels = tuple(self.index[name.split(b"\0", 1)[0]] for name in parts)
        names = tuple(name.replace(b"\0", b"/") for name in parts)
        return FileRun(
            place=self.place, root=self.root, prefix=self.prefix, names=names, labels=labels
        )

    def stated(self) -> Iterator[tuple[str, int, int]]:
        """Name, size and time of change of each file; size -1 where one has gone."""
        for first in range(0, len(self.names), CHUNK_FILES):
            for i, name in enumerate(self.run(first, CHUNK_FILES).names, first):
                yield shown(name), *self._stated(i, name)

    def _stated(self, number: int, name: bytes) -> tuple[int, int]:
        if self.sizes is not None:
            return int(self.sizes[number]), 0
        try:
            found = os.stat(os.path.join(self.root, name))
        except OSError:
            return -1, 0
        return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class FileRuns(Sequence[FileRun]):
    """The chunks of a list of files, ``size`` each, made when they are asked for."""

    files: Files
    size: int

    def __len__(self) -> int:
        return -(-len(self.files.names) // self.size)

    @overload
    def __getitem__(self, index: int) -> FileRun: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[FileRun]: ...

    def __getitem__(self, index: int | slice) -> FileRun | Sequence[FileRun]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.files.run(range(len(self))[index] * self.size, self.size)


def folder_rows(spec: str, place: Place, found: Listing, prefix: str) -> ImageRows:
    """The images of a folder: of its classes where a sub-folder holds some, else all of them.

    A class has a name that begins with neither ``.`` nor ``_``. Images beside the classes are in
    none, so they are passed over, which is said. ``prefix``: what ids without a class begin with.
    """
    classes, inside = _classes(found.images)
    names, sizes = found.images, found.sizes
    if classes:
        _tell_loose(spec, names.filter(pa.array(~inside)))
        names, sizes = names.filter(pa.array(inside)), sizes[inside]
    if not len(names):
        raise no_images(spec)
    return Files(
        place=place,
        root=os.fsencode(place.path),
        prefix=b"" if classes else os.fsencode(prefix),
        names=names,
        sizes=None if place.local else sizes,
        classes=tuple(sorted(classes)) or None,
        index={name: i for i, name in enumerate(sorted(classes))},
    ).rows(spec)


def file_rows(spec: str, paths: Iterable[str]) -> ImageRows:
    """Files by their paths on this machine, in the order of their names, without labels."""
    names, _ = packed(Entry(os.fsencode(Path(path)), 0) for path in paths)
    if not len(names):
        raise no_images(spec)
    root = os.getcwd()
    return Files(place=Place(root), root=os.fsencode(root), names=names).rows(spec)


def remote_file(spec: str, place: Place) -> ImageRows:
    """A single image behind a URL."""
    root, _, name = place.path.rpartition("/")
    entries = place.filesystem.get_file_info([place.path])
    names, sizes = packed(Entry(name.encode(), info.size or 0) for info in entries)
    source = Files(place=place, root=root.encode(), names=names, sizes=sizes)
    return source.rows(spec)


def no_images(spec: str) -> DataError:
    """Of DATA that holds none."""
    return DataError(f"{spec}: no images there; expected files in {sorted(IMAGE_SUFFIXES)}")


def _tell_loose(spec: str, outside: pa.LargeBinaryArray) -> None:
    loose = [name for name in outside.to_pylist() if b"\0" not in name and name[:1] not in b"._"]
    if loose:
        more = f" and {len(loose) - TOLD:,} more" if loose[TOLD:] else ""
        say(
            f"{spec}: images beside its class folders are passed over: "
            f"{', '.join(map(repr, map(shown, loose[:TOLD])))}{more}; move them into a class, or "
            "name them by a glob"
        )


def _classes(names: pa.LargeBinaryArray) -> tuple[set[bytes], npt.NDArray[np.bool_]]:
    """First-level folders with images, and which images lie in one."""
    inside = np.zeros(len(names), dtype=np.bool_)
    classes = set()
    for i, name in enumerate(names):
        first, deeper, _ = name.as_py().partition(b"\0")
        if deeper and not first.startswith((b".", b"_")):
            inside[i] = True
            classes.add(first)
    return classes, inside

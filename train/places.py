"""Where files lie: on this machine or behind a URL that ``pyarrow.fs`` reads.

A place is small to send; its file system is built where it is read. What fails there is told apart:
a file that is broken, or gone from this machine, concerns its own rows; a store that does not
answer concerns everything, so that no night's work becomes a table of errors.
"""

from __future__ import annotations

import functools
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from train.data import DataError

#: Seconds before another try at a file that is not on this machine.
PAUSES = (0.5, 1.0, 2.0)

#: What a reader raises on content that is damaged, or cannot be reached.
READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    pa.ArrowException,
    tarfile.TarError,
    zlib.error,
    RecursionError,
)

T = TypeVar("T")


class BrokenError(ValueError):
    """A file that cannot be read though its store answers; the text says why."""


@dataclass(frozen=True)
class Place:
    """A file or folder: ``location`` is a URL or an absolute path."""

    location: str

    @classmethod
    def of(cls, location: str) -> Place:
        """Absolute, since another process has another working directory."""
        return cls(location if "://" in location else os.path.abspath(location))

    @property
    def filesystem(self) -> pafs.FileSystem:
        """Raises what ``pyarrow.fs`` does for a URL that it cannot use."""
        return _located(self.location)[0]

    @property
    def path(self) -> str:
        """How the file system calls it."""
        return _located(self.location)[1]

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def name(self, path: str) -> str:
        """What ids call a file: its path relative to this folder; of the file itself, its name."""
        return path.removeprefix(self.path).lstrip("/") or os.path.basename(path)


@functools.lru_cache(maxsize=16)  # a client of an object store is slow to build
def _located(location: str) -> tuple[pafs.FileSystem, str]:
    if "://" in location:
        return pafs.FileSystem.from_uri(location)  # type: ignore[no-any-return]
    return pafs.LocalFileSystem(), location


def resumed(place: Place, path: str, start: Callable[[int], Iterator[T]]) -> Iterator[T]:
    """What ``start(skip)`` gives, begun anew behind what was given where a remote store fails.

    Raises ``BrokenError`` for a file that is there and cannot be read, or has gone from this
    machine, and ``DataError`` where after ``PAUSES`` a remote store does not show the file.
    """
    done, tries = 0, 0
    while True:
        try:
            for item in start(done):
                yield item
                done, tries = done + 1, 0
            return
        except DataError:
            raise
        except READ_ERRORS as error:
            if place.local or tries == len(PAUSES):
                raise _final(place, path, error) from error
            pause(PAUSES[tries])
            tries += 1


def pause(seconds: float) -> None:
    """Wait before another try."""
    time.sleep(seconds)


def reason(error: BaseException) -> str:
    """Why a file cannot be read, on one line and without its path where the system says it."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or type(error).__name__


def _final(place: Place, path: str, error: Exception) -> Exception:
    if not place.local:
        try:
            found = place.filesystem.get_file_info(path).type != pafs.FileType.NotFound
        except (OSError, pa.ArrowException):
            found = False
        if not found:
            return DataError(
                f"{place.location}: {path} cannot be reached after {len(PAUSES) + 1} tries: "
                f"{reason(error)}; start the job again once its store answers"
            )
    return BrokenError(reason(error))


def stated(place: Place, paths: list[str]) -> Iterator[tuple[str, int, int]]:
    """Name, size and, on this machine, time of change (ns) of files; size -1 where one has gone."""
    timed = place.local
    for first in range(0, len(paths), 1000):
        for info in place.filesystem.get_file_info(paths[first : first + 1000]):
            gone = info.type == pafs.FileType.NotFound
            changed = info.mtime_ns if timed and not gone else 0
            yield place.name(info.path), -1 if gone else info.size, changed or 0

"""WebDataset: tar files whose members of one name up to the first dot are one sample.

Read from the first byte to the last, as a tape: nothing is unpacked on to a disk, and no more than
one sample is held. An image is a member with an image's suffix, its label the member ``.cls``
beside it, a whole number or the name of a class. How many rows there are and which classes is known
once all tars have been read, so that is done when they are opened.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from train.data import IMAGE_SUFFIXES, DataError, ImageRows, Row
from train.parquet import numbered
from train.places import READ_ERRORS, BrokenError, Place, resumed, stated
from train.progress import Progress

#: Bytes of the largest sample that is read, of the largest header beside one, and of the largest
#: member that is passed over: the library would look for its end long after that of the file.
MAX_SAMPLE, MAX_HEADER, MAX_PASSED = 512 * 2**20, 2**20, 2**36

#: Characters of the longest label; a longer one is none.
MAX_LABEL = 200

_LABEL = ".cls"
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


@dataclass
class Sample:
    """Images of one key, or why they cannot be read, and the text of their label."""

    key: str
    images: dict[str, bytes] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    label: str | None = None
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Tar:
    """One tar; ``name`` begins its rows' ids. ``classes``: names that labels are, None where they
    are numbers."""

    place: Place
    path: str
    name: str
    classes: tuple[str, ...] | None = None

    def read(self) -> Iterator[Row]:
        """The rows; where the tar breaks off one row says so. Raises ``DataError`` where a remote
        store does not answer."""
        for row, label in self.labelled():
            yield replace(row, label=self._index(label))

    def labelled(self) -> Iterator[tuple[Row, str | None]]:
        """The rows without their label, and its text."""
        try:
            yield from resumed(self.place, self.path, lambda skip: islice(self._rows(), skip, None))
        except BrokenError as error:
            yield Row(id=f"{self.name}#broken", image=b"", label=None, error=str(error)), None

    def _index(self, label: str | None) -> int | None:
        if label is None:
            return None
        if self.classes is None:
            return int(label)
        return self.classes.index(label) if label in self.classes else None

    def _rows(self) -> Iterator[tuple[Row, str | None]]:
        with self.place.filesystem.open_input_stream(self.path, compression=None) as stream:
            # where another try may be made, the last sample waits for it
            for sample in _samples(stream, broken_too=self.place.local):
                for row in _rows_of(sample, self.name):
                    yield row, sample.label


def tar_rows(spec: str, place: Place, paths: Sequence[str]) -> ImageRows:
    """The rows of tars, in the order of ``paths``."""
    tars = [Tar(place=place, path=path, name=place.name(path)) for path in paths]
    count, labels = _counted(spec, tars)
    names = None
    if labels:
        plain = all(label.isdecimal() and label.isascii() for label in labels)
        names = numbered(spec, max(map(int, labels)) + 1) if plain else tuple(sorted(labels))
        tars = tars if plain else [replace(tar, classes=names) for tar in tars]
    return ImageRows(
        spec=spec,
        size=count,
        class_labels=names,
        read=lambda: (row for tar in tars for row in tar.read()),
        chunks=lambda _: tars,
        files=lambda: stated(place, list(paths)),
    )


def _counted(spec: str, tars: Sequence[Tar]) -> tuple[int, set[str]]:
    count, labels = 0, set()
    with Progress("counting", len(tars), unit="tar", shown=len(tars) > 1) as progress:
        for tar in tars:
            for _, label in tar.labelled():
                count += 1
                if label is not None:
                    labels.add(label)
            progress.advance(1)
    if not count:
        raise DataError(f"{spec}: no images there; expected members in {sorted(IMAGE_SUFFIXES)}")
    return count, labels


class _Member(tarfile.TarInfo):
    """The library ends in silence at a header that it cannot read, and reads one of any size."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Member:
        try:
            found = super().frombuf(buf, encoding, errors)
        except (
            tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
            tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
            tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
        ) as error:
            raise tarfile.ReadError(str(error)) from error
        most = MAX_HEADER if found.type in _HEADERS else MAX_PASSED
        if not 0 <= found.size <= most:
            raise tarfile.ReadError(f"a header or member of {found.size:,} bytes")
        return found


def _samples(stream: Any, *, broken_too: bool) -> Iterator[Sample]:
    """``broken_too``: where the tar breaks off, what was read of the last sample is one, too."""
    sample: Sample | None = None
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                key, suffix = _split(member.name)
                if not key or not (member.isfile() or member.issym() or member.islnk()):
                    continue
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = Sample(key)
                _add(sample, tar, member, suffix)
    except READ_ERRORS:
        if broken_too and sample is not None and sample.images:
            yield sample
        raise
    if sample is not None:
        yield sample


def _add(sample: Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
    """What a member adds to its sample."""
    kind = "." + suffix.rpartition(".")[2].lower()
    if kind == _LABEL:
        text = _content(tar, member).decode("utf-8", "replace").strip() if member.isfile() else ""
        sample.label = text if 0 < len(text) <= MAX_LABEL else None
    elif kind in IMAGE_SUFFIXES:
        sample.size += member.size
        if not member.isfile():
            sample.errors[suffix] = f"a link to {member.linkname!r}: expected the file itself"
        elif sample.size > MAX_SAMPLE:
            sample.errors[suffix] = f"with {sample.size:,} bytes its sample has too many"
        else:
            sample.images[suffix] = _content(tar, member)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.size <= MAX_SAMPLE else None
    return file.read() if file is not None else b""


def _rows_of(sample: Sample, tar: str) -> Iterator[Row]:
    for suffix, image in sample.images.items():
        yield Row(id=f"{tar}/{sample.key}{suffix}", image=image, label=None)
    errors = sample.errors
    if not sample.images and not errors:
        errors = {"": f"no member in {sorted(IMAGE_SUFFIXES)} beside it"}
    for suffix, error in errors.items():
        yield Row(id=f"{tar}/{sample.key}{suffix}", image=b"", label=None, error=error)


def _split(name: str) -> tuple[str, str]:
    """A member's key, folders and all, and the rest from the first dot of its file name."""
    folder, slash, base = name.rpartition("/")
    stem, dot, rest = base.partition(".")
    shown = (folder + slash + stem).encode("utf-8", "backslashreplace").decode()
    return (shown if stem else ""), dot + rest

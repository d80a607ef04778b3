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

#: Bytes of the largest member that is read, and of the largest header beside one.
MAX_MEMBER, MAX_HEADER = 512 * 2**20, 2**20

_LABEL = ".cls"
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


@dataclass(frozen=True)
class Sample:
    """Images of one key and the text of their label; ``error`` where there is none to be read."""

    key: str
    images: dict[str, bytes] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    label: str | None = None


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
        return int(label) if self.classes is None else self.classes.index(label)

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
        chunks=lambda: tars,
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
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error
        if found.size < 0 or (found.type in _HEADERS and found.size > MAX_HEADER):
            raise tarfile.ReadError(f"a header of {found.size:,} bytes")
        return found


def _samples(stream: Any, *, broken_too: bool) -> Iterator[Sample]:
    """``broken_too``: where the tar breaks off, what was read of the last sample is one, too."""
    sample: Sample | None = None
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                key, suffix = _split(member.name)
                if not member.isfile() or not key:
                    continue
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = Sample(key)
                sample = _with(sample, tar, member, suffix)
    except READ_ERRORS:
        if broken_too and sample is not None and sample.images:
            yield sample
        raise
    if sample is not None:
        yield sample


def _with(sample: Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> Sample:
    """The sample with what a member adds to it."""
    kind = "." + suffix.rpartition(".")[2].lower()
    if kind not in IMAGE_SUFFIXES and kind != _LABEL:
        return sample
    if member.size > (MAX_MEMBER if kind != _LABEL else MAX_HEADER):
        return replace(sample, errors={**sample.errors, suffix: f"{member.size:,} bytes: too many"})
    file = tar.extractfile(member)
    content = file.read() if file is not None else b""
    if kind != _LABEL:
        return replace(sample, images={**sample.images, suffix: content})
    return replace(sample, label=content.decode("utf-8", "replace").strip() or None)


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

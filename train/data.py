"""DATA: how every command names images, and the rows behind each kind of name.

``digits[:split]``, ``NAME[:split]`` of a torchvision data set, a folder with one sub-folder a
class, a folder or glob of images, Parquet or Arrow in the Hugging Face image layout or with a
column of uint8 ``pixels``, WebDataset tars, a URL of any file or folder, or ``far13:DATA``,
strangers to DATA. Every source yields *encoded* images, so that the one path of ``model.image``
decodes them all. Tables are read in ``train.parquet``, folders in ``train.folders``, tars in
``train.tars``; strangers are made in ``train.strangers``; splitting is in ``train.split``, decoding
into memory in ``train.images``.
"""

from __future__ import annotations

import glob
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from train.chunks import Chunk
    from train.places import Place

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

#: Tars of samples, as WebDataset has them.
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

#: What DATA begins with that names strangers to other DATA.
FAR13 = "far13:"


class DataError(ValueError):
    """DATA that names nothing usable; the message says what was looked for."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One encoded image: ``id`` (its path where it has one) and its class index, if known.

    ``error``: why there is no image, as where a file has gone; ``image`` is empty then. ``exact``:
    the image is a raw tensor, which a model takes at its own size and in its own channels alone.
    """

    id: str
    image: bytes
    label: int | None
    error: str | None = None
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """A data set that can be read from the start any number of times, a row at a time.

    ``read_labels`` gives the rows' labels where that is cheaper than reading the images too.
    ``chunks`` cuts the rows into pieces to be read elsewhere, of so many rows at least and, where
    it can, of a multiple of them; None where they cannot be cut.
    ``files`` names the files that hold them, each with its size and, on this machine, its time of
    change in ns (else 0), in an order that stays; None where there are none.
    """

    spec: str
    size: int
    class_labels: tuple[str, ...] | None
    read: Callable[[], Iterator[Row]]
    read_labels: Callable[[], Iterator[int | None]] | None = None
    chunks: Callable[[int], Sequence[Chunk]] | None = None
    files: Callable[[], Iterator[tuple[str, int, int]]] | None = None

    def __post_init__(self) -> None:
        """Classes are matched by name, so two of one name would become one class."""
        labels = self.class_labels or ()
        twice = sorted(label for label, count in Counter(labels).items() if count > 1)
        if twice:
            raise DataError(f"{self.spec}: class names {twice[:5]} stand for two classes each")

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Row]:
        return self.read()

    def labels(self) -> Iterator[int | None]:
        """The rows' class indices in their order."""
        return self.read_labels() if self.read_labels else (row.label for row in self.read())


def open_data(spec: str, *, strangers: Path | None = None) -> ImageRows:
    """The rows that ``spec`` names; raises ``DataError`` with what was expected.

    ``strangers``: a folder of sets as Parquet that ``far13:DATA`` takes other sets from.
    """
    if not spec:
        raise DataError("DATA is empty: expected a data set name, a folder, a glob or Parquet")
    if spec.startswith(FAR13):
        from train.strangers import all_strangers

        return all_strangers(spec, spec.removeprefix(FAR13), strangers)
    if "://" in spec:
        return _url_rows(spec)
    name, _, split = spec.partition(":")
    if name.lower() == "digits":
        return _digits_rows(spec, split or "train")
    path = Path(spec)
    if path.is_dir():
        return _folder_rows(spec, str(path))
    if path.is_file():
        if path.suffix in (".parquet", ".arrow", ".feather"):
            return _parquet_rows(spec, str(path))
        if spec.endswith(TAR_SUFFIXES):
            return _local_tars(spec, [spec])
        return _file_rows(spec, [spec])
    if glob.has_magic(spec):
        found = sorted({*glob.glob(spec, recursive=True)})  # two ** find a file twice
        if any(name.endswith(".parquet") for name in found):
            raise DataError(f"{spec}: a glob of Parquet; name its folder instead")
        if tars := sorted(name for name in found if name.endswith(TAR_SUFFIXES)):
            return _local_tars(spec, tars)
        return _file_rows(spec, (name for name in found if os.path.isfile(name)))
    return _torchvision_rows(spec, name, split or "train")


def labelled(rows: ImageRows) -> tuple[ImageRows, tuple[str, ...]]:
    """The rows with the names of their classes; raises ``DataError`` where they have none."""
    if rows.class_labels is None:
        raise DataError(f"{rows.spec} has no labels: expected a folder a class, or a label column")
    return rows, rows.class_labels


def match_labels(found: tuple[str, ...], expected: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """Index into ``expected`` for each of ``found``, by name; an unmatched name is an error."""
    place = {label: index for index, label in enumerate(expected)}
    unknown = [label for label in found if label not in place]
    if unknown:
        raise DataError(
            f"classes {unknown[:5]} are not among the model's {list(expected)[:20]}: rename them, "
            "or leave labels out where the command allows it"
        )
    return np.array([place[label] for label in found], dtype=np.int64)


def png(image: Image.Image, compress_level: int = 1) -> bytes:
    """An image encoded without loss, in haste unless told otherwise (0 to 9)."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()


def _digits_rows(spec: str, split: str) -> ImageRows:
    """scikit-learn's 1,797 digits of 8 x 8 and 17 grey levels; a fixed random fifth is for testing.

    Random because the set is ordered by writer: its last fifth is written by other hands than
    the rest, so calibration rows would not be exchangeable with it. A level k in 0..16 is written
    as the 8-bit grey round(255 k / 16), which a model with 17 levels maps back to k.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    parts = {"train": np.sort(order[:1437]), "test": np.sort(order[1437:])}
    if split not in parts:
        raise DataError(f"digits:{split}: expected digits:train or digits:test")
    grey = np.rint(data.images * (255 / 16)).astype(np.uint8)

    def read() -> Iterator[Row]:
        for i in parts[split].tolist():
            image = png(Image.fromarray(grey[i]))
            yield Row(id=f"digits/{i:04d}.png", image=image, label=int(data.target[i]))

    labels = tuple(str(digit) for digit in range(10))
    return ImageRows(spec=spec, size=len(parts[split]), class_labels=labels, read=read)


def _torchvision_rows(spec: str, name: str, split: str) -> ImageRows:
    """A torchvision data set by name, case and dashes ignored, downloaded when it is not there."""
    from train.torchvision_sets import open_set

    dataset, labels = open_set(spec, name, split)

    def read() -> Iterator[Row]:
        for i in range(len(dataset)):
            image, label = dataset[i]
            yield Row(id=f"{name}/{split}/{i:06d}.png", image=png(image), label=int(label))

    return ImageRows(spec=spec, size=len(dataset), class_labels=labels, read=read)


def _folder_rows(spec: str, location: str) -> ImageRows:
    """A folder by path or URL: Parquet if there is some, else images, else Arrow."""
    from train.folders import folder_rows
    from train.listing import listed
    from train.places import Place, reason

    place = Place.of(location)
    try:
        found = listed(place)
    except OSError as error:
        raise DataError(f"{spec}: cannot be listed: {reason(error)}") from error
    if found.parquet or (found.arrow and not len(found.images)):
        return _parquet_rows(spec, location)
    if found.tars and not len(found.images):
        return _tar_rows(spec, place, [f"{place.path}/{name}" for name in found.tars])
    if not len(found.images) and "://" in location:
        return _parquet_rows(spec, location)  # whose error names all that was looked for
    prefix = "" if "://" in location else os.path.join(Path(location), "")
    return folder_rows(spec, place, found, prefix.removeprefix("./"))


def _url_rows(spec: str) -> ImageRows:
    from pyarrow.fs import FileType

    from train.folders import remote_file
    from train.places import READ_ERRORS, Place

    try:
        place = Place.of(spec)
        kind = place.filesystem.get_file_info(place.path).type
    except READ_ERRORS as error:
        raise DataError(f"{spec}: not readable as Parquet or images: {error}") from error
    if kind == FileType.Directory:
        return _folder_rows(spec, spec)
    if Path(place.path).suffix.lower() in IMAGE_SUFFIXES:
        return remote_file(spec, place)
    if place.path.endswith(TAR_SUFFIXES):
        return _tar_rows(spec, place, [place.path])
    return _parquet_rows(spec, spec)


def _local_tars(spec: str, paths: list[str]) -> ImageRows:
    """Their ids begin with what the paths do not share."""
    from train.places import Place

    absolute = [os.path.abspath(path) for path in paths]
    return _tar_rows(spec, Place(os.path.commonpath(map(os.path.dirname, absolute))), absolute)


def _tar_rows(spec: str, place: Place, paths: list[str]) -> ImageRows:
    from train.tars import tar_rows

    return tar_rows(spec, place, paths)


def _file_rows(spec: str, paths: Iterable[str]) -> ImageRows:
    from train.folders import file_rows

    return file_rows(spec, paths)


def _parquet_rows(spec: str, location: str) -> ImageRows:
    from train.parquet import parquet_rows

    return parquet_rows(spec, location)

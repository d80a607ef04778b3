"""``far13:DATA``: thirteen kinds of images that are not like DATA, stored just as DATA is.

Digits, digits inverted and photographs of other sets; and images of DATA, or of its size, with a
change of ``train.changes``. All are brought to the size and colour of DATA's first image and
encoded as it is, so that no stranger is told by how it is stored. They are made from the split that
DATA names: name the test split. Seeds are fixed, so the sets are the same every time, and none
depends on whether another was made.

Not covered: classes of the data itself (``train.left_out``), strangers that are made to deceive,
and DATA that is one of the other sets itself, to which its own images are no strangers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from model.image import FORMATS, ImageError, InputSpec, UInt8Array, decode
from train import changes
from train.auto import GREY_MODES
from train.changes import Change
from train.data import DataError, ImageRows, Row, open_data

#: Images of each kind, or as many as DATA or the other set has.
COUNT = 2000
SEED = 0

#: What strangers are stored as where DATA is stored without loss.
LOSSLESS = ("PNG", "BMP", "TIFF")

#: Values of the EXIF orientation that swap width and height.
SIDEWAYS = (5, 6, 7, 8)

#: Where other sets lie in the folder of sets, and what torchvision calls them.
DIGITS = ("mnist/test.parquet", "mnist:test")
PHOTOGRAPHS = ("cifar10/test.parquet", "cifar10:test")
LARGE_PHOTOGRAPHS = ("imagenet_samples/train.parquet", None)

#: Kinds made of images of another set.
OTHERS: dict[str, Change] = {
    "other-digits": changes.unchanged,
    "other-digits-inverted": changes.inversion,
    "other-photos": changes.unchanged,
}
#: Kinds made of images of DATA.
CHANGED: dict[str, Change] = {
    "vertical-flip": changes.vertical_flip,
    "rotation-90": changes.rotation_90,
    "gaussian-noise": changes.gaussian_noise,
    "mean-blur": changes.mean_blur,
    "contrast": changes.contrast,
    "inversion": changes.inversion,
    "permutation": changes.permutation,
    "constant": changes.constant,
    "uniform-noise": changes.uniform_noise,
    "shift-2": changes.shift,
}
NAMES = (*OTHERS, *CHANGED)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a set is stored: ``shape`` (C, H, W) and the options of Pillow's ``save``."""

    shape: tuple[int, int, int]
    options: Mapping[str, Any]

    @property
    def lossy(self) -> bool:
        """Whether encoding changes pixels."""
        return bool(self.options["format"] == "JPEG")

    def encode(self, pixels: UInt8Array) -> bytes:
        """Pixels (C, H, W) of any size as a file."""
        buffer = io.BytesIO()
        grey_or_rgb = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(grey_or_rgb)).save(buffer, **self.options)
        return buffer.getvalue()


def far13(data: str, strangers: Path | None = None) -> dict[str, ImageRows]:
    """The thirteen sets by name, in the order of ``NAMES``; rows have no labels.

    Of DATA and of each other set, n rows, sort(default_rng(0).permutation(n)[:count]) are drawn,
    where ``count`` is ``COUNT``, or n or the rows of DATA if those are fewer. Chance in the change
    to a set follows default_rng([0, *name in bytes]), row by row. Photographs are CIFAR-10's where
    DATA is grey, else ImageNet's.

    Other sets are read from ``strangers``, a folder of sets as Parquet, or else are torchvision's.
    Raises ``DataError`` for a set that is found in neither and for DATA whose way of storing images
    cannot be repeated. An image of another set that cannot be decoded is found on reading.
    """
    source = open_data(data)
    encoding = encoding_of(source)
    digits = _other(source.spec, DIGITS, strangers)
    place = PHOTOGRAPHS if encoding.shape[0] == 1 else LARGE_PHOTOGRAPHS
    photographs = _other(source.spec, place, strangers)
    kept = own_rows(source)
    count, own = len(kept), tuple(kept)  # read once for ten sets
    kept = replace(kept, read=lambda: iter(own), chunks=None)
    others = {name: photographs if name == "other-photos" else digits for name in OTHERS}
    return {name: _changed(name, others.get(name, kept), count, encoding) for name in NAMES}


def own_rows(source: ImageRows) -> ImageRows:
    """The rows of DATA that far13 changes, in their order."""
    count = min(COUNT, len(source))
    return replace(
        source, size=count, read=lambda: _drawn(source, count), read_labels=None, chunks=None
    )


def all_strangers(spec: str, data: str, strangers: Path | None = None) -> ImageRows:
    """The thirteen sets one after another; ``spec`` is what errors call them."""
    made = far13(data, strangers)

    def read() -> Iterator[Row]:
        for rows in made.values():
            yield from rows

    size = sum(len(rows) for rows in made.values())
    return ImageRows(spec=spec, size=size, class_labels=None, read=read)


def produced_by_training(training: Mapping[str, Any]) -> set[str]:
    """Names of the sets that training's own augmentation made, by its ``run.json`` or a bundle's
    ``training``; a model is not to be judged on these.

    Training that shifts by 2 pixels or more makes ``shift-2``; flips left to right make none. Of a
    model that this one began with nothing is known here.
    """
    return {"shift-2"} if training["config"].get("shift", 0) >= changes.SHIFT else set()


def encoding_of(rows: ImageRows) -> Encoding:
    """How the first image is stored: JPEG by its quantisation tables and chroma subsampling, what
    is stored without loss as PNG.

    Raises ``DataError`` for GIF and WebP, whose loss cannot be repeated, and where there is none.
    """
    first = next(iter(rows), None)
    if first is None:
        raise DataError(f"{rows.spec}: found no images, expected some to make strangers from")
    _decoded(rows.spec, first, (1, 1, 1))  # so that nothing below meets a damaged file
    image = _opened(first)
    options = _options(image)
    if options is None:
        raise DataError(
            f"{rows.spec}: {first.id} is {image.format}, whose loss cannot be repeated in "
            f"strangers: expected JPEG or one of {', '.join(LOSSLESS)}; convert the images"
        )
    return Encoding(shape=_shape(image), options=options)


def alike(rows: ImageRows, encoding: Encoding) -> bool:
    """Whether all rows have the size and colour of ``encoding`` and are JPEG if it is.

    JPEG of other quality passes. Reads headers alone; a file that cannot be opened is not alike.
    """
    try:
        return all(
            _shape(image) == encoding.shape
            and isinstance(image, JpegImagePlugin.JpegImageFile) == encoding.lossy
            for image in map(_opened, rows)
        )
    except Exception:  # whatever a decoder raises on hostile bytes
        return False


def stored_like(rows: ImageRows, encoding: Encoding) -> ImageRows:
    """The rows at the size and colour of ``encoding`` and stored so; what is already stays.

    A row that cannot be decoded raises ``DataError`` on reading.
    """

    def read() -> Iterator[Row]:
        for row in rows:
            pixels = _decoded(rows.spec, row, encoding.shape)  # first, for a damaged file
            image = _opened(row)
            if _shape(image) != encoding.shape or _options(image) != encoding.options:
                row = replace(row, image=encoding.encode(pixels), exact=False)
            yield row

    return replace(rows, read=read, read_labels=rows.labels, chunks=None)


def _opened(row: Row) -> Image.Image:
    """The image, of which the header alone is read."""
    return Image.open(io.BytesIO(row.image), formats=FORMATS)


def _options(image: Image.Image) -> dict[str, Any] | None:
    """What Pillow's ``save`` takes to store images as this one; None where its loss is unknown."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        tables = [image.quantization[i] for i in sorted(image.quantization)]
        subsampling = JpegImagePlugin.get_sampling(image)
        return {"format": "JPEG", "qtables": tables, "subsampling": subsampling}
    return {"format": "PNG", "compress_level": 1} if image.format in LOSSLESS else None


def _shape(image: Image.Image) -> tuple[int, int, int]:
    """(C, H, W) of the image as it is decoded, from its header."""
    grey = image.mode in GREY_MODES or image.mode.startswith("I;16")
    turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    width, height = reversed(image.size) if turned else image.size
    return (1 if grey else 3, height, width)


def _other(spec: str, place: tuple[str, str | None], strangers: Path | None) -> ImageRows:
    """Another set, in the folder of sets or torchvision's."""
    path, name = place
    if strangers is not None and not strangers.is_dir():
        raise DataError(f"--strangers {strangers}: not a folder; expected one with {path}")
    if strangers is not None and (strangers / path).is_file():
        return open_data(str(strangers / path))
    wanted = (
        f"strangers to {spec} are made of {path}: give the folder that holds it by --strangers, "
        "where the command has that"
    )
    if name is None:
        raise DataError(f"{wanted}; torchvision has no such set")
    try:
        return open_data(name)
    except DataError as error:
        raise DataError(f"{wanted} ({error})") from error


def _drawn(rows: ImageRows, count: int) -> Iterator[Row]:
    """``count`` of the rows, or all where there are fewer, in their order."""
    chosen = set(np.random.default_rng(SEED).permutation(len(rows))[:count].tolist())
    return (row for i, row in enumerate(rows) if i in chosen)


def _changed(name: str, rows: ImageRows, count: int, encoding: Encoding) -> ImageRows:
    """The set ``name`` of ``count`` of the rows: at the size and colour of DATA, stored alike."""
    spec = f"far13 {name} from {rows.spec}"
    change = (OTHERS | CHANGED)[name]

    def read() -> Iterator[Row]:
        random = np.random.default_rng([SEED, *name.encode()])
        for row in _drawn(rows, count):
            pixels = change(_decoded(spec, row, encoding.shape), random)
            identity = f"far13/{name}/{row.id.lstrip('/')}"
            yield Row(id=identity, image=encoding.encode(pixels), label=None)

    return ImageRows(spec=spec, size=min(count, len(rows)), class_labels=None, read=read)


def _decoded(spec: str, row: Row, shape: tuple[int, int, int]) -> UInt8Array:
    try:
        return decode(row.image, InputSpec(shape=shape))
    except ImageError as error:
        raise DataError(f"{spec}: {row.id}: {error}") from error

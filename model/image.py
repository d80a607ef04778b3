"""The input contract: encoded bytes to the uint8 pixels a model was trained on.

One path for training, serving and batch: decode, orient by EXIF, bring to the model's channels,
resize with antialiasing. It does not scale or dequantise pixels (see ``model.quantize``) and it
does not limit the number of bytes, which each face of the service does before calling it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from model.image_structure import StructureError, check_directory, check_structure

UInt8Array = npt.NDArray[np.uint8]

#: Container formats that are decoded; anything else is refused before its decoder runs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

#: Largest width x height that is decoded, unless the caller asks for less.
MAX_PIXELS = 50_000_000

#: Longest side; resizing a line of many millions of pixels takes longer than any photograph.
MAX_SIDE = 20_000

#: A progressive JPEG may repeat scans of a few bytes, each as dear to decode as the whole image;
#: encoders write about ten.
MAX_JPEG_SCANS = 100

#: How a file begins whose decoder tells a cut header from a foreign format.
_SIGNATURES = {
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "GIF": re.compile(rb"GIF8"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
}

#: Pixel modes whose values have a known range and meaning; 16-bit grey comes on top.
_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}


class ImageError(ValueError):
    """An input that is not a usable image; the message names the fault and the remedy."""

    code = "bad_image"


class EmptyImageError(ImageError):
    """No bytes at all."""

    code = "empty_image"


class NotAnImageError(ImageError):
    """Bytes in none of the accepted formats."""

    code = "not_an_image"


class TruncatedImageError(ImageError):
    """A known format whose pixels cannot be read to the end."""

    code = "truncated_image"


class ImageTooLargeError(ImageError):
    """More pixels than the limit, found in the header before any pixel is decoded."""

    code = "image_too_large"


class ImageShapeError(ImageError):
    """Raw pixels that are not of the model's exact size and type."""

    code = "bad_shape"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes: the preprocessing that travels with its weights.

    ``shape`` is (channels, height, width) with 1 or 3 channels, ``levels`` the number of grey
    values that the model tells apart. Images of another size are stretched to it by bilinear
    interpolation with antialiasing: nothing is cropped away, since a gate must see the whole image.
    """

    shape: tuple[int, int, int]
    levels: int = 256

    def __post_init__(self) -> None:
        """Refuse a shape that no image can be brought to."""
        channels, height, width = self.shape
        if channels not in (1, 3) or min(height, width) < 1:
            raise ValueError(f"input shape {self.shape}: expected (1 or 3, height, width)")

    def digest(self) -> str:
        """SHA-256 in hexadecimal of shape, levels and ``describe``: what a calibration is bound to.

        Another version of this code that treats images otherwise describes it otherwise.
        """
        content = {"shape": self.shape, "levels": self.levels, **self.describe()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, str]:
        """What is done to an image, in words, for the record in a bundle."""
        channels, height, width = self.shape
        colour = "grey by ITU-R 601-2 luma" if channels == 1 else "RGB"
        return {
            "decode": "first frame, EXIF orientation applied, alpha over white, 16 to 8 bits",
            "channels": colour,
            "resize": f"stretched to {height} x {width}, bilinear with antialiasing",
        }


def decode(
    data: bytes, spec: InputSpec, max_pixels: int = MAX_PIXELS, *, exact: bool = False
) -> UInt8Array:
    """Encoded image to uint8 (C, H, W) in [0, 255] as ``spec`` asks.

    ``exact``: it is a raw tensor in 8-bit grey or RGB, of which another size or number of channels
    is refused, as ``checked_pixels`` does. Raises an ``ImageError`` for that and for empty,
    foreign, truncated or oversized input, and for nothing else: whatever a decoder raises on
    hostile bytes becomes one.
    """
    image = _open(data, max_pixels)
    found = (1 if image.mode == "L" else 3, image.height, image.width)
    if exact and found != spec.shape:
        raise ImageShapeError(
            f"pixels of shape {list(found)}: expected {list(spec.shape)} (channels, height, width) "
            "exactly; give encoded images to have them resized"
        )
    return _decoded(image, lambda _: spec.shape)


def decode_within(data: bytes, side: int, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Encoded image to uint8 (3, h, w) in [0, 255], made smaller where a side is over ``side``.

    For people to look at: it keeps its shape, as no model's input does. Raises as ``decode`` does.
    """

    def fitted(image: Image.Image) -> tuple[int, int, int]:
        scale = min(1.0, side / max(image.size))
        return 3, max(1, round(image.height * scale)), max(1, round(image.width * scale))

    return _decoded(_open(data, max_pixels), fitted)


def decode_covering(
    data: bytes, shape: tuple[int, int, int], max_pixels: int = MAX_PIXELS
) -> UInt8Array:
    """Encoded image to uint8 (C, h, w) in [0, 255] with the channels of ``shape``, (C, H, W).

    To be cropped: it keeps its shape and is made smaller, where h > H and w > W, until one of them
    is no longer; never larger. Raises as ``decode`` does.
    """
    channels, height, width = shape

    def fitted(image: Image.Image) -> tuple[int, int, int]:
        scale = min(1.0, max(height / image.height, width / image.width))
        return channels, round(image.height * scale), round(image.width * scale)

    return _decoded(_open(data, max_pixels), fitted)


def decode_all(
    images: Sequence[bytes], spec: InputSpec, max_pixels: int = MAX_PIXELS
) -> UInt8Array:
    """Encoded images to uint8 (n, C, H, W); ``max_pixels`` is what they may have together.

    All headers are read before the first pixel is decoded. Raises the ``ImageError`` of the first
    image that is not usable, with its place in the sequence where there are several.
    """
    opened, pixels = [], 0
    for place, data in enumerate(images):
        with _at(place, len(images)):
            image = _open(data, max_pixels)
        pixels += image.width * image.height
        if pixels > max_pixels:
            raise ImageTooLargeError(
                f"the images have more than {max_pixels:,} pixels together: send fewer at once"
            )
        opened.append(image)
    decoded = np.empty((len(images), *spec.shape), dtype=np.uint8)
    for place, image in enumerate(opened):
        with _at(place, len(images)):
            decoded[place] = _decoded(image, lambda _: spec.shape)
    return decoded


@contextlib.contextmanager
def _at(place: int, count: int) -> Iterator[None]:
    """Say of an error which of several images it is about."""
    try:
        yield
    except ImageError as error:
        if count == 1:
            raise
        raise type(error)(f"image {place}: {error}") from error


def checked_pixels(pixels: npt.NDArray[np.generic], spec: InputSpec) -> UInt8Array:
    """Raw pixels (n, C, H, W) or (n, H, W, C), exactly of the model's size, to (n, C, H, W).

    Where a shape could be either it is read as (n, C, H, W). Raises ``ImageShapeError`` for any
    other shape and any type but uint8: nothing is resized or scaled.
    """
    channels, height, width = spec.shape
    if pixels.dtype != np.uint8:
        raise ImageShapeError(f"pixels of type {pixels.dtype}: expected uint8 in 0 to 255")
    if pixels.ndim == 4 and pixels.shape[1:] == spec.shape:
        return np.ascontiguousarray(pixels)
    if pixels.ndim == 4 and pixels.shape[1:] == (height, width, channels):
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    raise ImageShapeError(
        f"pixels of shape {list(pixels.shape)}: expected [n, {channels}, {height}, {width}] or "
        f"[n, {height}, {width}, {channels}]; send encoded images to have them resized"
    )


def _decoded(
    image: Image.Image, shape_of: Callable[[Image.Image], tuple[int, int, int]]
) -> UInt8Array:
    """``shape_of``: what the upright image is brought to."""
    try:
        check_directory(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
        upright = ImageOps.exif_transpose(image)
        return _pixels(upright, shape_of(upright))
    except StructureError as error:
        raise ImageTooLargeError(f"the image {error}: save it again without them") from error
    except ImageError:
        raise
    except Exception as error:  # whatever a decoder raises on hostile bytes
        raise TruncatedImageError(
            f"the {image.format} image is truncated or damaged: its pixels could not be read to "
            "the end; send the complete file"
        ) from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header only; the pixel count is checked before any pixel is decoded."""
    if not data:
        raise EmptyImageError("the image is empty: expected the bytes of an encoded image")
    # damaged metadata does not touch the pixels; not catch_warnings, which threads undo for others
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        check_structure(data)
    except StructureError as error:
        raise ImageTooLargeError(f"the image {error}: save it again without them") from error
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(
            f"the image has too many pixels: expected at most {max_pixels:,}; send a smaller one"
        ) from error
    except Exception as error:  # unknown bytes, or a decoder's own failure on hostile ones
        raise _unreadable(data) from error
    width, height = image.size
    if width * height == 0:
        raise NotAnImageError(f"the image is {width} x {height}: expected at least one pixel")
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageTooLargeError(
            f"the image is {width} x {height}, {width * height:,} pixels: expected at most "
            f"{max_pixels:,} and no side over {MAX_SIDE:,}; send a smaller one"
        )
    if data.startswith(b"\xff\xd8\xff") and data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise ImageTooLargeError(
            f"the JPEG image has more than {MAX_JPEG_SCANS} scans: save it again without them"
        )
    return image


def _unreadable(data: bytes) -> ImageError:
    """What is wrong with bytes that no decoder opens."""
    for name, signature in _SIGNATURES.items():
        if signature.match(data):
            return TruncatedImageError(
                f"the {name} image is truncated or damaged: its header cannot be read or declares "
                "no pixels; send the complete file"
            )
    return NotAnImageError(
        f"{len(data)} bytes that are not an image: expected one of {', '.join(FORMATS)}"
    )


def _pixels(image: Image.Image, shape: tuple[int, int, int]) -> UInt8Array:
    """First frame to uint8 (C, H, W): alpha over white, grey by luma (ITU-R 601-2).

    Resized in Pillow's integer arithmetic: the same pixels, and so the same content hash and
    score, on every processor, which vectorised float or uint8 kernels do not give.
    """
    channels, height, width = shape
    if image.mode.startswith("I;16"):
        wide = np.asarray(image, dtype=np.uint32)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode not in _MODES:
        raise ImageError(
            f"pixels of mode {image.mode} are not decoded: save the image as 8-bit grey or RGB"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba).convert("RGB")
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.array(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

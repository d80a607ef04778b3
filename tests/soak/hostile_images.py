"""Encoded images: good ones in every format, and those that were made to hurt a decoder."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

#: Width and height that no service decodes.
HUGE = 60_000


def seeds() -> list[bytes]:
    """Small good images: every format that is decoded, in several modes."""
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (40, 24, 3), dtype=np.uint8))
    frames = [colour.rotate(angle).quantize(16) for angle in (0, 90, 180)]
    deep = Image.fromarray(rng.integers(0, 65536, (28, 28), dtype=np.uint16))
    return [
        _encoded(grey, "PNG"),
        _encoded(colour.convert("RGBA"), "PNG"),
        _encoded(colour.quantize(16), "PNG", bits=4),
        _encoded(deep, "PNG"),
        _encoded(colour, "JPEG", quality=75, exif=_turned()),
        _encoded(colour, "JPEG", progressive=True),
        _encoded(colour.convert("CMYK"), "JPEG"),
        _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0),
        _encoded(colour, "WEBP", quality=50),
        _encoded(colour.convert("RGBA"), "WEBP", lossless=True),
        _encoded(colour, "WEBP", save_all=True, append_images=[colour.rotate(90)]),
        _encoded(colour, "BMP"),
        _encoded(colour.quantize(16), "BMP"),
        _encoded(colour, "TIFF"),
        _encoded(colour, "TIFF", compression="tiff_lzw"),
        _encoded(colour, "TIFF", compression="tiff_deflate"),
        _encoded(deep, "TIFF"),
    ]


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def huge_png() -> bytes:
    """A header that claims 60,000 x 60,000 pixels, with a good checksum and few bytes behind it."""
    return _png(HUGE, HUGE, zlib.compress(bytes(100_000)))


def bomb_png() -> bytes:
    """As many pixels as are decoded, in some kilobytes."""
    side = 4_900
    return _png(side, side, zlib.compress(bytes(side * (side + 1)), 9))


def chunky_png() -> bytes:
    """A hundred thousand chunks of text before the first pixel."""
    good = _png(28, 28, zlib.compress(bytes(28 * 29)))
    return good[:33] + _chunk(b"tEXt", b"a\0b") * 100_000 + good[33:]


def text_bomb_png() -> bytes:
    """Compressed text that unpacks to a hundred megabytes."""
    good = _png(28, 28, zlib.compress(bytes(28 * 29)))
    text = b"a\0\0" + zlib.compress(bytes(100_000_000), 9)
    return good[:33] + _chunk(b"zTXt", text) + good[33:]


def _png(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def endless_gif() -> bytes:
    """Frame after frame, megabytes of them, and no end."""
    good = seeds()[7]
    first = good.index(b"\x2c")
    return good[:first] + good[first:-1] * (4_000_000 // (len(good) - first))


def unended_gif() -> bytes:
    """An application block that goes on for megabytes."""
    return seeds()[7][:13] + b"\x21\xff" + (b"\xff" + bytes(255)) * 15_000


def many_scans_jpeg() -> bytes:
    """A progressive JPEG of a large image whose last scan is there two thousand times."""
    good = _encoded(Image.new("L", (4_000, 4_000), 128), "JPEG", progressive=True)
    last = good.rindex(b"\xff\xda")
    return good[:last] + good[last:-2] * 2_000 + b"\xff\xd9"


def huge(seed: int) -> Callable[[], bytes]:
    """A good image whose header claims 60,000 x 60,000: the place of its numbers by format."""

    def made() -> bytes:
        data = bytearray(seeds()[seed])
        if data[:2] == b"\xff\xd8":
            place = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) + 5
            data[place : place + 4] = struct.pack(">HH", HUGE, HUGE)
        elif data[:3] == b"GIF":
            data[6:10] = struct.pack("<HH", HUGE, HUGE)
        elif data[:2] == b"BM":
            data[18:26] = struct.pack("<ii", HUGE, HUGE)
        elif data[:4] == b"II*\0":
            _set_tiff(data, 256, HUGE)
            _set_tiff(data, 257, HUGE)
        else:
            raise ValueError(f"no rule for {bytes(data[:4])!r}")
        return bytes(data)

    return made


def _set_tiff(data: bytearray, tag: int, value: int) -> None:
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    for i in range(entries):
        place = directory + 2 + 12 * i
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<HII", data, place + 2, 4, 1, value)


#: Name to image; each must cost little and be refused by name, or decoded.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "huge PNG": huge_png,
    "huge JPEG": huge(4),
    "huge GIF": huge(7),
    "huge BMP": huge(11),
    "huge TIFF": huge(13),
    "bomb PNG": bomb_png,
    "PNG of many chunks": chunky_png,
    "PNG with a bomb of text": text_bomb_png,
    "endless GIF": endless_gif,
    "GIF with an unended block": unended_gif,
    "JPEG of many scans": many_scans_jpeg,
    "empty": lambda: b"",
    "one byte": lambda: b"\x89",
    "text": lambda: b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
}

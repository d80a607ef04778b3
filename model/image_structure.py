"""What an encoded image is made of, counted before a decoder walks it.

Decoders go through chunks, segments and directories one by one, in loops that cost about a
microsecond a part; a few megabytes can hold millions of them, or a directory whose entries all mean
the same megabytes. Encoders write tens to thousands. This walks the same parts, gives up at a
bound, and reads no pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

#: Parts of one file: an image of 10 MB in chunks of 8 kB has 1,300.
MAX_PARTS = 5_000

#: Bytes that a directory's entries may mean together, where the file itself is not larger.
MAX_METADATA = 64 * 1024 * 1024

_TIFF_ORDER = {b"II*\0": "<", b"MM\0*": ">"}
#: Kinds of TIFF that are decoded nowhere here: of 64 bits, or with their magic number turned round.
_OTHER_TIFF = (b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
#: Bytes of one value, by the type of a TIFF entry.
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

_PNG, _JPEG, _GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", (b"GIF87a", b"GIF89a")


class StructureError(ValueError):
    """More parts than any encoder writes, or parts that cannot be; the message says which."""


def check_structure(data: bytes) -> None:
    """Raise ``StructureError`` for a file that would cost a decoder more than its pixels do.

    Formats that are walked in compiled code, and what is no image, pass.
    """
    if data.startswith(_PNG):
        _count(_png_chunks(data), "chunks")
    elif data.startswith(_JPEG):
        _count(_jpeg_segments(data), "segments")
    elif data.startswith(_GIF):
        _count(_gif_blocks(data), "blocks before its first frame")
    elif data.startswith(_OTHER_TIFF):
        raise StructureError("is of a kind of TIFF that is not decoded")
    elif data[:4] in _TIFF_ORDER:
        check_directory(data)


def check_directory(data: bytes) -> None:
    """The same for a TIFF's first directory, which is also what EXIF data are."""
    order = _TIFF_ORDER.get(data[:4])
    if order is None or len(data) < 8:
        return
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    if at + 2 > len(data):
        return
    (entries,) = struct.unpack_from(f"{order}H", data, at)
    if entries > MAX_PARTS:
        raise StructureError(f"has more than {MAX_PARTS:,} entries of metadata")
    total = 0
    for place in range(at + 2, min(at + 2 + 12 * entries, len(data) - 11), 12):
        _, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        total += min(_TIFF_SIZES.get(kind, 1) * count, len(data))
    if total > max(MAX_METADATA, len(data)):
        raise StructureError(f"has metadata that unpack to more than {MAX_METADATA:,} bytes")


def _count(parts: Iterator[None], what: str) -> None:
    for number, _ in enumerate(parts, start=1):
        if number > MAX_PARTS:
            raise StructureError(f"has more than {MAX_PARTS:,} {what}")


def _png_chunks(data: bytes) -> Iterator[None]:
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield
        if kind == b"IEND":
            return
        at += 12 + length


def _jpeg_segments(data: bytes) -> Iterator[None]:
    """Up to the first scan; a byte that is no marker is a part, too, as decoders skip it alone."""
    at = 2
    while at + 4 <= len(data):
        yield
        if data[at] != 0xFF or data[at + 1] in (0xFF, 0x00):
            at += 1
        elif data[at + 1] == 0xDA:
            return
        elif data[at + 1] == 0x01 or 0xD0 <= data[at + 1] <= 0xD8:
            at += 2
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])


def _gif_blocks(data: bytes) -> Iterator[None]:
    """Up to the first frame: blocks, the pieces of extensions, and bytes that are neither."""
    if len(data) < 13:
        return
    flags = data[10]
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while at < len(data) and data[at] not in (0x2C, 0x3B):
        yield
        if data[at] != 0x21:
            at += 1
            continue
        at += 2
        while at < len(data) and data[at]:
            yield
            at += 1 + data[at]
        at += 1

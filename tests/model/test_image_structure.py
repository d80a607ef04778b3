import io
import struct

import numpy as np
import pytest
from PIL import Image

from model.image import ImageError, ImageTooLargeError, InputSpec, decode
from model.image_structure import MAX_PARTS, StructureError, check_directory, check_structure
from tests.soak import hostile_images

SPEC = InputSpec(shape=(3, 28, 28))


def tiff(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """A file of one directory; an entry is tag, type, count, value."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(entries))
    directory += b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return magic + struct.pack(f"{order}I", 8) + directory + bytes(4)


def jpeg(*segments: bytes) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(out, "JPEG")
    good = out.getvalue()
    return good[:2] + b"".join(segments) + good[2:]


#: Entries that all mean the same megabyte.
SAME = [(n, 12, 2**17, 0) for n in range(100)]

HOSTILE = {
    "a PNG of a hundred thousand texts": hostile_images.chunky_png(),
    "a GIF of megabytes before a frame": hostile_images.unended_gif(),
    "a JPEG of comments": jpeg(b"\xff\xfe\x00\x02" * 100_000),
    "a JPEG with megabytes between its segments": jpeg(bytes(3_000_000)),
    "a GIF of an extension in a million pieces": b"GIF89a"
    + bytes(7)
    + b"\x21\xff"
    + b"\x01a" * 10**6,
    "a TIFF of many entries": tiff(*[(n, 1, 1, 0) for n in range(MAX_PARTS + 1)]),
    "a TIFF whose entries are all the same bytes": tiff(*SAME) + bytes(2**20),
    "the same, big-endian": tiff(*SAME, order=">") + bytes(2**20),
    "a TIFF of 64 bits": b"II+\0" + bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_too_many_parts_is_refused_without_a_decoder(name: str) -> None:
    with pytest.raises(StructureError):
        check_structure(HOSTILE[name])
    with pytest.raises(ImageTooLargeError):
        decode(HOSTILE[name], SPEC)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_orientation_that_unpacks_to_far_more_than_the_image_is_refused(kind: str) -> None:
    exif = b"Exif\0\0" + tiff(*SAME) + bytes(2**20)
    out = io.BytesIO()
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(out, kind, exif=exif)
    with pytest.raises(ImageTooLargeError, match="metadata that unpack"):
        decode(out.getvalue(), SPEC)


def test_good_images_of_every_format_pass() -> None:
    for image in hostile_images.seeds():
        check_structure(image)
        assert decode(image, SPEC).shape == SPEC.shape


def test_no_cut_or_change_of_a_file_raises_anything_else() -> None:
    draw = np.random.default_rng(0)
    for image in (*hostile_images.seeds(), tiff((274, 3, 1, 6))):
        for _ in range(200):
            changed = bytearray(image[: draw.integers(len(image)) + 1])
            changed[draw.integers(len(changed))] = draw.integers(256)
            try:
                check_structure(bytes(changed))
                check_directory(bytes(changed))
                decode(bytes(changed), SPEC)
            except (StructureError, ImageError):
                continue

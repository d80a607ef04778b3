"""Hostile, damaged and oversized bytes: an ``ImageError`` that names the fault, nothing else."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.image import (
    FORMATS,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    InputSpec,
    NotAnImageError,
    TruncatedImageError,
    decode,
)

GREY, RGB = InputSpec(shape=(1, 6, 4)), InputSpec(shape=(3, 6, 4))


def valid(format: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that declares a size, with whatever follows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


def test_no_bytes() -> None:
    with pytest.raises(EmptyImageError, match="empty"):
        decode(b"", GREY)


@pytest.mark.parametrize("data", [b"\0", b"hello", b"<svg/>", b"%PDF-1.7", b"BM", b"RIFF"])
def test_not_an_image(data: bytes) -> None:
    with pytest.raises(NotAnImageError, match="expected one of PNG, JPEG"):
        decode(data, GREY)


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "PCX"])
def test_formats_that_are_not_accepted(format: str) -> None:
    with pytest.raises(NotAnImageError):
        decode(valid(format), GREY)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("format", FORMATS)
def test_truncation_is_found(format: str, share: float) -> None:
    data = valid(format)
    with pytest.raises(TruncatedImageError, match=f"the {format} image is truncated"):
        decode(data[: int(share * len(data))], GREY)


@pytest.mark.parametrize("mode", ["LAB", "I", "F"])
def test_pixels_of_unknown_meaning_are_refused(mode: str) -> None:
    stream = io.BytesIO()
    Image.new(mode, (8, 8)).save(stream, "TIFF")
    with pytest.raises(ImageError, match=f"pixels of mode {mode} are not decoded"):
        decode(stream.getvalue(), GREY)


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 20}])
def test_truncated_jpegs_of_other_kinds(options: dict[str, object]) -> None:
    data = valid("JPEG", **options)
    with pytest.raises(TruncatedImageError):
        decode(data[: len(data) // 2], GREY)


@pytest.mark.parametrize("declared", [(60_000, 60_000), (20_001, 1), (20_000, 2_501)])
def test_size_is_judged_by_the_header(declared: tuple[int, int]) -> None:
    tiny = png(*declared, chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    with pytest.raises(ImageTooLargeError, match=r"expected at most 50,000,000"):
        decode(tiny, GREY)


def test_the_caller_may_ask_for_a_lower_limit() -> None:
    assert decode(valid("PNG"), GREY, max_pixels=1200).shape == GREY.shape
    with pytest.raises(ImageTooLargeError, match="40, 1,200 pixels: expected at most 1,199"):
        decode(valid("PNG"), GREY, max_pixels=1199)


@pytest.mark.parametrize("declared", [(0, 5), (5, 0), (0, 0)])
def test_no_pixels(declared: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="declares no pixels"):
        decode(png(*declared, chunk(b"IDAT", b""), chunk(b"IEND", b"")), GREY)


def test_a_png_without_pixels() -> None:
    with pytest.raises(TruncatedImageError):
        decode(png(4, 6), GREY)


def test_each_error_has_its_own_code() -> None:
    kinds = (
        ImageError,
        EmptyImageError,
        NotAnImageError,
        TruncatedImageError,
        ImageTooLargeError,
    )
    assert len({kind.code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_in_a_text_chunk(kind: bytes) -> None:
    """Sixty-four MB of text in 64 kB: refused or ignored, never unpacked whole."""
    packed = zlib.compress(b"\0" * 64_000_000, 9)
    heads = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}
    pixels = zlib.compress(b"".join(b"\0" + bytes(4) for _ in range(6)))
    parts = [chunk(kind, heads[kind] + packed)] * 4
    data = png(4, 6, *parts, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    accepted_or_refused(data)


def test_a_bomb_of_pixels() -> None:
    """More pixel data than the header declares is not unpacked."""
    data = png(4, 6, chunk(b"IDAT", zlib.compress(b"\0" * 64_000_000, 9)), chunk(b"IEND", b""))
    accepted_or_refused(data)


def test_a_jpeg_of_endless_scans() -> None:
    """A progressive JPEG may repeat scans for ever, each of them as dear as the whole image."""
    data = valid("JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    scan = data[first : data.index(b"\xff", first + 2)]
    with pytest.raises(ImageError, match="scans"):
        decode(data[:-2] + scan * 2000 + data[-2:], GREY)


def test_damaged_metadata_does_not_matter() -> None:
    exif = b"Exif\0\0" + bytes(range(60))
    found = decode(valid("JPEG", exif=exif), GREY)
    np.testing.assert_array_equal(found, decode(valid("JPEG"), GREY))


def test_no_warning_escapes_from_threads() -> None:
    """Warnings are errors here, so one that escaped would be a refusal of a good image."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x09" + bytes(range(40))
    data, refused = valid("JPEG", exif=exif), []

    def work() -> None:
        for _ in range(30):
            try:
                decode(data, GREY)
            except ImageError as error:  # pragma: no cover
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


def accepted_or_refused(data: bytes) -> None:
    """A valid array or an ``ImageError``; an exception of another kind fails the test."""
    for spec in (GREY, RGB):
        try:
            found = decode(data, spec, max_pixels=1_000_000)
        except ImageError:
            continue
        assert found.shape == spec.shape
        assert found.dtype == np.uint8


SIGNATURES = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF"]


@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(st.sampled_from([b"", *SIGNATURES]), st.binary(max_size=200))
def test_random_bytes(signature: bytes, rest: bytes) -> None:
    accepted_or_refused(signature + rest)


VALID = {
    **{format: valid(format) for format in FORMATS},
    "progressive": valid("JPEG", progressive=True),
    "exif": valid("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"),
    "deflated TIFF": valid("TIFF", compression="tiff_deflate"),
    "LZW TIFF": valid("TIFF", compression="tiff_lzw"),
    "JPEG TIFF": valid("TIFF", compression="jpeg"),
}


@settings(derandomize=True, deadline=None, max_examples=250, database=None)
@given(
    st.sampled_from(sorted(VALID)),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_damaged_images(name: str, damages: list[tuple[int, int]], early: bool) -> None:
    """Some bytes replaced, in half of the cases among the first hundred, where headers are."""
    data = bytearray(VALID[name])
    for position, value in damages:
        data[position % min(len(data), 100 if early else len(data))] = value
    accepted_or_refused(bytes(data))


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(st.sampled_from(sorted(VALID)), st.floats(0, 1))
def test_cut_images(name: str, share: float) -> None:
    data = VALID[name]
    accepted_or_refused(data[: int(share * len(data))])

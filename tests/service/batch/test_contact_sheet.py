"""The sheet of images: each in its place, as it is, whatever its bytes and its caption are."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model.image import UInt8Array
from service.batch.atypical import Atypical
from service.batch.contact_sheet import (
    COLUMNS,
    GAP,
    LINE,
    LINES,
    SIDE,
    caption_of,
    contact_sheet,
    short_id,
)

GREY = (0x9A, 0xA0, 0xA6)


def encoded(pixels: UInt8Array, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def plain(height: int, width: int, colour: tuple[int, int, int]) -> bytes:
    return encoded(np.full((height, width, 3), colour, dtype=np.uint8))


def opened(sheet: bytes) -> UInt8Array:
    with Image.open(io.BytesIO(sheet)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def cell(pixels: UInt8Array, i: int) -> UInt8Array:
    row, column = divmod(i, COLUMNS)
    y = GAP + row * (SIDE + LINES * LINE + 2 * GAP)
    x = GAP + column * (SIDE + GAP)
    return pixels[y : y + SIDE, x : x + SIDE]


def test_images_have_their_places() -> None:
    colours = [(i * 25, 255 - i * 25, 40) for i in range(COLUMNS + 3)]
    pixels = opened(contact_sheet([(plain(32, 32, colour), "") for colour in colours]))
    for i, colour in enumerate(colours):
        assert (cell(pixels, i) == colour).all()


def test_small_images_keep_their_pixels_and_shape() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, 28, 3), dtype=np.uint8)
    found = cell(opened(contact_sheet([(encoded(small), "small")])), 0)
    height, width = 20 * 5, 28 * 5
    y, x = (SIDE - height) // 2, (SIDE - width) // 2
    inside = found[y : y + height, x : x + width]
    np.testing.assert_array_equal(inside[2::5, 2::5], small)
    assert (found[:y] == 255).all()


@pytest.mark.parametrize(("height", "width"), [(1, 4000), (4000, 1), (700, 350), (161, 161)])
def test_large_images_are_made_smaller(height: int, width: int) -> None:
    found = cell(opened(contact_sheet([(plain(height, width, (9, 99, 9)), "")])), 0)
    inside = (found == (9, 99, 9)).all(axis=2)
    scale = SIDE / max(height, width)
    assert inside.any(axis=1).sum() == max(1, round(height * scale))
    assert inside.any(axis=0).sum() == max(1, round(width * scale))


@pytest.mark.parametrize(
    "data", [None, b"", b"junk", plain(8, 8, (1, 2, 3))[:40], b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_what_is_no_image_is_a_grey_cell(data: bytes | None) -> None:
    entries = [(data, "broken"), (plain(32, 32, (0, 0, 0)), "whole")]
    pixels = opened(contact_sheet(entries))
    found = cell(pixels, 0)
    assert (found[: SIDE // 4] == GREY).all()
    assert not (found == GREY).all()  # it says so
    assert (cell(pixels, 1) == 0).all()


def test_captions_are_drawn_and_stay_in_their_cell() -> None:
    image = plain(32, 32, (0, 0, 0))
    long = "W" * 100_000 + "\n" + "犬\x00\x1b[2J\u202e" * 9 + "\nc\nfourth"
    entries = [(image, long), (image, ""), (image, "")]
    pixels = opened(contact_sheet(entries))
    below = pixels[GAP + SIDE :, :]
    second = GAP + SIDE + GAP
    assert (below[:, :second] != 255).any()
    assert (below[:, second:] == 255).all()
    assert contact_sheet(entries) == contact_sheet(entries)


def test_no_image_at_all_is_an_empty_sheet() -> None:
    assert (opened(contact_sheet([])) == 255).all()


def test_a_caption_says_what_it_is() -> None:
    one = Atypical(
        row=3,
        id="a/very/long/folder/of/images/cat\n-1.png",
        p_value=1 / 601,
        score=math.nan,
        class_label="cat",
        label=None,
    )
    assert caption_of(one) == "p = 0.00166\ncat\n...f/images/cat?-1.png"
    assert "cat (is dog)" in caption_of(replace(one, label="dog"))
    assert len(short_id(one.id)) == 22
    assert short_id(one.id).endswith("cat?-1.png")
    assert short_id("1.png") == "1.png"

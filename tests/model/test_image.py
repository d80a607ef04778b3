"""Encoded images to the pixels of a model: formats, orientation, channels, size."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model.image import ImageError, InputSpec, decode, decode_covering, decode_within

GREY, RGB = InputSpec(shape=(1, 6, 4)), InputSpec(shape=(3, 6, 4))
Pixels = npt.NDArray[Any]


def encoded(pixels: Pixels | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def grey(seed: int = 0, shape: tuple[int, ...] = (6, 4)) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth() -> Pixels:
    """Kind to lossy formats."""
    return np.linspace(40, 200, 24).reshape(6, 4).astype(np.uint8)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF"])
def test_lossless_formats_give_their_pixels(format: str) -> None:
    np.testing.assert_array_equal(decode(encoded(grey(), format), GREY), grey()[None])


def test_lossless_webp_gives_its_pixels() -> None:
    colour = grey(shape=(6, 4, 3))
    found = decode(encoded(colour, "WEBP", lossless=True, exact=True), RGB)
    np.testing.assert_array_equal(found, colour.transpose(2, 0, 1))


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(format: str) -> None:
    found = decode(encoded(smooth(), format, quality=95), GREY).astype(int)
    assert np.abs(found[0] - smooth()).max() <= 6


def test_colour_is_channels_first() -> None:
    colour = grey(shape=(6, 4, 3))
    found = decode(encoded(colour), RGB)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, colour.transpose(2, 0, 1))


def test_colour_becomes_grey_by_luma() -> None:
    colour = grey(shape=(6, 4, 3))
    luma = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(encoded(colour), GREY)[0] - luma).max() <= 1


def test_grey_becomes_colour_by_repetition() -> None:
    found = decode(encoded(grey()), RGB)
    np.testing.assert_array_equal(found, np.repeat(grey()[None], 3, axis=0))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:
    """A picture whose top left corner is black, stored as each orientation would store it."""
    upright = np.full((6, 4, 3), 255, np.uint8)
    upright[:3, :2] = 0
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(np.ascontiguousarray(stored), format, exif=exif), GREY)[0]
    np.testing.assert_array_equal(found > 127, upright[..., 0] > 127)
    seen = decode_within(encoded(np.ascontiguousarray(stored), format, exif=exif), 6)
    np.testing.assert_array_equal(seen[0] > 127, upright[..., 0] > 127)


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(6, 4, (6, 4)), (8, 8, (8, 8)), (16, 8, (8, 4)), (9, 3, (8, 3)), (1, 900, (1, 8))],
)
def test_to_look_at_an_image_keeps_its_shape(
    height: int, width: int, shape: tuple[int, int]
) -> None:
    found = decode_within(encoded(np.full((height, width), 77, np.uint8)), 8)
    assert found.shape == (3, *shape)
    assert (found == 77).all()


def test_to_look_at_an_image_has_the_limits_of_any_other() -> None:
    data = encoded(grey())
    np.testing.assert_array_equal(decode_within(data, 6), np.repeat(grey()[None], 3, axis=0))
    with pytest.raises(ImageError, match="6, 24 pixels: expected at most 23"):
        decode_within(data, 6, max_pixels=23)
    for broken in (b"", b"junk", data[:50]):
        with pytest.raises(ImageError):
            decode_within(broken, 6)


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(6, 4, (6, 4)), (12, 12, (6, 6)), (90, 8, (45, 4)), (6, 900, (6, 900)), (5, 3, (5, 3))],
)
def test_to_be_cropped_an_image_keeps_its_shape(
    height: int, width: int, shape: tuple[int, int]
) -> None:
    data = encoded(grey(shape=(height, width)))
    found = decode_covering(data, (1, 6, 4))
    assert found.shape == (1, *shape)
    np.testing.assert_array_equal(found, decode(data, InputSpec(shape=(1, *shape))))
    assert decode_covering(data, (3, 6, 4)).shape == (3, *shape)


def test_to_be_cropped_an_image_has_the_limits_of_any_other() -> None:
    data = encoded(grey())
    with pytest.raises(ImageError, match="6, 24 pixels: expected at most 23"):
        decode_covering(data, (1, 6, 4), max_pixels=23)
    for broken in (b"", b"junk", data[:50]):
        with pytest.raises(ImageError):
            decode_covering(broken, (1, 6, 4))


def test_alpha_is_laid_over_white() -> None:
    pixels = np.zeros((6, 4, 4), np.uint8)
    pixels[:3, :, 3] = 255
    pixels[3, :, 3] = 128
    found = decode(encoded(pixels), GREY)[0]
    np.testing.assert_array_equal(found[:3], 0)
    np.testing.assert_allclose(found[3], 127, atol=1)
    np.testing.assert_array_equal(found[4:], 255)


def test_grey_with_alpha() -> None:
    pixels = np.zeros((6, 4, 2), np.uint8)
    pixels[:3, :, 1] = 255
    found = decode(encoded(Image.fromarray(pixels)), GREY)[0]
    np.testing.assert_array_equal(found[:3], 0)
    np.testing.assert_array_equal(found[3:], 255)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_a_palette_with_transparency(transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1]] * 3, np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 0, 0, 9, 9, 9])
    spec = InputSpec(shape=(1, 3, 2))
    found = decode(encoded(image, transparency=transparency), spec)[0]
    np.testing.assert_array_equal(found, [[0, 255]] * 3)


def test_a_transparent_gif() -> None:
    image = Image.fromarray(np.array([[0, 1]] * 3, np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 0, 0])
    found = decode(encoded(image, "GIF", transparency=1), InputSpec(shape=(1, 3, 2)))[0]
    np.testing.assert_array_equal(found, [[0, 255]] * 3)


def test_cmyk() -> None:
    ink = np.zeros((6, 4, 4), np.uint8)
    ink[:3, :, 3] = 255
    data = encoded(Image.fromarray(ink, "CMYK"), "TIFF")
    for spec in (GREY, RGB):
        found = decode(data, spec)
        np.testing.assert_array_equal(found[:, :3], 0)
        np.testing.assert_array_equal(found[:, 3:], 255)
    jpeg = decode(encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100), GREY).astype(int)
    assert jpeg[:, :2].max() < 20
    assert jpeg[:, 4:].min() > 235


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bits_become_8(format: str) -> None:
    wide = (np.arange(24).reshape(6, 4) * 257 * 11).astype(np.uint16)
    wide[-1, -1] = 65535
    found = decode(encoded(wide, format), GREY)[0]
    np.testing.assert_array_equal(found, wide // 257)


def test_one_bit() -> None:
    bits = grey() > 127
    found = decode(encoded(Image.fromarray(bits)), GREY)[0]
    np.testing.assert_array_equal(found, bits * 255)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(kind: type) -> None:
    with pytest.raises(ImageError, match="8-bit grey or RGB"):
        decode(encoded(Image.fromarray(grey().astype(kind)), "TIFF"), GREY)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (200, 7), (12, 8)])
@pytest.mark.parametrize("spec", [GREY, RGB])
def test_any_size_is_stretched(size: tuple[int, int], spec: InputSpec) -> None:
    found = decode(encoded(np.full((*size, 3), 77, np.uint8)), spec)
    assert found.shape == spec.shape
    np.testing.assert_array_equal(found, 77)


def test_shrinking_averages() -> None:
    """Antialiased: a fine checkerboard becomes grey, not one of its colours."""
    board = (np.indices((48, 32)).sum(0) % 2 * 255).astype(np.uint8)
    found = decode(encoded(board), GREY)
    assert np.abs(found.astype(int) - 127).max() < 12


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts(format: str) -> None:
    frames = [Image.fromarray(np.full((6, 4, 3), value, np.uint8)) for value in (10, 90, 200)]
    data = encoded(
        frames[0],
        format,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if format == "WEBP" else {}),
    )
    np.testing.assert_array_equal(decode(data, GREY), 10)


def test_the_result_is_ours_to_write_to() -> None:
    decode(encoded(grey()), GREY)[0, 0, 0] = 1
    decode(encoded(grey(shape=(9, 9))), GREY)[0, 0, 0] = 1


@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 0, 4), (0, 4, 4)])
def test_input_spec_refuses(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="input shape"):
        InputSpec(shape=shape)

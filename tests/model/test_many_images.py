"""Several images at once, encoded or raw: one error names its place, and limits come first."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model import image as module
from model.image import (
    EmptyImageError,
    ImageError,
    ImageShapeError,
    ImageTooLargeError,
    InputSpec,
    NotAnImageError,
    TruncatedImageError,
    checked_pixels,
    decode,
    decode_all,
)

GREY, RGB = InputSpec(shape=(1, 6, 4)), InputSpec(shape=(3, 6, 4))


def encoded(seed: int, size: tuple[int, int] = (4, 6)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("spec", [GREY, RGB])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_many_are_decoded_as_each_alone(spec: InputSpec, count: int) -> None:
    images = [encoded(seed, (3 + seed, 9 - seed)) for seed in range(count)]
    found = decode_all(images, spec)
    assert found.shape == (count, *spec.shape)
    assert found.dtype == np.uint8
    for pixels, data in zip(found, images, strict=True):
        np.testing.assert_array_equal(pixels, decode(data, spec))


BAD = [
    (b"", EmptyImageError),
    (b"hello", NotAnImageError),
    (encoded(0)[:-40], TruncatedImageError),
    (encoded(0)[:12], TruncatedImageError),
    (encoded(0, (50, 50)), ImageTooLargeError),
]


@pytest.mark.parametrize(("data", "kind"), BAD)
@pytest.mark.parametrize("place", range(3))
def test_an_error_names_its_place(data: bytes, kind: type[ImageError], place: int) -> None:
    images = [encoded(seed) for seed in range(3)]
    images[place] = data
    with pytest.raises(kind, match=rf"^image {place}: ") as refused:
        decode_all(images, GREY, 2_000)
    assert type(refused.value) is kind


@pytest.mark.parametrize(("data", "kind"), BAD)
def test_of_a_single_image_no_place_is_named(data: bytes, kind: type[ImageError]) -> None:
    with pytest.raises(kind) as many:
        decode_all([data], GREY, 2_000)
    with pytest.raises(kind) as alone:
        decode(data, GREY, 2_000)
    assert str(many.value) == str(alone.value)


@pytest.mark.parametrize(("data", "kind"), BAD[:2] + BAD[3:])
def test_all_headers_are_read_before_any_pixel(
    data: bytes, kind: type[ImageError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_pixels", _never)
    with pytest.raises(kind):
        decode_all([encoded(0), encoded(1), data], GREY, 2_000)


def _never(*arguments: Any) -> Any:
    raise AssertionError("a pixel was decoded")


def test_pixels_are_counted_together_before_any_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = [encoded(seed, (10, 10)) for seed in range(4)]
    assert len(decode_all(images, GREY, 400)) == 4
    monkeypatch.setattr(module, "_pixels", _never)
    with pytest.raises(ImageTooLargeError, match="more than 399 pixels together: send fewer"):
        decode_all(images, GREY, 399)


def numbered(*shape: int) -> npt.NDArray[np.uint8]:
    return np.arange(np.prod(shape), dtype=np.uint64).reshape(shape).astype(np.uint8)


@pytest.mark.parametrize("spec", [GREY, RGB])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_raw_pixels_of_both_layouts_are_the_same(spec: InputSpec, count: int) -> None:
    pixels = numbered(count, *spec.shape)
    for given in (pixels, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), pixels.copy("F")):
        found = checked_pixels(given, spec)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 1, 1), (3, 6, 3)])
def test_a_shape_that_could_be_either_has_the_channels_first(shape: tuple[int, int, int]) -> None:
    pixels = numbered(2, *shape)
    np.testing.assert_array_equal(checked_pixels(pixels, InputSpec(shape=shape)), pixels)


@pytest.mark.parametrize(
    "shape",
    [
        *((), (6,), (6, 4), (1, 6, 4), (6, 4, 1), (2, 6, 4), (2, 4, 6, 1), (2, 1, 4, 6)),
        *((2, 3, 6, 4), (2, 6, 4, 3), (2, 1, 7, 4), (2, 1, 1, 6, 4), (2, 24), (0,)),
    ],
)
def test_another_shape_is_refused_with_both_that_are_not(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageShapeError) as refused:
        checked_pixels(np.zeros(shape, np.uint8), GREY)
    assert str(list(shape)) in str(refused.value)
    assert "expected [n, 1, 6, 4] or [n, 6, 4, 1]" in str(refused.value)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, np.float32, np.bool_, "S1", object])
def test_another_type_is_refused(kind: Any) -> None:
    with pytest.raises(ImageShapeError, match="expected uint8 in 0 to 255"):
        checked_pixels(np.zeros((2, *GREY.shape), kind), GREY)

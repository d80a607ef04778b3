"""Rows decoded into memory: labels by name, content hashes, errors by row."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calibration.rows import content_digests
from model.image import InputSpec, UInt8Array
from model.quantize import to_levels
from train.data import DataError, ImageRows, Row, match_labels, open_data
from train.images import UNLABELLED, Images, load_images
from train.progress import watch

SPEC = InputSpec(shape=(1, 5, 4))


def pixels(seed: int) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (5, 4), dtype=np.uint8)


def encoded(seed: int, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, format=format)
    return buffer.getvalue()


def rows(*entries: Row, classes: tuple[str, ...] | None = ("cat", "dog")) -> ImageRows:
    return ImageRows(
        spec="here", size=len(entries), class_labels=classes, read=lambda: iter(entries)
    )


def load(source: ImageRows, classes: tuple[str, ...] | None = ("cat", "dog")) -> Images:
    return load_images(source, SPEC, classes, watch)


def test_pixels_labels_and_ids_keep_their_order() -> None:
    found = load(rows(*(Row(id=f"{i}.png", image=encoded(i), label=i % 2) for i in range(5))))
    assert found.ids == ("0.png", "1.png", "2.png", "3.png", "4.png")
    np.testing.assert_array_equal(found.pixels, np.stack([pixels(i)[None] for i in range(5)]))
    assert found.labels.tolist() == [0, 1, 0, 1, 0]
    some = found.take(np.array([3, 1]))
    assert some.ids == ("3.png", "1.png")
    np.testing.assert_array_equal(some.digests, found.digests[[3, 1]])


def test_labels_follow_the_model_s_names() -> None:
    source = rows(
        Row(id="a", image=encoded(0), label=0),
        Row(id="b", image=encoded(1), label=1),
        Row(id="c", image=encoded(2), label=None),
        Row(id="d", image=encoded(3), label=-1),
    )
    assert load(source, ("dog", "cow", "cat")).labels.tolist() == [2, 0, UNLABELLED, UNLABELLED]
    assert load(source, None).labels.tolist() == [UNLABELLED] * 4
    unnamed = rows(Row(id="a", image=encoded(0), label=0), classes=None)
    assert load(unnamed).labels.tolist() == [UNLABELLED]


def test_match_labels() -> None:
    assert match_labels(("b", "a"), ("a", "b", "c")).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"classes \['cow'\] are not among the model's \['a'"):
        match_labels(("a", "cow"), ("a", "b"))


def test_the_same_image_in_another_format_has_the_same_digest(tmp_path: Path) -> None:
    for name, format in (("a.png", "PNG"), ("b.bmp", "BMP"), ("c.tiff", "TIFF"), ("d.gif", "GIF")):
        (tmp_path / name).write_bytes(encoded(0, format))
    (tmp_path / "e.png").write_bytes(encoded(1))
    digests = load(open_data(str(tmp_path))).digests
    assert digests.shape == (5, 32)
    assert len(np.unique(digests[:4], axis=0)) == 1
    assert len(np.unique(digests, axis=0)) == 2


def test_digests_know_the_shape() -> None:
    flat = np.zeros((1, 1, 2, 8), np.uint8)
    assert not np.array_equal(
        content_digests(flat, 256), content_digests(flat.reshape(1, 1, 4, 4), 256)
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Row(id="bad.png", image=b"", label=0), "here: row 1, bad.png: the image is empty"),
        (Row(id="bad.png", image=b"junk", label=0), "here: row 1, bad.png: 4 bytes"),
        (Row(id="bad.png", image=encoded(0), label=2), "bad.png: label 2, but only 2 classes"),
    ],
)
def test_a_bad_row_is_named(bad: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(rows(Row(id="good.png", image=encoded(0), label=0), bad))


def test_no_rows() -> None:
    assert len(load(rows())) == 0


@pytest.mark.parametrize("levels", [2, 17, 100, 256])
def test_digests_tell_apart_what_the_model_does(levels: int) -> None:
    """Two grey values have one digest exactly where ``model.quantize`` gives them one level."""
    grey = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    seen = to_levels(torch.from_numpy(grey), levels).flatten().tolist()
    sums = [digest.tobytes() for digest in content_digests(grey, levels)]
    assert len(set(sums)) == levels
    assert len(set(zip(seen, sums, strict=True))) == levels

"""Distorted copies, and their scores for a gate to be fitted on."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import ndimage

from calibration.table import floats_of, statistics_of
from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from model.image import InputSpec, UInt8Array
from model.quantize import to_levels
from model.scoring import score
from train.data import ImageRows, open_data
from train.distortions import BATCH, DISTORTIONS, distorted
from train.images import Images, load_images
from train.outliers import outlier_scores, usable
from train.progress import watch

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 20, 40), (1, 8, 8), (1, 2, 3), (3, 1, 1)]


def scenes(count: int = 8, shape: tuple[int, int, int] = (3, 32, 32)) -> UInt8Array:
    """Smooth, with a little detail."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(count, *shape)), (0, 0, 2, 2))
    smooth = 0.5 + 0.2 * smooth / smooth.std()
    pixels: UInt8Array = np.rint(255 * smooth.clip(0, 1)).astype(np.uint8)
    return pixels


@pytest.mark.parametrize("name", DISTORTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_size_stay_images(name: str, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    found = distorted(images, name, seed=0)
    assert found.dtype == np.uint8
    assert found.shape == images.shape
    assert distorted(images[:0], name, seed=0).shape == (0, *shape)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_the_same_seed_gives_the_same_copies(name: str) -> None:
    images = scenes()
    first = distorted(images, name, seed=1)
    assert np.array_equal(first, distorted(images, name, seed=1))
    assert not np.array_equal(first, distorted(images, name, seed=2))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("name", DISTORTIONS)
def test_copies_differ_in_strength(name: str) -> None:
    """Each is another image, and none is beyond recognition on average."""
    images = scenes(60)
    change = np.abs(distorted(images, name, seed=0).astype(float) - images).mean((1, 2, 3))
    assert np.median(change) > 0.5
    assert np.quantile(change, 0.9) > 1.5 * np.quantile(change, 0.1)
    assert change.mean() < 80


def test_an_image_has_its_own_draw_beyond_the_first_batch() -> None:
    images = np.repeat(scenes(1, (1, 6, 6)), BATCH + 5, axis=0)
    found = distorted(images, "tone", seed=0)
    assert not np.array_equal(found[0], found[BATCH])
    assert len(np.unique(found.reshape(len(found), -1), axis=0)) > BATCH / 2


def test_another_name_is_refused() -> None:
    with pytest.raises(KeyError):
        distorted(scenes(1), "fog", seed=0)


@pytest.fixture(scope="module")
def classifier() -> GenerativeClassifier:
    torch.manual_seed(0)
    stages = (StageConfig(downsample="haar", blocks=2, width=4),)
    made = GenerativeClassifier(
        FlowConfig(input_shape=(1, 8, 8), n_classes=10, stages=stages, levels=17)
    ).eval()
    made.flow.initialise(torch.rand(64, 1, 8, 8))
    return made


def digits(classifier: GenerativeClassifier, count: int = 30) -> tuple[ImageRows, Images]:
    rows = open_data("digits")
    spec = InputSpec(shape=classifier.config.input_shape, levels=classifier.config.levels)
    labels = tuple(str(k) for k in range(10))
    return rows, load_images(rows, spec, labels, watch).take(np.arange(count))


def test_copies_are_scored_by_the_id_of_their_row(classifier: GenerativeClassifier) -> None:
    rows, images = digits(classifier)
    found = outlier_scores(classifier, images, rows, 8)
    assert found.num_rows == 8 * 30
    assert found.column("id").to_pylist() == list(images.ids) * 8
    assert set(found.column("split").to_pylist()) == {"outlier"}
    log_prob = floats_of(found, "log_prob").reshape(8, 30)
    assert len(np.unique(log_prob[:, 0])) > 4  # the seventh copy is of the first kind, drawn anew
    assert not np.array_equal(log_prob[0], log_prob[6])


def test_copies_have_the_levels_of_the_model(
    classifier: GenerativeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a copy of an image of 17 grey values is told by having others."""
    seen: list[UInt8Array] = []

    def spy(made: GenerativeClassifier, pixels: UInt8Array) -> object:
        seen.append(pixels)
        return score(made, pixels)

    monkeypatch.setattr("train.scoring.score", spy)
    rows, images = digits(classifier)
    outlier_scores(classifier, images, rows, 6)
    lattice = np.unique(images.pixels)
    assert len(lattice) == 17
    for pixels in seen:
        assert set(np.unique(pixels)) <= set(lattice)
        level = to_levels(torch.from_numpy(pixels), 17)
        assert (level.double() * 255 / 16).round().byte().equal(torch.from_numpy(pixels))


@pytest.mark.parametrize(("side", "again"), [(8, True), (32, False)])
def test_rows_of_jpeg_give_copies_of_jpeg(
    classifier: GenerativeClassifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    side: int,
    again: bool,
) -> None:
    """Where they are of the model's size; of larger ones the loss is at another scale."""
    (tmp_path / "a").mkdir()
    for index, image in enumerate(scenes(5, (1, side, side))):
        buffer = io.BytesIO()
        Image.fromarray(image[0]).save(buffer, "JPEG", quality=50)
        (tmp_path / "a" / f"{index}.jpg").write_bytes(buffer.getvalue())
    rows = open_data(str(tmp_path))
    stored: list[int] = []

    def spy(data: bytes, spec: InputSpec) -> UInt8Array:
        stored.append(len(data))
        return np.zeros(spec.shape, np.uint8)

    monkeypatch.setattr("train.storage.decode", spy)
    spec = InputSpec(shape=(1, 8, 8), levels=17)
    images = load_images(rows, spec, ("a",), watch)
    outlier_scores(classifier, images, rows, 1)
    assert bool(stored) == again


def test_what_a_reference_cannot_hold_is_left_out(classifier: GenerativeClassifier) -> None:
    rows, images = digits(classifier)
    table = outlier_scores(classifier, images, rows, 1)
    (name, *_) = statistics_of(table)
    for column, value in (("log_prob", np.inf), (f"stat_{name}", np.nan), ("log_prob", 1e200)):
        values = floats_of(table, column)
        values[3] = value
        index = table.column_names.index(column)
        kept = usable(table.set_column(index, column, pa.array(values)))
        assert kept.num_rows == 29
        assert images.ids[3] not in kept.column("id").to_pylist()


def test_images_do_not_change(classifier: GenerativeClassifier) -> None:
    rows, images = digits(classifier)
    before = replace(images, pixels=images.pixels.copy())
    outlier_scores(classifier, images, rows, 6)
    assert np.array_equal(images.pixels, before.pixels)

"""The automatic recipe: every size can be built within its budget, and a folder trains by it."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import load_model
from model.classifier import GenerativeClassifier
from model.config import FlowConfig
from model.image import InputSpec
from model.quantize import dequantize
from train.auto import (
    HALVINGS,
    auto_recipe,
    detect_channels,
    recipe_for,
    recipe_of,
    working_size,
)
from train.cli import configured
from train.cost import estimate
from train.data import DataError, ImageRows, Row, open_data
from train.images import load_images
from train.objective import ib_loss
from train.progress import watch
from train.recipes import RecipeError
from train.run import resume, train_new
from train.run_file import read_run

#: Multiply-adds of an image at most, by the number of halvings.
BUDGET = {2: 60e6, 3: 150e6, 4: 450e6, 5: 1e9}


def flow_config(size: int, channels: int, n_classes: int) -> FlowConfig:
    return auto_recipe(size, channels, n_classes, rows=1000).flow_config(n_classes, seed=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_classes", [2, 10, 100, 700])
def test_every_size_is_an_architecture(n_classes: int, channels: int) -> None:
    for size in range(28, 225):
        config = flow_config(size, channels, n_classes)
        _, height, width = config.input_shape
        assert height == width <= size < 1.25 * (height + 1)
        assert config.input_shape[0] == channels
        assert 5 <= height / 2**config.halvings <= 8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", HALVINGS)
def test_every_working_size_is_within_its_budget(side: int, channels: int) -> None:
    """Also with many classes, whose means cost multiply-adds of their own."""
    for n_classes in (10, 700):
        config = flow_config(side, channels, n_classes)
        assert estimate(GenerativeClassifier(config)).multiply_adds < BUDGET[config.halvings]


@pytest.mark.parametrize(
    ("size", "side"), [(28, 28), (31, 28), (36, 32), (50, 48), (100, 96), (223, 192), (224, 224)]
)
def test_the_working_size_is_told(size: int, side: int) -> None:
    assert working_size(size) == side
    recipe = auto_recipe(size, 3, 2, rows=1000)
    assert f"works at {side} x {side} pixels" in recipe.expected
    assert (f"instead of {size}" in recipe.expected) == (size != side)


def test_the_next_size_is_told() -> None:
    assert "the next size is 40" in auto_recipe(39, 3, 2, rows=1000).expected


@pytest.mark.parametrize("size", [-1, 0, 27, 225, 1000])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(RecipeError, match=f"size {size}: expected 28 to 224 pixels"):
        auto_recipe(size, 3, 2, rows=1000)


def test_more_classes_than_dimensions_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"1000 classes at 28 x 28 x 1: .*784; give a larger"):
        auto_recipe(28, 1, 1000, rows=50_000)
    assert flow_config(32, 1, 1000).means == "full"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", HALVINGS)
@pytest.mark.parametrize("n_classes", [2, 27, 100, 784])
def test_low_rank_means_are_the_smaller_ones(side: int, channels: int, n_classes: int) -> None:
    config = flow_config(side, channels, n_classes)
    full = n_classes * config.dim
    if config.means == "full":
        assert full <= 4e6 or n_classes > config.pooled_channels
        return
    rest = config.dim - config.pooled_channels
    low_rank = n_classes * config.pooled_channels + config.means_rank * (n_classes + rest)
    assert low_rank < 0.8 * full
    assert n_classes <= config.pooled_channels


@pytest.mark.parametrize("rows", [7, 40, 180, 1000, 5000, 60_000, 10**6])
@pytest.mark.parametrize("size", [28, 96, 224])
def test_a_run_has_steps_enough(rows: int, size: int) -> None:
    recipe = auto_recipe(size, 3, 2, rows)
    training = rows - min(10_000, int(0.3 * rows))
    steps = recipe.epochs * math.ceil(training / recipe.batch_size)
    assert steps >= 3000 or recipe.epochs == 100
    assert 8 <= recipe.epochs <= 100
    assert recipe.batch_size == 8 or recipe.batch_size <= training / 20


def encoded(mode: str, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (5, 4)).save(buffer, format=format)
    return buffer.getvalue()


def in_memory(*images: bytes) -> ImageRows:
    entries = [Row(id=str(i), image=image, label=0) for i, image in enumerate(images)]
    return ImageRows(spec="x", size=len(images), class_labels=("a",), read=lambda: iter(entries))


@pytest.mark.parametrize(
    ("mode", "format", "channels"),
    [
        ("1", "PNG", 1),
        ("L", "JPEG", 1),
        ("LA", "PNG", 1),
        ("I;16", "PNG", 1),
        ("RGB", "JPEG", 3),
        ("RGBA", "PNG", 3),
        ("P", "GIF", 3),
        ("CMYK", "TIFF", 3),
    ],
)
def test_colour_is_what_the_files_declare(mode: str, format: str, channels: int) -> None:
    assert detect_channels(in_memory(*[encoded(mode, format)] * 3)) == channels


def test_one_image_in_colour_is_enough() -> None:
    grey = [encoded("L")] * 70
    assert detect_channels(in_memory(*grey)) == 1
    assert detect_channels(in_memory(*grey, encoded("RGB"))) == 3
    assert detect_channels(in_memory(b"junk", *grey)) == 1
    assert detect_channels(in_memory(b"junk", b"")) == 3


def test_the_sample_is_spread_over_the_rows() -> None:
    """Folders come a class at a time: the first rows say nothing of the last."""
    images = [encoded("L")] * 100 + [encoded("RGB")] * 100
    assert detect_channels(in_memory(*images), sample=10) == 3


def test_a_folder_without_classes_is_refused(shapes_folder: Path) -> None:
    with pytest.raises(DataError, match="has no labels: expected a folder a class"):
        recipe_for(str(shapes_folder / "discs"), 32)


def test_a_folder_of_shapes_takes_a_training_step(shapes_folder: Path) -> None:
    recipe = recipe_for(str(shapes_folder), size=36)
    rows = open_data(str(shapes_folder))
    labels = rows.class_labels
    assert labels == ("discs", "squares", "stripes")
    assert recipe.input_shape == (3, 32, 32)
    images = load_images(rows, InputSpec(shape=recipe.input_shape), labels, watch)
    classifier = GenerativeClassifier(recipe.flow_config(len(labels), seed=0))
    torch.manual_seed(0)
    index = np.random.default_rng(0).permutation(len(images))[:48]
    pixels, y = torch.from_numpy(images.pixels[index]), torch.from_numpy(images.labels[index])
    x = dequantize(pixels, recipe.levels, torch.rand(pixels.shape))
    classifier.flow.initialise(x)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=recipe.learning_rate)
    losses = []
    for _ in range(4):
        total = ib_loss(classifier(x), y, recipe.beta).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < losses[0]


def test_a_folder_is_trained_from_its_beginning_to_its_end(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped after a step and gone on with; what it would take was said first."""
    config = configured("auto", str(shapes_folder), {"size": 36, "epochs": 1, "rows": 40})
    assert not train_new(config, tmp_path / "run", stop_at=1).finished
    said = capsys.readouterr().err
    assert "multiply-adds an image" in said
    assert said.index("multiply-adds an image") < said.index("training: ")
    assert resume(tmp_path / "run").finished
    checkpoint = load_model(tmp_path / "run" / "model")
    assert checkpoint.class_labels == ("discs", "squares", "stripes")
    assert checkpoint.spec.shape == (3, 32, 32)
    assert read_run(tmp_path / "run")["config"]["size"] == 36


@pytest.mark.parametrize(("name", "size"), [("auto", None), ("digits", 32)])
def test_a_size_belongs_to_auto_alone(name: str, size: int | None) -> None:
    with pytest.raises(RecipeError, match="--size belongs to --recipe auto"):
        recipe_of(name, "digits", size)

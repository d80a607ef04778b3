"""Ten-crop accuracy against what is computed by hand, on digits that are stored larger."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

from calibration.arrays import FloatArray
from calibration.temperature import softmax
from model.image import ImageError, UInt8Array
from service.bundle import Bundle
from service.cli.evaluate import model_of
from tests.train.holding import held_digits
from train.baselines import ResNetClassifier, ResNetConfig, ResNetStage
from train.data import DataError, Row, open_data, png
from train.evaluation import published
from train.evaluation.markdown import to_markdown
from train.evaluation.measure import CALIBRATION, Baseline, Held, Measured, hold, measure
from train.evaluation.posterior import MODEL
from train.evaluation.report import write_report
from train.evaluation.story import NO_CROPS
from train.evaluation.tables import DASH, ten_crop_table
from train.evaluation.ten_crop import averaged, crops_of, ten_crop_accuracy, ten_crops

SIDE = 8

#: Height and width that the digits are stored in, in turns, and whether they are larger then.
STORED = {(8, 8): False, (9, 9): True, (8, 11): True, (20, 17): True, (7, 30): False}


def stored(row: Row, height: int, width: int) -> bytes:
    grey = Image.open(io.BytesIO(row.image)).resize((width, height), Image.Resampling.BICUBIC)
    return png(grey)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unseen digits by class in the sizes of ``STORED``, and some of training as they were."""
    root = tmp_path_factory.mktemp("larger") / "digits"
    sizes = list(STORED)
    for i, row in enumerate(open_data("digits:test")):
        if i < 70:
            place = root / str(row.label)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i:03d}.png").write_bytes(stored(row, *sizes[i % len(sizes)]))
    for i, row in enumerate(open_data("digits")):
        if i < 10:
            (root / str(row.label) / f"000-seen-{i}.png").write_bytes(row.image)
    return root


@pytest.fixture(scope="module")
def resnet(bundle: Bundle) -> Baseline:
    """Not trained: what it says is beside the point."""
    torch.manual_seed(0)
    config = ResNetConfig(
        input_shape=(1, SIDE, SIDE),
        n_classes=10,
        levels=17,
        stages=(ResNetStage(blocks=1, width=4, stride=2),),
    )
    classifier = ResNetClassifier(config).eval()
    return Baseline(name="net", kind="resnet", classifier=classifier, record=bundle.rows)


@pytest.fixture(scope="module")
def held(bundle: Bundle, resnet: Baseline, folder: Path) -> Held:
    return hold(model_of(bundle), open_data(str(folder)), (resnet,), None)


def by_hand(path: Path) -> UInt8Array | None:
    """Crops (10, 1, 8, 8) of a file; shorter side to round(8 * 256 / 224) = 9 where it is over."""
    image: Image.Image = Image.open(io.BytesIO(path.read_bytes()))
    width, height = image.size
    if min(width, height) < SIDE or (width, height) == (SIDE, SIDE):
        return None
    if min(width, height) > 9:
        scale = 9 / min(width, height)
        size = (round(width * scale), round(height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
    x = np.asarray(image)
    h, w = x.shape
    top, left = (h - SIDE) // 2, (w - SIDE) // 2
    five = [
        x[:SIDE, :SIDE],
        x[:SIDE, w - SIDE :],
        x[h - SIDE :, :SIDE],
        x[h - SIDE :, w - SIDE :],
        x[top : top + SIDE, left : left + SIDE],
    ]
    return np.stack([*five, *(np.fliplr(crop) for crop in five)])[:, None]


def test_corners_centre_and_mirrors() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    found = ten_crops(image, 2, 2)
    assert found.shape == (10, 1, 2, 2)
    firsts = [[0, 1, 4, 5], [2, 3, 6, 7], [4, 5, 8, 9], [6, 7, 10, 11], [1, 2, 5, 6]]
    mirrored = [[1, 0, 5, 4], [3, 2, 7, 6], [5, 4, 9, 8], [7, 6, 11, 10], [2, 1, 6, 5]]
    assert found.reshape(10, 4).tolist() == firsts + mirrored


def test_posteriors_are_averaged_image_by_image() -> None:
    """Not logits, and not over other images."""

    def posterior(images: UInt8Array) -> FloatArray:
        first: FloatArray = images[:, 0, 0, 0] / 255
        return np.stack([first, 1 - first], axis=1)

    crops = np.random.default_rng(0).integers(0, 256, (3, 10, 1, 2, 2), dtype=np.uint8)
    expected = crops[:, :, 0, 0, 0].mean(axis=1) / 255
    np.testing.assert_allclose(averaged(posterior, crops)[:, 0], expected)
    np.testing.assert_allclose(averaged(posterior, crops).sum(axis=1), 1)


@pytest.mark.parametrize(("size", "larger"), STORED.items())
def test_images_that_are_larger_are_cropped(
    size: tuple[int, int], larger: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "one.png"
    path.write_bytes(png(Image.fromarray(random.integers(0, 256, size, dtype=np.uint8))))
    found, expected = crops_of(path.read_bytes(), (1, SIDE, SIDE)), by_hand(path)
    assert (found is not None) == larger
    if found is not None:
        np.testing.assert_array_equal(found, expected)


def test_an_image_is_upright_and_whole_before_it_is_cropped() -> None:
    """Lying 8 x 16 by EXIF it stands, and is as wide as the input."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", exif=exif)
    found = crops_of(buffer.getvalue(), (1, 10, 8))
    assert found is not None
    np.testing.assert_array_equal(found[0, 0], np.rot90(pixels, -1)[:10])
    assert crops_of(buffer.getvalue(), (1, 8, 16)) is None
    with pytest.raises(ImageError):
        crops_of(buffer.getvalue()[:60], (1, 8, 8))


def test_accuracy_is_that_of_a_computation_by_hand(
    held: Held, folder: Path, bundle: Bundle
) -> None:
    assert held.refused == 10  # so that places shift between what is read and what is known
    right: dict[str, list[tuple[bool, bool]]] = {MODEL: [], "net": []}
    flow, net = bundle.checkpoint.classifier, held.baselines[0].classifier
    assert isinstance(net, ResNetClassifier)
    for i, name in enumerate(held.known.images.ids):
        crops = by_hand(folder / name)
        if crops is None:
            continue
        label = int(held.known.images.labels[i])
        with torch.no_grad():
            ours = flow.classify(torch.from_numpy(crops)).logits.double().numpy()
            theirs = net.classify(torch.from_numpy(crops)).double().numpy()
        posteriors = {MODEL: bundle.calibration.posterior(ours), "net": softmax(theirs, 1.0)}
        single = {
            MODEL: held.known.judged.decisions.class_index[i],
            "net": held.logits["net"][i].argmax(),
        }
        for source, posterior in posteriors.items():
            ten = posterior.mean(axis=0).argmax()
            right[source].append((single[source] == label, ten == label))
    found = ten_crop_accuracy(held)
    assert found is not None
    assert [one.source for one in found] == [MODEL, "net"]
    for one in found:
        single_right, ten_right = zip(*right[one.source], strict=True)
        assert one.single.total == one.ten_crop.total == len(single_right) == 42
        assert (one.single.count, one.ten_crop.count) == (sum(single_right), sum(ten_right))
        assert one.ten_crop.low < one.ten_crop.share < one.ten_crop.high  # type: ignore[operator]
    assert found[0].single != found[0].ten_crop


def test_rows_without_a_class_and_a_limit(held: Held, bundle: Bundle, folder: Path) -> None:
    labels = held.known.images.labels.copy()
    labels[:30] = -1
    some = replace(
        held, known=replace(held.known, images=replace(held.known.images, labels=labels))
    )
    found = ten_crop_accuracy(some)
    assert found is not None
    assert 0 < found[0].single.total < 42
    drawn = hold(model_of(bundle), open_data(str(folder)), (), 40)
    found = ten_crop_accuracy(drawn)
    assert found is not None
    larger = [by_hand(folder / name) is not None for name in drawn.known.images.ids]
    assert found[0].single.total == sum(larger) < 40


def test_a_file_that_has_gone_since_is_named(held: Held) -> None:
    def read() -> list[Row]:
        rows = list(held.source)
        return [replace(row, image=b"", error="cannot be read: gone") for row in rows]

    broken = replace(held, source=replace(held.source, read=lambda: iter(read())))
    with pytest.raises(DataError, match=r"\.png: cannot be read: gone"):
        ten_crop_accuracy(broken)


@pytest.fixture(scope="module")
def reports(
    held: Held, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Of larger images and of such as the model takes; read only."""
    out = tmp_path_factory.mktemp("reports")
    found: dict[str, Measured] = {
        "larger": measure(held, (), (CALIBRATION,)),
        "same": measure(held_digits(bundle), (), (CALIBRATION,)),
    }
    for name, measured in found.items():
        write_report(measured, out / name)
    return MappingProxyType({name: out / name for name in found})


def test_in_a_report(reports: Mapping[str, Path]) -> None:
    content = json.loads((reports["larger"] / "evaluation.json").read_bytes())
    ours, theirs = content["ten_crop"]
    assert (ours["source"], theirs["source"]) == (MODEL, "net")
    assert ours["single"]["total"] == 42
    text = (reports["larger"] / "evaluation.md").read_text()
    assert f"{ours['ten_crop']['share']:.2%} ({ours['ten_crop']['low']:.2%}" in text
    assert "Of the 42 labelled known images" in text
    assert NO_CROPS not in text


def test_not_of_images_that_are_no_larger(reports: Mapping[str, Path]) -> None:
    content = json.loads((reports["same"] / "evaluation.json").read_bytes())
    assert content["ten_crop"] is None
    text = (reports["same"] / "evaluation.md").read_text()
    assert NO_CROPS in text
    assert "accuracy, ten crops" not in text


def test_the_published_stand_beside(held: Held) -> None:
    found = ten_crop_accuracy(held)
    assert found is not None
    table = ten_crop_table(found)
    assert (f"ResNet-50 ({published.OTHERS})", DASH, "77.40%") in table.rows
    assert table.strong == {0, 1}
    assert published.SOURCE in to_markdown([table])

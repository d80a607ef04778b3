"""A sweep over beta as figures: the table, the JSON and the drawing, against other computations."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from calibration.calibration_error import ece
from calibration.metrics import CONFIDENT
from calibration.temperature import softmax
from model.checkpoint import load_model
from model.image import InputSpec
from model.scoring import Scores, score
from tests.train.sweeping import EPOCHS, FOLDERS, REPORT, points, run
from train.baselines import load_baseline
from train.config import TrainConfig
from train.data import open_data
from train.images import Images, load_images
from train.run import load_training_set
from train.run_file import read_run
from train.sweep_report import COLUMNS, Sweep

SPEC = InputSpec(shape=(1, 8, 8), levels=17)


pytestmark = pytest.mark.usefixtures("sweep_recipe")


def test_the_table_has_a_row_a_run(sweep_dir: Path) -> None:
    lines = (sweep_dir / "sweep.md").read_text().splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert table[0] == list(COLUMNS)
    assert [row[0] for row in table[2:]] == ["0", "1", "inf", "ResNet"]
    assert {len(row) for row in table} == {len(COLUMNS)}
    resnet = dict(zip(COLUMNS, table[-1], strict=True))
    assert [name for name, cell in resnet.items() if not cell] == ["beta D", "bits/dim", "L_X"]
    for row, point in zip(table[2:], points(sweep_dir).values(), strict=True):
        assert float(row[2]) == pytest.approx(point["accuracy"], abs=0.01)


def test_infinities_are_words_in_valid_json(sweep_dir: Path) -> None:
    found = points(sweep_dir)
    assert tuple(found) == FOLDERS
    assert found["beta-inf"]["beta"] == found["beta-inf"]["beta_times_dim"] == "inf"
    assert isinstance(found["beta-inf"]["bits_per_dim"], float)
    assert found["beta-1"]["beta_times_dim"] == 64
    for name in ("beta", "beta_times_dim", "bits_per_dim", "l_x"):
        assert found["resnet"][name] is None


@pytest.fixture(scope="module")
def unseen() -> Images:
    labels = tuple(str(digit) for digit in range(10))
    return load_images(open_data("digits:test"), SPEC, labels, lambda rows, **_: rows)


def scores(out: Path, folder: str, images: Images) -> Scores:
    return score(load_model(out / folder / "model").classifier, images.pixels)


@pytest.mark.parametrize("folder", ["beta-0", "beta-1", "beta-inf"])
def test_figures_of_the_density(sweep_dir: Path, folder: str, unseen: Images) -> None:
    """log p of the pixels, and from it the identity of bits/dim and L_X on 17 levels."""
    point, found = points(sweep_dir)[folder], scores(sweep_dir, folder, unseen)
    per_dim = float(found.log_prob.mean()) / 64
    bits = math.log2(17) - per_dim / math.log(2)
    assert point["bits_per_dim"] == pytest.approx(bits, abs=1e-4)
    identity = (point["l_x"] + 0.5 * math.log(2 * math.pi)) / math.log(2) + math.log2(17)
    assert identity == pytest.approx(point["bits_per_dim"], rel=1e-9)


@pytest.mark.parametrize("folder", ["beta-0", "beta-1", "beta-inf"])
def test_figures_of_the_classes(sweep_dir: Path, folder: str, unseen: Images) -> None:
    point, found = points(sweep_dir)[folder], scores(sweep_dir, folder, unseen)
    logits, labels = torch.from_numpy(found.logits), torch.from_numpy(unseen.labels)
    right = (logits.argmax(1) == labels).double()
    assert point["accuracy"] == pytest.approx(100 * float(right.mean()))
    expected = float(torch.nn.functional.cross_entropy(logits, labels))
    assert point["l_y"] == pytest.approx(expected, abs=1e-4)
    for prefix, temperature in (("raw_", 1.0), ("", point["temperature"])):
        confidence, _ = (logits / temperature).softmax(1).max(1)
        sure = confidence >= CONFIDENT
        assert point[f"{prefix}oce_count"] == int(sure.sum())
        error = float((1 - right[sure]).mean()) / 0.003 if sure.any() else None
        assert point[f"{prefix}oce"] == (None if error is None else pytest.approx(error))
        found_ece = ece(softmax(found.logits, temperature), unseen.labels)
        assert point[f"{prefix}ece"] == pytest.approx(found_ece, abs=1e-4)


def test_some_predictions_are_confident_and_some_of_them_wrong(sweep_dir: Path) -> None:
    """So that what is compared above is not nothing with nothing."""
    found = points(sweep_dir)
    assert all(found[folder]["raw_oce_count"] for folder in FOLDERS[:3])
    assert found["beta-0"]["raw_oce"] > 1


def test_temperature_is_the_best_on_the_fit_rows(sweep_dir: Path) -> None:
    point = points(sweep_dir)["beta-1"]
    config = TrainConfig.from_dict(read_run(sweep_dir / "beta-1")["config"])
    fit = load_training_set(config, SPEC).fit_images
    logits = torch.from_numpy(scores(sweep_dir, "beta-1", fit).logits)

    def loss(temperature: float) -> float:
        return float(
            torch.nn.functional.cross_entropy(logits / temperature, torch.from_numpy(fit.labels))
        )

    best = loss(point["temperature"])
    assert best < min(loss(0.98 * point["temperature"]), loss(1.02 * point["temperature"]))


def test_the_resnet_is_measured_by_its_own_logits(sweep_dir: Path, unseen: Images) -> None:
    point = points(sweep_dir)["resnet"]
    classifier = load_baseline(sweep_dir / "resnet" / "model").classifier
    with torch.no_grad():
        logits = classifier.classify(torch.from_numpy(unseen.pixels)).double()
    labels = torch.from_numpy(unseen.labels)
    right = float((logits.argmax(1) == labels).double().mean())
    assert point["accuracy"] == pytest.approx(100 * right)
    expected = float(torch.nn.functional.cross_entropy(logits, labels))
    assert point["l_y"] == pytest.approx(expected, abs=1e-4)


def test_seconds_and_speed_are_those_of_the_run(sweep_dir: Path) -> None:
    for folder, point in points(sweep_dir).items():
        content = read_run(sweep_dir / folder)
        seconds = content["progress"]["seconds"]
        assert point["seconds"] == seconds
        speed = EPOCHS * content["rows"]["train"] / seconds if seconds else None
        assert point["images_per_s"] == speed


def test_figures_are_drawn_the_same_each_time(sweep_dir: Path, copied: Path) -> None:
    figures = ("sweep.png", "sweep.svg")
    for name in figures:
        (copied / name).unlink()
    run(copied)
    first, again = ([(out / n).read_bytes() for n in figures] for out in (sweep_dir, copied))
    assert first == again
    png, svg = first
    assert png.startswith(b"\x89PNG")
    assert svg.startswith(b"<?xml")
    assert b"dc:date" not in svg  # drawn twice within a second, it would be the same


def test_the_figure_says_what_is_drawn(sweep_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train import sweep_figure

    seen: list[Any] = []
    draw = sweep_figure.draw

    def kept(measured: Sweep) -> Figure:
        seen.append(draw(measured))
        figure: Figure = seen[-1]
        return figure

    monkeypatch.setattr(sweep_figure, "draw", kept)
    monkeypatch.setattr(sweep_figure, "write_atomic", lambda path, content: None)
    monkeypatch.setattr("train.sweep_report.write_atomic", lambda path, content: None)
    run(sweep_dir)
    trade_off, density, classes = seen[0].axes
    labels = {text.get_text() for text in trade_off.texts}
    assert labels == {"1", "∞", "β = 0: density alone", "ResNet: classes alone"}
    found = points(sweep_dir)
    line = trade_off.lines[0]
    drawn = [found["beta-1"], found["beta-inf"]]
    np.testing.assert_allclose(line.get_xdata(), [p["bits_per_dim"] for p in drawn])
    np.testing.assert_allclose(line.get_ydata(), [p["accuracy"] for p in drawn])
    for axes, name in ((density, "l_x"), (classes, "l_y")):
        expected = [found[folder][name] for folder in FOLDERS[:3]]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "∞"]
    assert "bits per dimension" in trade_off.get_xlabel()
    assert "%" in trade_off.get_ylabel()


def test_without_matplotlib_the_table_is_written(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in REPORT:
        (copied / name).unlink()
    for name in ("matplotlib", "train.sweep_figure"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "train.sweep_figure")
    run(copied)
    assert 'pip install "oodgate[figures]"' in capsys.readouterr().err
    written = {path.name for path in copied.iterdir() if path.is_file()}
    assert written == {"sweep.json", "sweep.md"}

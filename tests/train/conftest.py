"""A user's folder of images, drawn: three classes that differ in shape alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.image import UInt8Array
from tests.train import tiny
from tests.train.sweeping import prepare, run
from train.recipes import RECIPES
from train.run import train_new

WIDTH, HEIGHT, A_CLASS = 40, 36, 60


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """discs/, squares/ and stripes/ of 60 PNG images each, 40 x 36 pixels in colour; read only."""
    return draw_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="session")
def sweep_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over beta on the digits; read only."""
    out = tmp_path_factory.mktemp("sweep") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        run(out)
    return out


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tests.train.tiny.RECIPE`` by its name."""
    monkeypatch.setitem(RECIPES, "tiny", tiny.RECIPE)


@pytest.fixture
def undisturbed(tiny_recipe: None, tmp_path: Path) -> Path:
    """A finished run of ``tests.train.tiny.TINY``."""
    out = tmp_path / "undisturbed"
    stopped = train_new(tiny.TINY, out)
    assert stopped.finished
    assert stopped.counters.step == tiny.STEPS
    return out


@pytest.fixture
def sweep_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of ``sweep_dir`` by its name, at the commit that measured it."""
    prepare(monkeypatch)


@pytest.fixture
def copied(sweep_dir: Path, tmp_path: Path) -> Path:
    """The finished sweep, to be changed."""
    return Path(shutil.copytree(sweep_dir, tmp_path / "copied"))


def draw_shapes(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("discs", "squares", "stripes"):
        (root / name).mkdir()
        for i in range(A_CLASS):
            Image.fromarray(_drawing(name, rng)).save(root / name / f"{i:03d}.png")
    return root


def _drawing(name: str, rng: np.random.Generator) -> UInt8Array:
    """Random place, size and colours, with noise: (H, W, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    dy, dx = y - rng.uniform(12, HEIGHT - 12), x - rng.uniform(12, WIDTH - 12)
    radius = rng.uniform(6, 11)
    inside = {
        "discs": dx**2 + dy**2 < radius**2,
        "squares": np.maximum(abs(dx), abs(dy)) < radius,
        "stripes": (dx + dy) % radius < radius / 2,
    }[name]
    fore, back = rng.uniform(128, 255, 3), rng.uniform(0, 128, 3)
    noise = rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    drawn: UInt8Array = (np.where(inside[..., None], fore, back) + noise).clip(0, 255).astype("u1")
    return drawn

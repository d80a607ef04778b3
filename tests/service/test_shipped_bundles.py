"""The bundles that ship: small, whole, honest about where they come from, and invertible.

Whatever is in ``bundles/`` is tested, but figures on data that does not ship: of those only that
they were sealed. A folder of ``bundles/baselines/`` is a finished run of another kind of
classifier, for comparisons to load; ``bundles/sweep/`` has what the sweep behind them measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.rows import RowRecord
from model.checkpoint import WEIGHTS_FILE, load_model
from model.quantize import bin_centres
from service.bundle import Bundle
from service.catalog import SHIPPED, find_bundle
from service.cli.comparison import open_baseline, open_flow
from service.cli.source import open_source
from train.ancestor import recorded_fully
from train.baselines import load_baseline
from train.run import MODEL_FOLDER
from train.run_file import ROWS_FILE, read_run, run_config

BUNDLES = sorted(path.parent for path in SHIPPED.glob("*/manifest.json"))
BASELINES = SHIPPED / "baselines"
WEIGHTS = sorted(SHIPPED.rglob("*.safetensors"))

#: Bytes that a file of weights may have.
MOST = 12e6

#: Share of test rows that the weights classified right when they were sealed, at least.
ACCURACY = {"fashion-mnist": 0.915, "cifar10": 0.75}


def name_of(path: Path) -> str:
    return str(path.relative_to(SHIPPED))


@pytest.fixture(scope="module", params=BUNDLES, ids=name_of)
def shipped(request: pytest.FixtureRequest) -> Bundle:
    """Loading verifies every hash."""
    return Bundle.load(request.param)


def smooth_images(shape: tuple[int, int, int], levels: int, count: int) -> Tensor:
    """Random fields of a few waves with noise on top, uint8 (N, C, H, W), the same each time.

    Of ``levels`` grey values spread over 0..255, as 8-bit images of the model's kind are.
    """
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 1, (count, shape[0], 4, 4)))
    field = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bicubic")
    noisy = field.numpy() + rng.normal(0, 0.05, field.shape)
    level = np.rint(noisy.clip(0, 1) * (levels - 1))
    return torch.from_numpy(np.rint(level * (255 / (levels - 1))).astype(np.uint8))


def texts(value: Any) -> Iterator[str]:
    """Every text inside plain JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from texts(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from texts(entry)


def absolute(found: Iterator[str]) -> list[str]:
    """Those that are places on somebody's machine."""
    return [text for text in found if text.startswith(("/", "~", "file:", "\\"))]


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_the_two_bundles_ship(name: str) -> None:
    """In folders named by name and version."""
    found = find_bundle(name, SHIPPED)
    assert found.parent == SHIPPED
    assert found.name == f"{name}-{Bundle.load(found).version[:6]}"


@pytest.mark.parametrize("path", WEIGHTS, ids=name_of)
def test_weights_are_small(path: Path) -> None:
    assert path.stat().st_size <= MOST


def test_training_is_recorded(shipped: Bundle) -> None:
    training = shipped.manifest.training
    assert 0 < float(training["config"]["beta"]) < math.inf
    assert training["device"]
    assert training["progress"]["finished"] is True
    assert training["progress"]["seconds"] > 0
    assert recorded_fully(training)
    assert re.fullmatch("[0-9a-f]{40}", training["git_commit"])
    assert [line["epoch"] for line in shipped.history] == list(
        range(1, training["config"]["epochs"] + 1)
    )


def test_figures_on_a_test_split_and_against_a_plain_flow(shipped: Bundle) -> None:
    test, flow = shipped.manifest.metrics["test"], shipped.manifest.metrics["flow"]
    assert test["rows"] > 9_000
    assert test["accuracy"] >= ACCURACY[shipped.name]
    assert flow["beta"] == 0
    assert flow["difference"] == test["bits_per_dim"] - flow["bits_per_dim"]
    assert abs(flow["difference"]) <= 2
    assert test["round_trip"]["rows"] == 500
    assert test["round_trip"]["max_error"] <= 1e-5


def test_nothing_names_a_place_on_somebody_s_machine(shipped: Bundle) -> None:
    manifest = json.loads(shipped.manifest.to_bytes())
    assert absolute(texts(manifest)) == []
    assert absolute(iter(shipped.calibration.table["id"].to_pylist())) == []


@torch.no_grad()
def test_round_trip_in_single_precision(shipped: Bundle) -> None:
    """The inverse undoes the flow to 1e-4 of the grey range, at the places that it serves."""
    config = shipped.checkpoint.classifier.config
    x = bin_centres(smooth_images(config.input_shape, config.levels, 32), config.levels)
    assert x.dtype == torch.float32
    flow = shipped.checkpoint.classifier.flow
    assert (flow.inverse(flow(x)[0])[0] - x).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("bundle", "other", "kind", "beta"),
    [
        ("fashion-mnist", "resnet", "resnet", None),
        ("fashion-mnist", "beta-0", "flow", 0.0),
        ("fashion-mnist", "beta-inf", "flow", math.inf),
        ("cifar10", "resnet", "resnet", None),
    ],
)
@torch.no_grad()
def test_a_baseline_classifies(bundle: str, other: str, kind: str, beta: float | None) -> None:
    """With the record of its rows, without which no comparison would take it."""
    folder = BASELINES / f"{bundle}-{other}"
    run = read_run(folder)
    config = run_config(run)
    assert run["progress"]["finished"] is True
    assert config.kind == kind
    assert beta in (None, config.beta)
    assert absolute(texts(run)) == []
    RowRecord.from_bytes((folder / ROWS_FILE).read_bytes(), run["rows"])
    load = load_baseline if kind == "resnet" else load_model
    model = load(folder / MODEL_FOLDER)
    expected = find_bundle(bundle, SHIPPED)
    assert model.class_labels == Bundle.load(expected).checkpoint.class_labels
    shape, levels = model.classifier.config.input_shape, model.classifier.config.levels
    answer = model.classifier.classify(smooth_images(shape, levels, 32))
    logits = answer if isinstance(answer, Tensor) else answer.logits
    assert logits.shape == (32, len(model.class_labels))
    assert logits.isfinite().all()


def test_the_baselines_can_be_held_against_a_model_of_their_recipe() -> None:
    model = open_source(str(BASELINES / "fashion-mnist-beta-inf"), None)
    flow = open_flow(BASELINES / "fashion-mnist-beta-0", model)
    resnet = open_baseline(BASELINES / "fashion-mnist-resnet", model)
    assert flow.settings_that_differ == resnet.settings_that_differ == {}


def test_the_sweep_is_of_the_baselines_that_ship() -> None:
    """By the sums of their weights."""
    measured = json.loads((SHIPPED / "sweep" / "sweep.json").read_text())
    assert measured["missing"] == {}
    sums = {point["beta"]: point["weights_sha256"] for point in measured["points"]}
    assert set(sums) == {0, 1, 2, 4, 8, 16, 32, "inf", None}
    for name, beta in (("resnet", None), ("beta-0", 0), ("beta-inf", "inf")):
        content = (BASELINES / f"fashion-mnist-{name}" / MODEL_FOLDER / WEIGHTS_FILE).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sums[beta]

"""Training settings: through JSON and back, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from train.config import TrainConfig
from train.loop import learning_rate
from train.recipes import RECIPES, RecipeError, find_recipe


@pytest.mark.parametrize("beta", [0.0, 0.1, 2.0, math.inf])
def test_settings_survive_json(beta: float) -> None:
    config = TrainConfig(recipe="digits", data="digits", beta=beta, learning_rate=1 / 3, seed=7)
    written = json.dumps(config.to_dict(), allow_nan=False)
    assert TrainConfig.from_dict(json.loads(written)) == config


def test_classes_left_out_survive_json() -> None:
    config = TrainConfig(recipe="digits", data="digits", leave_out=("Bag", "Ankle boot"))
    written = json.dumps(config.to_dict())
    assert json.loads(written)["leave_out"] == ["Bag", "Ankle boot"]
    assert json.loads(written) == config.to_dict()
    assert TrainConfig.from_dict(json.loads(written)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": math.nan}, "beta nan: expected a number from 0 to inf"),
        ({"beta": -0.1}, "beta -0.1"),
        ({"epochs": 0}, "epochs 0: expected at least 1"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"fit_rows": 0}, "fit_rows 0"),
        ({"cal_rows": -1}, "cal_rows -1"),
        ({"threads": 0}, "threads 0"),
        ({"seed": -1}, "seed -1: expected 0 or more"),
        ({"shift": -1}, "shift -1: expected 0 or more"),
        ({"ema": 1.0}, "ema 1.0: expected 0 \\(none\\) to below 1"),
        ({"dropout": 1.0}, "dropout 1.0: expected 0 to below 1"),
        ({"dropout": math.nan}, "dropout nan"),
        ({"rows": 0}, "rows 0: expected at least 1, or none"),
        ({"workers": 0}, "workers 0"),
        ({"kind": "vit"}, "kind 'vit': expected one of flow, resnet"),
        ({"precision": "fp8"}, "precision 'fp8': expected one of float32, bf16"),
        ({"compile": True, "recompute": True}, "compile and recompute: expected one of them"),
        ({"learning_rate": 0.0}, "learning_rate 0.0: expected a positive number"),
        ({"learning_rate": math.nan}, "learning_rate nan"),
        ({"learning_rate": math.inf}, "learning_rate inf"),
        ({"kind": "resnet", "init": "x"}, "init with kind resnet: expected a flow; leave out"),
        ({"epochs": 2.5}, "epochs 2.5: expected a whole number"),
        ({"seed": 2**63}, "seed 9223372036854775808: expected a whole number"),
        ({"rows": "5"}, "rows '5': expected a whole number"),
        ({"ema": "x"}, "ema 'x': expected a number"),
        ({"flip": 1}, "flip 1: expected bool"),
        ({"init": 5}, "init 5: expected str"),
        ({"leave_out": "Bag"}, "leave_out 'Bag': expected names of classes"),
        ({"leave_out": ("Bag", "")}, "expected names of classes, none of them empty"),
        ({"leave_out": ("Bag", 7)}, "expected names of classes"),
        ({"leave_out": ("Bag", "Coat", "Bag")}, r"leave_out \['Bag'\]: expected each class once"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(recipe="digits", data="digits", **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"newer": 1}, "newer"),
        ({"leave_out": "Bag"}, "leave_out 'Bag': expected names of classes"),
        ({"leave_out": [7]}, "expected names of classes"),
        ({"leave_out": None}, "leave_out None: expected names of classes"),
        ({"beta": "x"}, "'x'"),
        ({"beta": None}, "not settings this version knows"),
    ],
)
def test_settings_of_another_version(change: dict[str, Any], message: str) -> None:
    data = TrainConfig(recipe="digits", data="digits").to_dict()
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_dict(data | change)
    data.pop("beta")
    with pytest.raises(ValueError, match="the settings lack 'beta'"):
        TrainConfig.from_dict(data)


def test_too_many_classes_for_a_recipe() -> None:
    assert find_recipe("digits").flow_config(64, seed=0).n_classes == 64
    with pytest.raises(RecipeError, match=r"'digits' for 65 classes: .*expected 1 to 64; choose"):
        find_recipe("digits").flow_config(65, seed=0)


def test_the_learning_rate_warms_up_then_falls() -> None:
    config = TrainConfig(recipe="x", data="x", learning_rate=2.0, warmup_fraction=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("total", [1, 2, 3])
def test_the_learning_rate_of_very_short_runs(total: int) -> None:
    config = TrainConfig(recipe="x", data="x")
    assert all(0 < learning_rate(config, step, total) <= 1e-3 for step in range(total))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_built(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert recipe.flow_config(10, seed=3).seed == 3
    assert recipe.train_config(data="digits").recipe == name


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"'nope': expected one of digits, .*, auto$"):
        find_recipe("nope")

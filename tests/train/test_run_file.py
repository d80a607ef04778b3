"""``run.json``: what an older version wrote, or what is damaged, is refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import CheckpointError
from train.baselines import ResNetConfig, matched_resnet
from train.config import TrainConfig
from train.recipes import find_recipe
from train.run import resume
from train.run_file import RUN_FILE, read_run, run_architecture, run_config, write_run

CONFIG = TrainConfig(recipe="digits", data="digits", beta=math.inf)
FLOW = find_recipe("digits").flow_config(10, seed=0)


def whole() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "config": CONFIG.to_dict(),
        "architecture": FLOW.to_dict(),
        "classes": ["a"] * 10,
        "rows": {"train": 1, "fit": 1, "cal": 1},
    }


def test_a_run_comes_back(tmp_path: Path) -> None:
    write_run(tmp_path, whole())
    run = read_run(tmp_path)
    assert run == whole()
    assert run_config(run) == CONFIG
    assert run_architecture(run, CONFIG) == FLOW


def test_a_baseline_comes_back(tmp_path: Path) -> None:
    config = TrainConfig(recipe="digits", data="digits", kind="resnet")
    resnet = matched_resnet(FLOW)
    write_run(tmp_path, whole() | {"config": config.to_dict(), "architecture": resnet.to_dict()})
    found = run_architecture(read_run(tmp_path), config)
    assert isinstance(found, ResNetConfig)
    assert found == resnet


def test_settings_that_an_older_version_had_not_take_their_defaults(tmp_path: Path) -> None:
    run = whole()
    for name in ("kind", "size", "init", "ema", "workers"):
        del run["config"][name]
    write_run(tmp_path, run)
    assert run_config(read_run(tmp_path)) == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("config"), "config: not there"),
        (lambda r: r.update(config=[]), "config: found another kind"),
        (lambda r: r.update(rows=5), "rows: found another kind"),
        (lambda r: r["config"].update(newer=1), "newer"),
        (lambda r: r["config"].update(beta="x"), "'x'"),
        (lambda r: r["config"].update(batch_size=-1), "batch_size -1: expected at least 1"),
        (lambda r: r["config"].update(kind="vit"), "kind 'vit'"),
        (lambda r: r["architecture"].pop("stages"), "not an architecture"),
        (lambda r: r.update(progress=[]), "progress \\[\\]"),
        (lambda r: r.update(progress={"finished": True}), "steps: not there"),
    ],
)
def test_another_version_or_damage(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    run = whole()
    change(run)
    write_run(tmp_path, run)
    with pytest.raises(CheckpointError, match=f"{RUN_FILE}: .*{message}.*: start a new run$") as e:
        resume(tmp_path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", ["[]", "5", "{", "[" * 100_000, json.dumps("x")])
def test_what_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=f"{RUN_FILE}: not a training run"):
        read_run(tmp_path)

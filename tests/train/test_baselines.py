"""The ResNet baseline: matched to the flow, trained by the same command, kept and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torchvision.models.resnet import BasicBlock
from typer.testing import CliRunner

from calibration.rows import RowRecord
from model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, CheckpointError
from model.config import FlowConfig, StageConfig
from service.cli import build_app
from train.baselines import (
    ResNetClassifier,
    ResNetConfig,
    _resnet_values,
    load_baseline,
    matched_resnet,
)
from train.config import TrainConfig
from train.recipes import RECIPES, RecipeError
from train.run import resume, train_new
from train.run_file import read_run

CONFIG = TrainConfig(
    recipe="digits",
    data="digits",
    kind="resnet",
    epochs=2,
    batch_size=128,
    ema=0.9,
    learning_rate=3e-3,
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resnet") / "run"
    assert not train_new(CONFIG, out, stop_at=5).finished
    assert resume(out).finished
    return out


@pytest.mark.parametrize("name", RECIPES)
def test_a_block_for_each_coupling_at_its_resolution(name: str) -> None:
    flow = RECIPES[name].flow_config(10, seed=0)
    config = matched_resnet(flow)
    assert sum(stage.blocks for stage in config.stages) == sum(s.couplings for s in flow.stages)
    halvings = [stage.stride for stage in config.stages]
    assert torch.tensor(halvings).prod() == 2**flow.halvings
    assert {stage.width for stage in config.stages} == {s.width for s in flow.stages if s.couplings}


def test_it_computes_what_it_is_built_of() -> None:
    flow = FlowConfig(
        input_shape=(3, 8, 8),
        n_classes=4,
        stages=(
            StageConfig(downsample="haar", blocks=0, width=4),
            StageConfig(downsample="haar", blocks=2, width=6),
            StageConfig(downsample="haar", blocks=1, width=8),
        ),
    )
    net = ResNetClassifier(matched_resnet(flow)).eval()
    blocks = [module for module in net.modules() if isinstance(module, BasicBlock)]
    assert [block.conv1.stride[0] for block in blocks] == [4, 1, 2]
    assert [block.conv1.out_channels for block in blocks] == [6, 6, 8]
    pixels = torch.rand(5, 3, 8, 8)
    net.initialise(pixels)
    assert net(pixels).shape == (5, 4)
    torch.testing.assert_close(net.normalize.mean, pixels.mean((0, 2, 3)))


def test_settings_survive_json() -> None:
    config = matched_resnet(RECIPES["cifar10"].flow_config(10, seed=3))
    assert ResNetConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="not a baseline this version knows"):
        ResNetConfig.from_dict({"stages": []})


@pytest.mark.parametrize("flag", ["--beta=2", "--dropout=0.1", "--recompute"])
def test_what_only_a_flow_has_is_refused(flag: str, tmp_path: Path) -> None:
    words = ["train", "--data=digits", "--recipe=digits", "--baseline=resnet", flag]
    found = CliRunner().invoke(build_app(), [*words, f"--out={tmp_path / 'run'}"])
    assert isinstance(found.exception, RecipeError)
    expected = f"{flag.partition('=')[0]} with --baseline resnet: expected a flow"
    assert expected in str(found.exception)


def test_a_run_leaves_a_baseline(run_dir: Path) -> None:
    baseline = load_baseline(run_dir / "model")
    assert baseline.class_labels == tuple(str(digit) for digit in range(10))
    assert baseline.spec.shape == (1, 8, 8)
    logits = baseline.classifier.classify(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert logits.shape == (2, 10)
    run = read_run(run_dir)
    assert run["config"]["kind"] == "resnet"
    assert "beta_times_dim" not in run
    assert set(run["progress"]["validation"]) == {"accuracy", "nll"}
    assert run["progress"]["validation"]["accuracy"] > 0.3
    RowRecord.from_bytes((run_dir / "rows.bin").read_bytes(), run["rows"])
    assert not (run_dir / "train_scores.parquet").exists()


def test_an_interruption_changes_nothing(run_dir: Path, tmp_path: Path) -> None:
    assert train_new(CONFIG, tmp_path / "undisturbed").finished
    found = load_baseline(run_dir / "model").classifier.state_dict()
    for name, value in (
        load_baseline(tmp_path / "undisturbed" / "model").classifier.state_dict().items()
    ):
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("name", RECIPES)
def test_values_are_counted_without_building(name: str) -> None:
    config = matched_resnet(RECIPES[name].flow_config(10, seed=0))
    with torch.device("meta"):
        built = ResNetClassifier(config).state_dict().values()
    assert _resnet_values(config) == sum(value.numel() for value in built)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / CONFIG_FILE).read_text())
    change(data)
    (folder / CONFIG_FILE).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version=2), "schema_version 2: expected 1"),
        (lambda d: d.update(classes=["a"]), "1 class labels for 10 classes"),
        (lambda d: d.update(classes=["a"] * 10), "two classes are 'a'"),
        (lambda d: d["resnet"].update(n_classes=True), "n_classes True: expected a whole number"),
        (lambda d: d["resnet"]["stages"][0].update(width=-1), "at least 1"),
        (lambda d: d["resnet"]["stages"][0].update(width=10**9), "does not fit"),
        (lambda d: d["resnet"]["stages"][0].update(blocks=3000), "does not fit"),
        (lambda d: d["resnet"]["stages"][0].update(stride=2.0), "stride 2.0"),
        (lambda d: d.update(resnet=5), "not a baseline this version knows"),
    ],
)
def test_a_damaged_baseline_is_refused_in_one_line(
    run_dir: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    copied = Path(shutil.copytree(run_dir / "model", tmp_path / "model"))
    rewrite(copied, change)
    with pytest.raises(CheckpointError, match=message) as refused:
        load_baseline(copied)
    assert "\n" not in str(refused.value)


def test_weights_that_are_no_numbers_are_refused(run_dir: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run_dir / "model", tmp_path / "model"))
    state = load_file(copied / WEIGHTS_FILE)
    state["net.0.weight"][0] = torch.nan
    (copied / WEIGHTS_FILE).write_bytes(save(state))
    with pytest.raises(CheckpointError, match="holds values that are no finite"):
        load_baseline(copied)


def test_what_is_no_baseline_is_refused(checkpoint_dir: Path, tmp_path: Path) -> None:
    for folder in (checkpoint_dir / "model", tmp_path):
        with pytest.raises(CheckpointError, match="not a ResNet baseline"):
            load_baseline(folder)

"""The ResNet baseline: matched to the flow, trained by the same command, kept and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models.resnet import BasicBlock

from calibration.rows import RowRecord
from model.checkpoint import CheckpointError
from model.config import FlowConfig, StageConfig
from train.baselines import ResNetClassifier, ResNetConfig, load_baseline, matched_resnet
from train.config import TrainConfig
from train.recipes import RECIPES
from train.run import read_run, resume, train_new

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
    torch.testing.assert_close(net.mean, pixels.mean((0, 2, 3)))


def test_settings_survive_json() -> None:
    config = matched_resnet(RECIPES["cifar10"].flow_config(10, seed=3))
    assert ResNetConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="not a baseline this version knows"):
        ResNetConfig.from_dict({"stages": []})


def test_a_run_leaves_a_baseline(run_dir: Path) -> None:
    baseline = load_baseline(run_dir / "model")
    assert baseline.class_labels == tuple(str(digit) for digit in range(10))
    assert baseline.spec.shape == (1, 8, 8)
    logits = baseline.classifier.classify(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert logits.shape == (2, 10)
    run = read_run(run_dir)
    assert run["config"]["kind"] == "resnet"
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


def test_what_is_no_baseline_is_refused(checkpoint_dir: Path, tmp_path: Path) -> None:
    for folder in (checkpoint_dir / "model", tmp_path):
        with pytest.raises(CheckpointError, match="not a ResNet baseline"):
            load_baseline(folder)

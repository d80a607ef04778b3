"""Runs that a model is held against: alike but for what is compared, or refused, or it is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from calibration.rows import RowRecord
from model.checkpoint import Checkpoint, save_model
from model.classifier import GenerativeClassifier
from model.config import FlowConfig, StageConfig
from service.bundle import Bundle
from train.baselines import ResNetClassifier, load_baseline, save_baseline
from train.data import open_data
from train.images import Images, load_images
from train.run_file import ROWS_FILE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits_test(bundle: Bundle) -> Images:
    return load_images(
        open_data("digits:test"), bundle.spec, bundle.class_labels, lambda rows, **_: rows
    )


def put_unfinished(folder: Path) -> None:
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"progress": {"finished": False}}))


def put_without_rows(folder: Path) -> None:
    (folder / ROWS_FILE).unlink()


def put_other_model(folder: Path, **changes: Any) -> None:
    stages = (StageConfig(downsample="haar", blocks=1, width=8),)
    config = FlowConfig(**{"input_shape": (1, 8, 8), "n_classes": 10, "stages": stages, **changes})
    labels = tuple("0123456789")
    checkpoint = Checkpoint(classifier=GenerativeClassifier(config), class_labels=labels)
    save_model(folder / "model", checkpoint)


UNFIT_FLOWS: dict[str, tuple[Callable[[Path], None], str]] = {
    "unfinished": (put_unfinished, "training has not finished"),
    "without rows": (put_without_rows, "nobody can tell whether it was trained on the test rows"),
    "levels": (put_other_model, "levels 256, but the model has 17"),
    "shape": (lambda f: put_other_model(f, input_shape=(1, 28, 28)), "input_shape (1, 28, 28)"),
    "stages": (lambda f: put_other_model(f, levels=17), "stages (StageConfig(blocks=1"),
}


@pytest.mark.parametrize("name", UNFIT_FLOWS)
def test_an_unfit_flow(
    oodgate: Run, checkpoint_dir: Path, flow_dir: Path, tmp_path: Path, name: str
) -> None:
    copied = Path(shutil.copytree(flow_dir, tmp_path / "copied"))
    change, message = UNFIT_FLOWS[name]
    change(copied)
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    code, _, err = oodgate(*words, "--flow", copied, "--out", tmp_path / "o")
    assert code == 2
    assert message in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("flag", ["--flow", "--baseline"])
def test_a_comparison_that_was_trained_on_test_rows(
    oodgate: Run,
    checkpoint_dir: Path,
    flow_dir: Path,
    resnet_dir: Path,
    digits_test: Images,
    tmp_path: Path,
    flag: str,
) -> None:
    source = flow_dir if flag == "--flow" else resnet_dir
    copied = Path(shutil.copytree(source, tmp_path / "copied"))
    counts = json.loads((copied / "run.json").read_text())["rows"]
    record = RowRecord.from_bytes((copied / ROWS_FILE).read_bytes(), counts)
    leaked = np.concatenate([record.train[3:], digits_test.digests[:3]])
    (copied / ROWS_FILE).write_bytes(replace(record, train=leaked).to_bytes())
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    code, _, err = oodgate(*words, flag, copied, "--out", tmp_path / "o")
    assert code == 2
    assert "was trained on 3 of the 360 test rows" in err


def put_settings(folder: Path, **changes: Any) -> None:
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"config": run["config"] | changes}))


def test_settings_that_differ_are_those_that_decide(
    oodgate: Run, bundle: Bundle, flow_dir: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(flow_dir, tmp_path / "copied"))
    put_other_model(copied, levels=17, stages=bundle.checkpoint.classifier.config.stages)
    alike = {"epochs": 4, "batch_size": 64, "threads": 2, "workers": 2, "recompute": True}
    out = tmp_path / "new"
    words = ("calibrate", bundle.path, "--data", "digits", "--test", "digits:test")
    put_settings(copied, **alike, flip=True, ema=0.5)
    assert oodgate(*words, "--flow", copied, "--out", out)[0] == 0
    found = Bundle.load(out).manifest.metrics["flow"]["settings_that_differ"]
    trained = {"flip": [False, True], "ema": [0.0, 0.5]}
    assert found == trained | {"dropout": [0.2, 0.0]}  # the architecture's, not the flag's


def test_nothing_is_said_of_runs_that_are_alike(
    oodgate: Run, bundle: Bundle, resnet_dir: Path, tmp_path: Path
) -> None:
    copied, out = Path(shutil.copytree(resnet_dir, tmp_path / "copied")), tmp_path / "new"
    put_settings(copied, epochs=4, batch_size=64)
    words = ("calibrate", bundle.path, "--data", "digits", "--test", "digits:test")
    code, said, _ = oodgate(*words, "--baseline", copied, "--out", out)
    assert code == 0
    assert "other settings" not in said
    assert Bundle.load(out).manifest.metrics["baseline"]["settings_that_differ"] == {}


def test_other_training_rows_are_said(
    oodgate: Run, checkpoint_dir: Path, flow_dir: Path, tmp_path: Path
) -> None:
    copied, out = Path(shutil.copytree(flow_dir, tmp_path / "copied")), tmp_path / "new"
    run = json.loads((copied / "run.json").read_text())
    record = RowRecord.from_bytes((copied / ROWS_FILE).read_bytes(), run["rows"])
    fewer = replace(record, train=record.train[:700])
    (copied / ROWS_FILE).write_bytes(fewer.to_bytes())
    (copied / "run.json").write_text(json.dumps(run | {"rows": fewer.counts()}))
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    code, said, _ = oodgate(*words, "--flow", copied, "--out", out)
    assert code == 0
    assert "training_rows 700, 700 of them the same, not 1,007" in said


def put_overflow(folder: Path, name: str) -> None:
    """Weights that are numbers and give outputs that are none."""
    path = folder / "model" / "weights.safetensors"
    state = load_file(path)
    assert state[name].is_floating_point()
    state[name] = torch.full_like(state[name], 3e38)
    path.write_bytes(save(state))


@pytest.mark.parametrize(
    ("flag", "weights", "output"),
    [("--flow", "class_means.weight", "log_prob"), ("--baseline", "net.17.weight", "logits")],
)
def test_a_comparison_without_numbers_is_refused(
    oodgate: Run,
    checkpoint_dir: Path,
    flow_dir: Path,
    resnet_dir: Path,
    tmp_path: Path,
    flag: str,
    weights: str,
    output: str,
) -> None:
    source = flow_dir if flag == "--flow" else resnet_dir
    copied = Path(shutil.copytree(source, tmp_path / "copied"))
    put_overflow(copied, weights)
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    code, _, err = oodgate(*words, flag, copied, "--out", tmp_path / "o")
    assert code == 2
    expected = f"error: {flag} {copied}: {output} of 360 of the 360 test rows are no finite"
    assert err.strip().splitlines()[-1].startswith(expected)
    assert "lower learning rate" in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("change", [{"blocks": 1}, {"width": 8}, {"stride": 1}])
def test_a_baseline_of_another_depth_or_width_is_refused(
    oodgate: Run, checkpoint_dir: Path, resnet_dir: Path, tmp_path: Path, change: dict[str, int]
) -> None:
    copied = Path(shutil.copytree(resnet_dir, tmp_path / "copied"))
    baseline = load_baseline(copied / "model")
    ours = baseline.classifier.config
    stages = (*ours.stages[:-1], replace(ours.stages[-1], **change))
    other = ResNetClassifier(replace(ours, stages=stages))
    save_baseline(copied / "model", replace(baseline, classifier=other))
    words = ("calibrate", checkpoint_dir, "--data", "digits", "--test", "digits:test")
    code, _, err = oodgate(*words, "--baseline", copied, "--out", tmp_path / "o")
    assert code == 2
    assert f"--baseline {copied}: stages (ResNetStage(" in err
    assert "but the ResNet that matches the model has (ResNetStage(" in err

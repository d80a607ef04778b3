"""--init BUNDLE: only as sealed, and the run's record says what it began with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save

from model.checkpoint import CheckpointError
from service.bundle import MANIFEST, MODEL_WEIGHTS, SEAL, Bundle
from service.cli.inspect import _started_from
from train.finetune import fine_tuned, provenance
from train.recipes import find_recipe
from train.run_file import read_run

Run = Callable[..., tuple[int, str, str]]
DIGITS = tuple("0123456789")
WORDS = ("train", "--data", "digits", "--recipe", "digits", "--epochs", 1, "--rows", 64, "--init")


@pytest.fixture
def copied(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "copied"))


def replace_weights(folder: Path) -> None:
    """Whole and finite, but others than were sealed."""
    state = load_file(folder / MODEL_WEIGHTS)
    state["class_means.weight"] += 1
    (folder / MODEL_WEIGHTS).write_bytes(save(state))


def test_a_bundle_by_name_is_recorded(
    oodgate: Run, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODGATE_BUNDLES", str(bundle.path.parent))
    monkeypatch.chdir(bundle.path.parent)
    out = tmp_path / "tuned"
    code, _, err = oodgate(*WORDS, "digits", "--out", out)
    assert code == 0, err
    run = read_run(out)
    assert run["config"]["init"] == bundle.path.name
    weights = hashlib.sha256((bundle.path / MODEL_WEIGHTS).read_bytes()).hexdigest()
    before = bundle.manifest.training["progress"]["seconds"]
    origin = {"name": "digits", "version": bundle.version, "weights_sha256": weights}
    assert run["init"] == {**origin, "seconds": before, "rows_recorded": True}
    assert provenance(out)["seconds"] == before + run["progress"]["seconds"]
    assert run["progress"]["finished"] is True
    assert _started_from(run) == f"digits@{bundle.version}"


def test_a_checkpoint_is_known_by_its_weights(checkpoint_dir: Path) -> None:
    weights = (checkpoint_dir / MODEL_WEIGHTS).read_bytes()
    expected = {
        "name": None,
        "version": None,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "seconds": read_run(checkpoint_dir)["progress"]["seconds"],
        "rows_recorded": True,
    }
    assert provenance(checkpoint_dir) == expected
    assert _started_from({"config": {"init": "runs/x"}, "init": expected}) == "runs/x"
    assert _started_from({"config": {}}) is None


def test_a_model_alone_says_nothing_of_its_training(checkpoint_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint_dir / "model", tmp_path / "alone")
    assert provenance(tmp_path / "alone")["seconds"] is None


@pytest.mark.parametrize("inside", [".", "model"])
def test_other_weights_than_were_sealed_are_refused(copied: Path, inside: str) -> None:
    """By the training room alone, as ``python -m train`` is."""
    flow = find_recipe("digits").flow_config(10, seed=0)
    fine_tuned(copied / inside, flow, DIGITS)
    replace_weights(copied)
    with pytest.raises(CheckpointError, match=r"weights.safetensors is not as sealed: .*restore"):
        fine_tuned(copied / inside, flow, DIGITS)


@pytest.mark.parametrize("manifest", ["[]", "{", '{"files": 5}', '{"files": {}}'])
def test_a_damaged_manifest_is_refused(copied: Path, manifest: str) -> None:
    (copied / MANIFEST).write_text(manifest)
    with pytest.raises(CheckpointError, match="restore the bundle"):
        fine_tuned(copied, find_recipe("digits").flow_config(10, seed=0), DIGITS)


def test_the_command_checks_the_whole_seal(oodgate: Run, copied: Path, tmp_path: Path) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    (copied / MANIFEST).write_text(json.dumps(manifest | {"name": "other"}))
    code, _, err = oodgate(*WORDS, copied, "--out", tmp_path / "o")
    assert code == 2
    assert err.startswith(f"error: {copied}: {MANIFEST} and {SEAL} disagree")
    assert not (tmp_path / "o").exists()


def test_the_card_counts_what_came_before(oodgate: Run, bundle_dir: Path, tmp_path: Path) -> None:
    tuned, sealed = tmp_path / "tuned", tmp_path / "sealed"
    assert oodgate(*WORDS, bundle_dir, "--out", tuned)[0] == 0
    assert oodgate("calibrate", tuned, "--data", "digits", "--out", sealed)[0] == 0
    seconds = Bundle.load(sealed).manifest.training["init"]["seconds"]
    _, out, _ = oodgate("inspect", sealed)
    assert f"begun with a model of {seconds:.0f} s" in out

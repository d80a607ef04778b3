"""One training run from DATA to checkpoint, and everything needed to repeat it.

The folder it writes: ``model/`` (config, weights), ``run.json`` (settings, data, versions, device,
duration, figures), ``rows.bin`` (content hashes of training and held-out rows),
``history.jsonl`` (figures of each epoch), ``train_scores.parquet`` (scores of training rows, for
the paper's p-value and for audit) and ``state.safetensors`` (to resume from).
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from calibration.rows import RowRecord
from calibration.table import write_table
from model.checkpoint import Checkpoint, CheckpointError, save_model, write_atomic
from model.classifier import GenerativeClassifier
from model.config import FlowConfig
from model.image import InputSpec
from model.scoring import default_device
from train.baselines import (
    BaselineCheckpoint,
    ResNetClassifier,
    ResNetConfig,
    matched_resnet,
    save_baseline,
)
from train.config import TrainConfig
from train.data import DataError, open_data
from train.divergence import TrainingDivergedError
from train.finetune import fine_tuned
from train.images import UNLABELLED, Images, load_images
from train.learner import Classifier
from train.loop import Stopped, Trainer
from train.progress import watch
from train.recipes import find_recipe
from train.scoring import score_images
from train.split import hold_out
from train.state import Counters
from train.validation import validate

RUN_FILE = "run.json"
ROWS_FILE = "rows.bin"
SCORES_FILE = "train_scores.parquet"
MODEL_FOLDER = "model"
SCHEMA_VERSION = 1

#: Training rows whose scores are kept: enough for a fraction in steps of 0.01%.
SCORED_TRAINING_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The training rows, those held out to fit the gate, class names, the record of every part."""

    images: Images
    fit_images: Images
    class_labels: tuple[str, ...]
    record: RowRecord


def train_new(config: TrainConfig, out: Path, stop_at: int | None = None) -> Stopped:
    """Train from the beginning into the folder ``out``, which must not hold a run already."""
    if (out / RUN_FILE).exists():
        raise CheckpointError(
            f"{out} already holds a run: choose another --out, or go on with it by --resume"
        )
    recipe = find_recipe(config.recipe)
    rows = load_training_set(config, InputSpec(shape=recipe.input_shape, levels=recipe.levels))
    flow = recipe.flow_config(len(rows.class_labels), config.seed)
    classifier = _classifier(config, flow)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / ROWS_FILE, rows.record.to_bytes())
    write_run(out, _facts(config, classifier, rows))
    trainer = _trainer(config, classifier, rows, out)
    return _run(trainer, trainer.start(), config, rows, out, stop_at)


def resume(out: Path, stop_at: int | None = None) -> Stopped:
    """Go on with the run in ``out`` where it stopped, to the same result; a finished one stays."""
    run = read_run(out)
    config = TrainConfig.from_dict(run["config"])
    progress = run.get("progress", {})
    if progress.get("finished"):
        counters = Counters(step=progress["steps"], seconds=progress["seconds"])
        return Stopped(counters=counters, finished=True, figures=progress["last_epoch"])
    classifier = _rebuilt(run)
    spec = InputSpec(shape=classifier.config.input_shape, levels=classifier.config.levels)
    rows = load_training_set(config, spec)
    if rows.record.to_bytes() != (out / ROWS_FILE).read_bytes():
        raise DataError(f"{config.data} has changed since the run in {out} began: start a new one")
    trainer = _trainer(config, classifier, rows, out)
    return _run(trainer, trainer.resume(), config, rows, out, stop_at)


def _classifier(config: TrainConfig, flow: FlowConfig) -> Classifier:
    """What a new run begins with."""
    if config.kind == "resnet":
        return ResNetClassifier(matched_resnet(flow))
    if config.init is not None:
        return fine_tuned(Path(config.init), flow)
    return GenerativeClassifier(flow)


def _rebuilt(run: dict[str, Any]) -> Classifier:
    """The architecture of a run that goes on; its weights are in the state."""
    if run["config"]["kind"] == "resnet":
        return ResNetClassifier(ResNetConfig.from_dict(run["architecture"]))
    return GenerativeClassifier(FlowConfig.from_dict(run["architecture"]))


def _trainer(config: TrainConfig, classifier: Classifier, rows: TrainingSet, out: Path) -> Trainer:
    torch.set_num_threads(config.threads)
    classifier = classifier.to(default_device())
    return Trainer(config, classifier, rows.images, rows.fit_images, out)


def _run(
    trainer: Trainer,
    counters: Counters,
    config: TrainConfig,
    rows: TrainingSet,
    out: Path,
    stop_at: int | None,
) -> Stopped:
    try:
        stopped = trainer.run(counters, stop_at)
    except TrainingDivergedError:
        # what is left in the folder is the last good model, not none
        trainer.resume()
        _save_classifier(out, trainer.kept, rows)
        raise
    return _finish(out, config, rows, trainer.kept, stopped)


def _save_classifier(out: Path, classifier: Classifier, rows: TrainingSet) -> None:
    if isinstance(classifier, ResNetClassifier):
        baseline = BaselineCheckpoint(classifier=classifier, class_labels=rows.class_labels)
        save_baseline(out / MODEL_FOLDER, baseline)
    else:
        checkpoint = Checkpoint(classifier=classifier, class_labels=rows.class_labels)
        save_model(out / MODEL_FOLDER, checkpoint)


def load_training_set(config: TrainConfig, spec: InputSpec) -> TrainingSet:
    """Read, decode and split DATA; the calibration rows' pixels are dropped here."""
    source = open_data(config.data)
    if source.class_labels is None:
        raise DataError(
            f"{config.data} has no labels: expected a folder a class, or a label column"
        )
    images = load_images(source, spec, source.class_labels, watch)
    if (images.labels == UNLABELLED).any():
        first = images.ids[int(np.argmax(images.labels == UNLABELLED))]
        raise DataError(f"{config.data}: row {first} has no label: training needs one for each row")
    split = hold_out(
        images.digests, fit_rows=config.fit_rows, cal_rows=config.cal_rows, seed=config.seed
    )
    record = RowRecord(
        train=images.digests[split.train],
        fit=images.digests[split.fit],
        cal=images.digests[split.cal],
    )
    return TrainingSet(
        images=images.take(split.train),
        fit_images=images.take(split.fit),
        class_labels=source.class_labels,
        record=record,
    )


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a checkpoint; raises ``CheckpointError`` where there is none."""
    try:
        run: dict[str, Any] = json.loads((folder / RUN_FILE).read_bytes())
        if run["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {run['schema_version']}: expected {SCHEMA_VERSION}")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder / RUN_FILE}: not a training run ({error})") from error
    return run


def write_run(folder: Path, run: dict[str, Any]) -> None:
    """Replace ``run.json``."""
    content = json.dumps(run, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / RUN_FILE, content.encode() + b"\n")


def _finish(
    out: Path,
    config: TrainConfig,
    rows: TrainingSet,
    classifier: Classifier,
    stopped: Stopped,
) -> Stopped:
    """Write the model; once a flow's training is done also the scores of training rows."""
    _save_classifier(out, classifier, rows)
    if stopped.finished and isinstance(classifier, GenerativeClassifier):
        chosen = np.random.default_rng(config.seed).permutation(len(rows.images))
        sample = rows.images.take(np.sort(chosen[:SCORED_TRAINING_ROWS]))
        table = score_images(classifier.eval(), sample, ["train"] * len(sample))
        write_table(table, out / SCORES_FILE)
    progress = {
        "finished": stopped.finished,
        "steps": stopped.counters.step,
        "seconds": round(stopped.counters.seconds, 1),
        "last_epoch": stopped.figures,
    }
    if stopped.finished:
        progress["validation"] = validate(classifier, rows.fit_images)
    write_run(out, {**_facts(config, classifier, rows), "progress": progress})
    return stopped


def _facts(config: TrainConfig, classifier: Classifier, rows: TrainingSet) -> dict[str, Any]:
    device = default_device()
    channels, height, width = classifier.config.input_shape
    dim = channels * height * width
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_dict(),
        "architecture": classifier.config.to_dict(),
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "classes": list(rows.class_labels),
        "rows": rows.record.counts(),
        "beta_times_dim": "inf" if math.isinf(config.beta) else config.beta * dim,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "git_commit": git_commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
    }


def git_commit() -> str | None:
    """The commit of the code that runs, with "+changes" where the checkout differs from it."""
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None

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
import sys
from dataclasses import dataclass
from functools import partial
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
from train.auto import recipe_of
from train.baselines import (
    BaselineCheckpoint,
    ResNetClassifier,
    ResNetConfig,
    matched_resnet,
    save_baseline,
)
from train.config import TrainConfig
from train.cost import describe, estimate, expected
from train.data import DataError, open_data
from train.divergence import TrainingDivergedError
from train.finetune import fine_tuned
from train.images import UNLABELLED, Images, load_images
from train.learner import Classifier
from train.loop import STATE_FILE, Stopped, Trainer
from train.parallel import Alone, World
from train.progress import watch
from train.scoring import score_images
from train.split import drawn, hold_out
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


def train_new(
    config: TrainConfig, out: Path, stop_at: int | None = None, *, address: str | None = None
) -> Stopped:
    """Train from the beginning into the folder ``out``, which must not hold a run already.

    With several workers on a Ray cluster: that at ``address``, or see ``train.distributed``.
    """
    if (out / RUN_FILE).exists():
        raise CheckpointError(
            f"{out} already holds a run: choose another --out, or go on with it by --resume"
        )
    return _train(config, out, stop_at, address)


def resume(out: Path, stop_at: int | None = None, *, address: str | None = None) -> Stopped:
    """Go on with the run in ``out`` where it stopped, to the same result; a finished one stays."""
    run = read_run(out)
    progress = run.get("progress", {})
    if progress.get("finished"):
        counters = Counters(step=progress["steps"], seconds=progress["seconds"])
        return Stopped(counters=counters, finished=True, figures=progress["last_epoch"])
    return _train(TrainConfig.from_dict(run["config"]), out, stop_at, address)


def _train(config: TrainConfig, out: Path, stop_at: int | None, address: str | None) -> Stopped:
    if config.workers == 1:
        return run_trainer(config, out, Alone(), stop_at)
    from train.distributed import train_on_ray

    return train_on_ray(config, out, stop_at, address=address)


def run_trainer(
    config: TrainConfig, out: Path, world: World, stop_at: int | None = None
) -> Stopped:
    """Train as one process of ``world``: begin a run, or go on with the one that ``out`` holds.

    Each process reads DATA, and on going on the state; the first one alone writes.
    """
    torch.set_num_threads(config.threads)
    going_on = world.any((out / RUN_FILE).exists())
    shown = world.rank == 0
    classifier, rows = _recalled(config, out, shown) if going_on else _begun(config, shown)
    classifier = classifier.to(default_device())
    if shown and not going_on:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / ROWS_FILE, rows.record.to_bytes())
        write_run(out, _facts(config, classifier, rows))
        _say_cost(config, classifier, len(rows.images))
    trainer = Trainer(config, classifier, rows.images, rows.fit_images, out, world=world)
    try:
        stopped = trainer.run(trainer.resume() if going_on else trainer.start(), stop_at)
    except TrainingDivergedError:
        # what is left in the folder is the last good model, not none
        trainer.resume()
        if shown:
            _save_classifier(out, trainer.kept, rows)
        raise
    return _finish(out, config, rows, trainer.kept, stopped) if shown else stopped


def _begun(config: TrainConfig, shown: bool) -> tuple[Classifier, TrainingSet]:
    """What a new run begins with."""
    recipe = recipe_of(config.recipe, config.data, config.size)
    spec = InputSpec(shape=recipe.input_shape, levels=recipe.levels)
    rows = load_training_set(config, spec, shown=shown)
    return _classifier(config, recipe.flow_config(len(rows.class_labels), config.seed)), rows


def _recalled(config: TrainConfig, out: Path, shown: bool) -> tuple[Classifier, TrainingSet]:
    """What the run in ``out`` began with, but for the weights: those are in its state."""
    classifier = _rebuilt(read_run(out))
    untouched = config.init is not None and not (out / STATE_FILE).exists()
    if untouched and isinstance(classifier, GenerativeClassifier):
        classifier = fine_tuned(Path(str(config.init)), classifier.config)
    spec = InputSpec(shape=classifier.config.input_shape, levels=classifier.config.levels)
    rows = load_training_set(config, spec, shown=shown)
    if rows.record.to_bytes() != (out / ROWS_FILE).read_bytes():
        raise DataError(f"{config.data} has changed since the run in {out} began: start a new one")
    return classifier, rows


def _say_cost(config: TrainConfig, classifier: Classifier, rows: int) -> None:
    """What a new run will take, measured on steps of a copy; of one process and uncompiled."""
    if isinstance(classifier, GenerativeClassifier):
        line = describe(estimate(classifier), expected(classifier, config, rows))
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the one line a run begins with


def _classifier(config: TrainConfig, flow: FlowConfig) -> Classifier:
    """Weights to begin with."""
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


def _save_classifier(out: Path, classifier: Classifier, rows: TrainingSet) -> None:
    if isinstance(classifier, ResNetClassifier):
        baseline = BaselineCheckpoint(classifier=classifier, class_labels=rows.class_labels)
        save_baseline(out / MODEL_FOLDER, baseline)
    else:
        checkpoint = Checkpoint(classifier=classifier, class_labels=rows.class_labels)
        save_model(out / MODEL_FOLDER, checkpoint)


def load_training_set(config: TrainConfig, spec: InputSpec, *, shown: bool = True) -> TrainingSet:
    """Read, decode and split DATA; the calibration rows' pixels are dropped here."""
    source = open_data(config.data)
    if source.class_labels is None:
        raise DataError(
            f"{config.data} has no labels: expected a folder a class, or a label column"
        )
    images = load_images(source, spec, source.class_labels, partial(watch, shown=shown))
    if (images.labels == UNLABELLED).any():
        first = images.ids[int(np.argmax(images.labels == UNLABELLED))]
        raise DataError(f"{config.data}: row {first} has no label: training needs one for each row")
    split = hold_out(
        images.digests, fit_rows=config.fit_rows, cal_rows=config.cal_rows, seed=config.seed
    )
    train = drawn(split.train, config.rows, config.seed)
    record = RowRecord(
        train=images.digests[train],
        fit=images.digests[split.fit],
        cal=images.digests[split.cal],
    )
    return TrainingSet(
        images=images.take(train),
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

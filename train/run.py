"""One training run from DATA to checkpoint, and everything needed to repeat it.

The folder it writes: ``model/`` (config, weights), ``run.json`` (settings, data, versions, device,
duration, figures), ``rows.bin`` (content hashes of training and held-out rows),
``history.jsonl`` (figures of each epoch), ``train_scores.parquet`` (scores of training rows, for
the paper's p-value and for audit) and ``state.safetensors`` (to resume from).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from calibration.rows import RowRecord, RowsError
from calibration.table import write_table
from model.checkpoint import Checkpoint, CheckpointError, save_model, write_atomic
from model.classifier import GenerativeClassifier
from model.compiling import check_compiler
from model.config import FlowConfig
from model.image import InputSpec
from model.scoring import default_device
from train.ancestor import descended
from train.auto import recipe_of
from train.baselines import (
    BaselineCheckpoint,
    ResNetClassifier,
    ResNetConfig,
    matched_resnet,
    save_baseline,
)
from train.config import TrainConfig
from train.cost import (
    describe_cost,
    describe_expectation,
    describe_parameters,
    estimate,
    expected,
    is_out_of_memory,
    out_of_memory,
)
from train.data import DataError, ImageRows, labelled
from train.divergence import TrainingDivergedError
from train.finetune import fine_tuned
from train.images import UNLABELLED, Images, load_images
from train.learner import Classifier
from train.left_out import training_rows
from train.loop import STATE_FILE, Stopped, Trainer
from train.parallel import Alone, World
from train.progress import say, watch
from train.recipes import RecipeError
from train.run_facts import facts, origin, surroundings
from train.run_file import (
    ROWS_FILE,
    RUN_FILE,
    read_run,
    run_architecture,
    run_config,
    write_run,
)
from train.scoring import score_images
from train.split import drawn, hold_out
from train.state import Counters
from train.validation import validate

SCORES_FILE = "train_scores.parquet"
MODEL_FOLDER = "model"

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
    _refuse_file(out)
    if (out / RUN_FILE).exists():
        raise CheckpointError(
            f"{out} already holds a run: choose another --out, or go on with it by --resume"
        )
    return _train(config, out, stop_at, address)


def _refuse_file(out: Path) -> None:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise CheckpointError(f"--out {out}: {there} is a file, expected a folder; choose another")


def resume(out: Path, stop_at: int | None = None, *, address: str | None = None) -> Stopped:
    """Go on with the run in ``out`` where it stopped, to the same result; a finished one stays."""
    run = read_run(out)
    progress = run.get("progress", {})
    if progress.get("finished"):
        counters = Counters(step=progress["steps"], seconds=progress["seconds"])
        return Stopped(counters=counters, finished=True, figures=progress["last_epoch"])
    return _train(run_config(run), out, stop_at, address)


def _train(config: TrainConfig, out: Path, stop_at: int | None, address: str | None) -> Stopped:
    if config.workers == 1:
        if address is not None:
            raise RecipeError(f"--address {address}: expected a run with --workers of 2 or more")
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
    torch.backends.cudnn.deterministic = True  # a run that goes on ends with the same weights
    if config.compile:
        check_compiler(default_device())
    try:
        return _trained(config, out, world, stop_at)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(config, default_device()) from error


def _trained(config: TrainConfig, out: Path, world: World, stop_at: int | None) -> Stopped:
    going_on = world.any((out / RUN_FILE).exists())
    shown = world.rank == 0
    classifier, rows = _recalled(config, out, shown) if going_on else _begun(config, shown)
    classifier = classifier.to(default_device())
    if shown and not going_on:
        _write_begun(config, out, classifier, rows)
    trainer = Trainer(config, classifier, rows.images, rows.fit_images, out, world=world)
    counters = trainer.resume() if going_on else trainer.start()
    if shown and going_on:
        _note_resumption(out)
    try:
        stopped = trainer.run(counters, stop_at)
    except TrainingDivergedError:
        # what is left in the folder is the last good model, not none
        trainer.resume()
        if shown:
            _save_classifier(out, trainer.kept, rows)
        raise
    return _finish(out, config, rows, trainer.kept, stopped) if shown else stopped


def _write_begun(config: TrainConfig, out: Path, classifier: Classifier, rows: TrainingSet) -> None:
    """Say what the run will take, then make its folder."""
    _say_cost(config, classifier, len(rows.images))
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / ROWS_FILE, rows.record.to_bytes())
    begun = facts(config, classifier, rows.class_labels, rows.record)
    write_run(out, {**begun, **origin(config)})


def _note_resumption(out: Path) -> None:
    run = read_run(out)
    write_run(out, {**run, "resumed": [*run.get("resumed", []), surroundings()]})


def _begun(config: TrainConfig, shown: bool) -> tuple[Classifier, TrainingSet]:
    """What a new run begins with."""
    recipe = recipe_of(config.recipe, config.data, config.size)
    spec = InputSpec(shape=recipe.input_shape, levels=recipe.levels)
    source, labels = training_rows(config)
    # before hours of decoding: too many classes, or a model that cannot be begun with
    flow = recipe.flow_config(len(labels), config.seed)
    if config.dropout is not None:
        flow = replace(flow, dropout=config.dropout)
    classifier = _classifier(config, flow, labels)
    rows = load_training_set(config, spec, shown=shown, source=source)
    if config.init is not None:
        rows = replace(rows, record=descended(Path(config.init), rows.record))
    return classifier, rows


def _recalled(config: TrainConfig, out: Path, shown: bool) -> tuple[Classifier, TrainingSet]:
    """What the run in ``out`` began with, but for the weights: those are in its state."""
    classifier = _rebuilt(out, config)
    untouched = config.init is not None and not (out / STATE_FILE).exists()
    if untouched and isinstance(classifier, GenerativeClassifier):
        labels = read_run(out)["classes"]
        classifier = _fine_tuned(config, classifier.config, labels)
    spec = InputSpec(shape=classifier.config.input_shape, levels=classifier.config.levels)
    rows = load_training_set(config, spec, shown=shown)
    recorded = _recorded(out)
    if rows.record.to_bytes() != recorded.own.to_bytes():
        raise DataError(f"{config.data} has changed since the run in {out} began: start a new one")
    return classifier, rows


def _recorded(out: Path) -> RowRecord:
    try:
        return RowRecord.from_bytes((out / ROWS_FILE).read_bytes(), read_run(out)["rows"])
    except (RowsError, OSError) as error:
        raise CheckpointError(
            f"{out / ROWS_FILE} is no record of the run's rows ({error}): restore it, or start a "
            "new run"
        ) from error


def _say_cost(config: TrainConfig, classifier: Classifier, rows: int) -> None:
    """What a new run will take, measured on steps of a copy; of one process and uncompiled."""
    if isinstance(classifier, GenerativeClassifier):
        say(describe_cost(estimate(classifier)))  # before a trial that may need too much
    else:
        say(describe_parameters(classifier))
    say(describe_expectation(expected(classifier, config, rows)))


def _classifier(config: TrainConfig, flow: FlowConfig, labels: Sequence[str]) -> Classifier:
    """Weights to begin with."""
    if config.kind == "resnet":
        return ResNetClassifier(matched_resnet(flow))
    if config.init is not None:
        return _fine_tuned(config, flow, labels)
    return GenerativeClassifier(flow)


def _fine_tuned(
    config: TrainConfig, flow: FlowConfig, labels: Sequence[str]
) -> GenerativeClassifier:
    return fine_tuned(Path(str(config.init)), flow, labels, leave_out=config.leave_out)


def _rebuilt(out: Path, config: TrainConfig) -> Classifier:
    """The architecture of a run that goes on; its weights are in the state."""
    architecture = run_architecture(read_run(out), config)
    if isinstance(architecture, ResNetConfig):
        return ResNetClassifier(architecture)
    return GenerativeClassifier(architecture)


def _save_classifier(out: Path, classifier: Classifier, rows: TrainingSet) -> None:
    if isinstance(classifier, ResNetClassifier):
        baseline = BaselineCheckpoint(classifier=classifier, class_labels=rows.class_labels)
        save_baseline(out / MODEL_FOLDER, baseline)
    else:
        checkpoint = Checkpoint(classifier=classifier, class_labels=rows.class_labels)
        save_model(out / MODEL_FOLDER, checkpoint)


def load_training_set(
    config: TrainConfig, spec: InputSpec, *, shown: bool = True, source: ImageRows | None = None
) -> TrainingSet:
    """Read, decode and split DATA (``source``, if open); calibration rows' pixels are dropped."""
    source, labels = training_rows(config) if source is None else labelled(source)
    images = load_images(source, spec, labels, partial(watch, shown=shown))
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
        class_labels=labels,
        record=record,
    )


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
    write_run(out, {**read_run(out), "progress": progress})
    return stopped

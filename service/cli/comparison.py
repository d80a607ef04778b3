"""Finished runs that a model is held against: a flow trained with beta 0, a ResNet.

They must be alike in all but what is compared, so another input, architecture or set of classes is
refused. A run that started from another model (``init``) records its own training rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.rows import Digests, RowRecord, is_in
from model.checkpoint import Checkpoint, CheckpointError, load_model
from service.cli.source import finished_run
from train.baselines import load_baseline
from train.learner import Classifier
from train.run import MODEL_FOLDER
from train.run_file import ROWS_FILE, run_config


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A classifier, its ``run.json``, and the digests (n, 32) of the rows it was trained on.

    ``source``: the flag and folder that named it.
    """

    source: str
    classifier: Classifier
    run: Mapping[str, Any]
    trained_on: Digests

    def cost(self) -> dict[str, Any]:
        """What it took: ``epochs``, ``seconds`` of training, ``parameters``."""
        return {
            "epochs": run_config(self.run).epochs,
            "seconds": self.run["progress"]["seconds"],
            "parameters": sum(p.numel() for p in self.classifier.parameters()),
        }

    def refuse_trained_on(self, digests: Digests) -> None:
        """Raise ``CheckpointError`` where any of the test rows (N, 32) was trained on."""
        known = int(is_in(digests, self.trained_on).sum())
        if known:
            raise CheckpointError(
                f"{self.source} was trained on {known:,} of the {len(digests):,} test rows, which "
                "would flatter it: train it on the model's own data, or choose other --test rows"
            )


def open_flow(folder: Path, checkpoint: Checkpoint) -> Comparison:
    """A plain flow like the model; raises ``CheckpointError`` saying how it differs."""
    source = f"--flow {folder}"
    run = _run_of_kind(folder, "flow", source)
    beta = run_config(run).beta
    if beta != 0:
        raise CheckpointError(
            f"{source} was trained with beta {beta:g}, expected 0, a plain flow: train one by "
            "oodgate train --beta 0"
        )
    classifier = load_model(folder / MODEL_FOLDER).classifier
    ours = checkpoint.classifier.config
    _refuse_other_input(source, classifier, checkpoint)
    _refuse_other(source, "stages", classifier.config.stages, ours.stages)
    trained_on = _trained_on(folder, run)
    return Comparison(source=source, classifier=classifier, run=run, trained_on=trained_on)


def open_baseline(folder: Path, checkpoint: Checkpoint) -> Comparison:
    """A ResNet for the model's classes; raises ``CheckpointError`` saying how it differs."""
    source = f"--baseline {folder}"
    run = _run_of_kind(folder, "resnet", source)
    baseline = load_baseline(folder / MODEL_FOLDER)
    _refuse_other_input(source, baseline.classifier, checkpoint)
    _refuse_other(source, "classes", baseline.class_labels, checkpoint.class_labels)
    trained_on = _trained_on(folder, run)
    return Comparison(source=source, classifier=baseline.classifier, run=run, trained_on=trained_on)


def _run_of_kind(folder: Path, kind: str, source: str) -> dict[str, Any]:
    run = finished_run(folder)
    found = run_config(run).kind
    if found != kind:
        raise CheckpointError(f"{source} is a run of kind {found!r}, expected {kind!r}")
    return run


def _trained_on(folder: Path, run: Mapping[str, Any]) -> Digests:
    try:
        content = (folder / ROWS_FILE).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{error.filename}: {error.strerror}; expected the whole folder of a run: without the "
            "record of its rows nobody can tell whether it was trained on the test rows"
        ) from error
    return RowRecord.from_bytes(content, run["rows"]).train


def _refuse_other_input(source: str, classifier: Classifier, checkpoint: Checkpoint) -> None:
    ours, theirs = checkpoint.classifier.config, classifier.config
    _refuse_other(source, "input_shape", theirs.input_shape, ours.input_shape)
    _refuse_other(source, "levels", theirs.levels, ours.levels)


def _refuse_other(source: str, name: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckpointError(
            f"{source}: {name} {found}, but the model has {expected}; train it with the model's "
            "recipe and data"
        )

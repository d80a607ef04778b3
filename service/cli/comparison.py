"""Finished runs that a model is held against: a flow trained with beta 0, a ResNet.

They must be alike in all but what is compared, so another input, architecture or set of classes is
refused; what else they were trained with, rows and settings, may differ and is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.arrays import FloatArray
from calibration.rows import Digests, RowRecord, is_in
from model.checkpoint import CheckpointError, load_model
from service.cli.source import Source, finished_run
from train.baselines import load_baseline, matched_resnet
from train.config import TrainConfig
from train.images import Images
from train.learner import Classifier
from train.run import MODEL_FOLDER
from train.run_file import ROWS_FILE, run_config
from train.validation import outputs

#: Settings that a fair comparison shares: how, how long and on which rows.
SETTINGS = (
    "init",
    "epochs",
    "batch_size",
    "learning_rate",
    "warmup_fraction",
    "weight_decay",
    "grad_clip",
    "label_smoothing",
    "flip",
    "shift",
    "ema",
    "precision",
    "seed",
    "rows",
    "fit_rows",
    "cal_rows",
    "adversarial_eps",
    "adversarial_steps",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A classifier, its ``run.json``, and the digests (n, 32) of the rows it was trained on,
    with those of the model it began with.

    ``source``: the flag and folder that named it. ``settings_that_differ``: of ``SETTINGS`` and of
    a flow's architecture what is not the model's, name to the model's value and this run's.
    """

    source: str
    classifier: Classifier
    run: Mapping[str, Any]
    trained_on: Digests
    settings_that_differ: Mapping[str, list[Any]]

    def describe(self) -> dict[str, Any]:
        """What it took: ``epochs``, ``seconds`` of training, ``parameters``; and what differs."""
        return {
            "epochs": run_config(self.run).epochs,
            "seconds": self.run["progress"]["seconds"],
            "parameters": sum(p.numel() for p in self.classifier.parameters()),
            "settings_that_differ": dict(self.settings_that_differ),
        }

    def logits(self, images: Images) -> FloatArray:
        """Logits (N, K) of N images; raises ``CheckpointError`` where one is not finite."""
        return self._finite("logits", outputs(self.classifier, images)[0])

    def log_prob(self, images: Images) -> FloatArray:
        """A flow's log p(x) (N,) in nats; raises ``CheckpointError`` where one is not finite."""
        return self._finite("log_prob", outputs(self.classifier, images)[1])

    def _finite(self, name: str, values: FloatArray) -> FloatArray:
        wrong = int((~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).sum())
        if wrong:
            raise CheckpointError(
                f"{self.source}: {name} of {wrong:,} of the {len(values):,} test rows are no "
                "finite numbers, expected all to be: train the run anew at a lower learning rate, "
                "or compare with another"
            )
        return values

    def refuse_trained_on(self, digests: Digests) -> None:
        """Raise ``CheckpointError`` where any of the test rows (N, 32) was trained on."""
        known = int(is_in(digests, self.trained_on).sum())
        if known:
            raise CheckpointError(
                f"{self.source} was trained on {known:,} of the {len(digests):,} test rows, which "
                "would flatter it: train it on the model's own data, or choose other --test rows"
            )


def open_flow(folder: Path, model: Source) -> Comparison:
    """A plain flow like the model; raises ``CheckpointError`` saying how it differs."""
    source = f"--flow {folder}"
    run = _run_of_kind(folder, "flow", source)
    beta = run_config(run).beta
    if beta != 0:
        raise CheckpointError(
            f"{source} was trained with beta {beta:g}, expected 0, a plain flow: train one by "
            "oodgate train --beta 0"
        )
    flow = load_model(folder / MODEL_FOLDER)
    classifier = flow.classifier
    _refuse_other_input(source, classifier, model)
    _refuse_other(source, "classes", flow.class_labels, model.checkpoint.class_labels)
    expected = model.checkpoint.classifier.config.stages
    _refuse_other(source, "stages", classifier.config.stages, expected)
    return _comparison(source, folder, classifier, run, model)


def open_baseline(folder: Path, model: Source) -> Comparison:
    """The ResNet of the model's classes, depth and widths; raises ``CheckpointError`` saying how
    it differs."""
    source = f"--baseline {folder}"
    run = _run_of_kind(folder, "resnet", source)
    baseline = load_baseline(folder / MODEL_FOLDER)
    _refuse_other_input(source, baseline.classifier, model)
    _refuse_other(source, "classes", baseline.class_labels, model.checkpoint.class_labels)
    found = baseline.classifier.config.stages
    expected = matched_resnet(model.checkpoint.classifier.config).stages
    _refuse_other(source, "stages", found, expected, whose="the ResNet that matches the model")
    return _comparison(source, folder, baseline.classifier, run, model)


def _comparison(
    source: str, folder: Path, classifier: Classifier, run: dict[str, Any], model: Source
) -> Comparison:
    trained_on = _trained_on(folder, run)
    return Comparison(
        source=source,
        classifier=classifier,
        run=run,
        trained_on=trained_on,
        settings_that_differ=_differences(
            _settings(model.training, model.checkpoint.classifier), _settings(run, classifier)
        )
        | _other_rows(model.record.trained_on, trained_on),
    )


def _other_rows(ours: Digests, theirs: Digests) -> dict[str, list[Any]]:
    """Nothing where both were trained on the same rows; else how many, and how many of ours."""
    shared = int(is_in(ours, theirs).sum())
    if shared == len(ours) == len(theirs):
        return {}
    return {"training_rows": [f"{len(ours):,}", f"{len(theirs):,}, {shared:,} of them the same"]}


def _settings(run: Mapping[str, Any], classifier: Classifier) -> dict[str, Any]:
    """How a run was trained, and what of an architecture is not compared as ``stages``."""
    config, architecture = _config_of(run), classifier.config.to_dict()
    settings = {name: getattr(config, name) for name in SETTINGS}
    # by its weights where they are known: one path may hold two models, and two the same
    settings["init"] = (run.get("init") or {}).get("weights_sha256", config.init)
    return {**{n: v for n, v in architecture.items() if n != "stages"}, **settings}


def _config_of(run: Mapping[str, Any]) -> TrainConfig:
    """Of a bundle too, whose settings nothing has checked before."""
    try:
        return run_config(run)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the model's settings of training are not of this version ({error}): leave out --flow "
            "and --baseline"
        ) from error


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, list[Any]]:
    shared = [name for name in theirs if name in ours]
    return {name: [ours[name], theirs[name]] for name in shared if ours[name] != theirs[name]}


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
    return RowRecord.from_bytes(content, run["rows"]).trained_on


def _refuse_other_input(source: str, classifier: Classifier, model: Source) -> None:
    ours, theirs = model.checkpoint.classifier.config, classifier.config
    _refuse_other(source, "input_shape", theirs.input_shape, ours.input_shape)
    _refuse_other(source, "levels", theirs.levels, ours.levels)


def _refuse_other(
    source: str, name: str, found: object, expected: object, whose: str = "the model"
) -> None:
    if found != expected:
        raise CheckpointError(
            f"{source}: {name} {found}, but {whose} has {expected}; train it with the model's "
            "recipe and data"
        )

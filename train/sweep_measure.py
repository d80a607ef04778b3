"""What each run of a sweep is worth, on test rows that nothing was fitted to or chosen by.

Through the path that serving uses: bin centres, no noise. Temperatures are fitted on the rows that
the run held out to fit with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from calibration.arrays import FloatArray, IntArray
from calibration.calibration_error import ece
from calibration.metrics import accuracy, is_confident, overconfidence_error
from calibration.rows import is_in
from calibration.temperature import fit_temperature, softmax
from model.checkpoint import WEIGHTS_FILE, load_model
from model.classifier import bits_per_dim
from model.config import FlowConfig
from model.image import InputSpec
from model.scoring import default_device
from train.auto import recipe_of
from train.baselines import load_baseline
from train.config import TrainConfig
from train.cost import device_name
from train.data import DataError, open_data
from train.images import UNLABELLED, Images, load_images
from train.learner import Classifier
from train.objective import density_loss
from train.progress import watch
from train.run import MODEL_FOLDER, TrainingSet, load_training_set
from train.run_file import CHANGES, ROWS_FILE, git_commit, read_run
from train.sweep_runs import RESNET, Point
from train.validation import outputs


@dataclass(frozen=True, kw_only=True)
class SweepRows:
    """Test rows and fit rows, alike for all runs of a sweep.

    ``dropped`` counts the test rows that are among a run's own rows, and so are left out of
    ``test``; ``record`` is the content of the ``rows.bin`` that each run must have.
    """

    test: Images
    fit: Images
    dropped: int
    record: bytes


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One run on the test rows.

    ``beta``: None for the ResNet, as are ``beta_times_dim``, ``bits_per_dim`` and ``l_x`` (nats per
    dimension, the Gaussian's constant dropped, ``train.objective``): it has no density.
    ``accuracy`` in percent. ``l_y``: cross-entropy in nats an image, uncalibrated. ``ece`` in
    [0, 1] and ``oce`` (``calibration.metrics``), the latter None where none of its ``oce_count``
    predictions is confident, come after temperature scaling; ``raw_`` ones before.
    ``seconds`` and ``images_per_s`` are of training, as are ``device`` and ``git_commit``;
    ``weights_sha256`` is the sum of the file of weights that was measured.
    """

    beta: float | None
    beta_times_dim: float | None
    accuracy: float
    bits_per_dim: float | None
    l_x: float | None
    l_y: float
    oce: float | None
    oce_count: int
    raw_oce: float | None
    raw_oce_count: int
    ece: float
    raw_ece: float
    temperature: float
    seconds: float
    images_per_s: float | None
    parameters: int
    device: str
    git_commit: str | None
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What, besides a run's weights, its figures follow from.

    ``test_sha256`` and ``fit_sha256`` are sums over the pixels and labels of those rows.
    """

    test_sha256: str
    fit_sha256: str
    device: str
    threads: int
    torch: str
    git_commit: str | None

    @property
    def repeatable(self) -> bool:
        """Whether they name the code: without a commit, or with changes to it, nobody knows it."""
        return self.git_commit is not None and not self.git_commit.endswith(CHANGES)


def conditions(config: TrainConfig, rows: SweepRows) -> Conditions:
    """Those of measuring now."""
    return Conditions(
        test_sha256=_rows_sha256(rows.test),
        fit_sha256=_rows_sha256(rows.fit),
        device=device_name(default_device()),
        threads=config.threads,
        torch=torch.__version__,
        git_commit=git_commit(),
    )


def _rows_sha256(images: Images) -> str:
    content = images.digests.tobytes() + images.labels.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()


def load_rows(config: TrainConfig, test: str) -> SweepRows:
    """Decode the rows that a sweep measures with; raises ``DataError`` for a test set of no use."""
    recipe = recipe_of(config.recipe, config.data, config.size)
    spec = InputSpec(shape=recipe.input_shape, levels=recipe.levels)
    training = load_training_set(config, spec)
    images = _labelled(test, spec, training)
    seen = is_in(images.digests, training.record.known)
    if seen.all():
        raise DataError(
            f"{test}: each of its {len(images)} rows is among those of {config.data}: expected "
            "rows that no run has seen"
        )
    return SweepRows(
        test=images.take(np.flatnonzero(~seen)),
        fit=training.fit_images,
        dropped=int(seen.sum()),
        record=training.record.to_bytes(),
    )


def _labelled(test: str, spec: InputSpec, training: TrainingSet) -> Images:
    source = open_data(test)
    images = load_images(source, spec, training.class_labels, watch)
    unknown = int((images.labels == UNLABELLED).sum())
    if unknown or not len(images):
        raise DataError(
            f"{test}: {unknown} of {len(images)} rows have no label: a test set needs one for each "
            "row (a folder a class, or a label column)"
        )
    return images


def check_rows(point: Point, rows: SweepRows) -> None:
    """Raise ``DataError`` where the rows of a run that has begun are not those of ``rows``."""
    if (point.folder / ROWS_FILE).read_bytes() != rows.record:
        raise DataError(
            f"{point.config.data} has changed since the run in {point.folder} began: start the "
            "sweep in another --out"
        )


def measure(point: Point, rows: SweepRows, known: Mapping[str, Figures]) -> Figures:
    """Measure a finished run, or take from ``known``, by the sum of its weights, what it found.

    Those must have been measured under the same ``Conditions``, and repeatable ones.
    """
    training = _training(read_run(point.folder), point.config)
    weights = (point.folder / MODEL_FOLDER / WEIGHTS_FILE).read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    beta = None if point.config.kind == RESNET else point.config.beta
    if sha256 in known and known[sha256].beta == beta:
        return replace(known[sha256], **training)
    torch.set_num_threads(point.config.threads)
    classifier = _load(point).to(default_device())
    logits, log_prob = outputs(classifier, rows.test)
    fit_logits, _ = outputs(classifier, rows.fit)
    temperature = fit_temperature(fit_logits, rows.fit.labels)
    return Figures(
        beta=beta,
        **_density(classifier.config, point.config.beta, log_prob),
        **_classes(logits, rows.test.labels, temperature),
        temperature=temperature,
        **training,
        weights_sha256=sha256,
    )


def _load(point: Point) -> Classifier:
    folder = point.folder / MODEL_FOLDER
    if point.config.kind == RESNET:
        return load_baseline(folder).classifier
    return load_model(folder).classifier


def _density(config: Any, beta: float, log_prob: FloatArray) -> dict[str, Any]:
    """What only a flow has; ``log_prob`` (N,) in nats, of pixels in [0, 1]."""
    if not isinstance(config, FlowConfig):
        return {"beta_times_dim": None, "bits_per_dim": None, "l_x": None}
    mean = float(log_prob.mean())
    return {
        "beta_times_dim": beta * config.dim,
        "bits_per_dim": bits_per_dim(mean, config),
        "l_x": density_loss(mean, config.dim),
    }


def _classes(logits: FloatArray, labels: IntArray, temperature: float) -> dict[str, Any]:
    """What follows from logits (N, K) and labels (N,)."""
    raw, scaled = softmax(logits, 1.0), softmax(logits, temperature)
    truth = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return {
        "accuracy": 100 * accuracy(raw, labels),
        # from the logits: a posterior would end at 708 nats, and a plain flow is that sure
        "l_y": float((np.logaddexp.reduce(logits, axis=1) - truth).mean()),
        "oce": overconfidence_error(scaled, labels),
        "oce_count": int(is_confident(scaled).sum()),
        "raw_oce": overconfidence_error(raw, labels),
        "raw_oce_count": int(is_confident(raw).sum()),
        "ece": ece(scaled, labels),
        "raw_ece": ece(raw, labels),
    }


def _training(run: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    seconds = float(run["progress"]["seconds"])
    images = config.epochs * run["rows"]["train"]
    return {
        "seconds": seconds,
        "images_per_s": images / seconds if seconds else None,
        "parameters": run["parameters"],
        "device": run["device"],
        "git_commit": run["git_commit"],
    }

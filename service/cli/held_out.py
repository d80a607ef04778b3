"""Figures on a test split that nothing was trained, fitted or calibrated on: written, never used.

Rows whose content hash the model's record knows are left out and counted: natural data sets hold
exact copies across their splits. Near copies are not found, nor rows of a model that training
started from where that one had no record of them, which is said. Two finished runs can be held
against the model on the same rows: a flow trained with beta 0 (what the class loss costs in
density) and a ResNet (what the density costs in accuracy). Detection of strangers is not covered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from calibration.calibration import Calibration
from calibration.calibration_error import ece
from calibration.errors import CalibrationError
from calibration.metrics import accuracy
from calibration.posterior_figures import posterior_figures
from calibration.rows import Digests, is_in
from calibration.table import check_table, floats_of, labels_of, logits_of, statistics_of
from calibration.temperature import softmax
from model.checkpoint import Checkpoint, CheckpointError
from model.classifier import bits_per_dim
from model.config import FlowConfig
from service.cli.comparison import Comparison, open_baseline, open_flow
from service.cli.source import Source
from train.ancestor import recorded_fully
from train.data import DataError, open_data
from train.images import UNLABELLED, Images, load_images
from train.left_out import of_known_classes
from train.progress import watch
from train.scoring import round_trip_error, score_images

#: Test rows that are also inverted.
INVERTED_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Test rows that the model has not seen, all labelled; ``refused``: how many it had seen.

    ``all_known``: whether every row that the model comes from is known. ``left_out``: what to say
    of rows of classes that the model was not to know, None where there are none.
    """

    data: str
    images: Images
    refused: int
    all_known: bool
    left_out: str | None
    flow: Comparison | None
    baseline: Comparison | None

    def describe(self) -> str:
        """What is tested on, for people."""
        said = [f"test: {len(self.images):,} rows of {self.data}"]
        if self.left_out:
            said.append(self.left_out)
        if self.refused:
            said.append(f"refused {self.refused:,} that were trained, fitted or calibrated on")
        if not self.all_known:
            said.append("rows of the models before it are not all known, and may be among these")
        return "; ".join(said)


def open_held_out(
    data: str,
    flow: Path | None,
    baseline: Path | None,
    model: Source,
    used: Digests,
) -> HeldOut | None:
    """Read the test rows and the runs to compare with; None where ``data`` is empty.

    ``used`` (n, 32): the rows that calibrate the model now, left out beside those that its record
    knows. Raises an error that a user can mend for rows without labels, for a split with no new
    row, and for a run that cannot be compared; all of it before anything is scored.
    """
    if not data:
        return None
    plain = open_flow(flow, model) if flow else None
    resnet = open_baseline(baseline, model) if baseline else None
    checkpoint = model.checkpoint
    source, left_out = of_known_classes(open_data(data), model.training)
    rows = load_images(source, checkpoint.spec, checkpoint.class_labels, watch)
    images = _unseen(data, rows, np.concatenate([model.record.known, used]))
    for comparison in filter(None, (plain, resnet)):
        comparison.refuse_trained_on(images.digests)
    refused = len(rows) - len(images)
    return HeldOut(
        data=data,
        images=images,
        refused=refused,
        all_known=recorded_fully(model.training),
        left_out=left_out,
        flow=plain,
        baseline=resnet,
    )


def refuse_without_test(data: str, flow: Path | None, baseline: Path | None) -> None:
    """Raise ``CalibrationError`` for runs to compare with and no test rows to do it on."""
    if not data and (flow or baseline):
        raise CalibrationError(
            "--flow and --baseline are held against the model on test rows: add --test DATA"
        )


def held_out_metrics(
    held_out: HeldOut, checkpoint: Checkpoint, calibration: Calibration
) -> dict[str, Any]:
    """Score the test rows with each model: ``test``; ``flow`` and ``baseline`` where they are.

    ``test.round_trip``: largest error of an inverted pixel, of the first rows, in [0, 1].
    ``flow.difference``: bits/dim that the model needs more than the plain flow, negative where it
    needs fewer. ``baseline.gap_points``: percentage points of accuracy that the model is behind.
    Raises ``CheckpointError`` for a run whose outputs are no finite numbers.
    """
    images = held_out.images
    table = score_images(checkpoint.classifier, images, [None] * len(images))
    rows = {"data": held_out.data, "rows": len(images), "refused": held_out.refused}
    test: dict[str, Any] = rows | split_figures(table, calibration, checkpoint.classifier.config)
    test["round_trip"] = _round_trip(
        checkpoint, images.take(np.arange(len(images))[:INVERTED_ROWS])
    )
    metrics: dict[str, Any] = {"test": test}
    if held_out.flow:
        log_prob = held_out.flow.log_prob(images)
        found = bits_per_dim(float(log_prob.mean()), checkpoint.classifier.config)
        figures = {"bits_per_dim": found, "difference": test["bits_per_dim"] - found}
        metrics["flow"] = {"beta": 0, **figures, **held_out.flow.describe()}
    if held_out.baseline:
        posterior = softmax(held_out.baseline.logits(images), 1.0)
        found = accuracy(posterior, images.labels)
        figures = {"accuracy": found, "gap_points": 100 * (found - test["accuracy"])}
        metrics["baseline"] = {"kind": "resnet", **figures, **held_out.baseline.describe()}
    return metrics


def _round_trip(checkpoint: Checkpoint, images: Images) -> dict[str, Any]:
    error = round_trip_error(checkpoint.classifier, images)
    if not np.isfinite(error):
        raise CheckpointError(
            f"inverting {len(images):,} test rows gives no finite pixels, expected the rows "
            "themselves: the density of such a flow means nothing; train it anew at a lower "
            "learning rate"
        )
    return {"rows": len(images), "max_error": error}


def split_figures(table: pa.Table, calibration: Calibration, config: FlowConfig) -> dict[str, Any]:
    """Figures of a score table of labelled rows, one of them at least.

    ``accuracy``; ``bits_per_dim``; ``p_value_at_most_alpha``, ``rejected`` and ``abstained``,
    shares of rows, at the calibration's ``alpha``; and those of the calibrated posterior,
    ``PosteriorFigures``, with ``ece_before_temperature``. Raises ``TableError`` for a score that
    is no finite number.
    """
    check_table(table)
    logits, log_prob = logits_of(table), floats_of(table, "log_prob")
    labels, _ = labels_of(table)
    decided = calibration.decide(logits, log_prob, statistics_of(table))
    return {
        "accuracy": accuracy(decided.posterior, labels),
        "bits_per_dim": bits_per_dim(float(log_prob.mean()), config),
        **posterior_figures(decided.posterior, labels),
        "ece_before_temperature": ece(softmax(logits, 1.0), labels),
        "alpha": calibration.alpha,
        "p_value_at_most_alpha": float(np.mean(decided.p_value <= calibration.alpha)),
        "rejected": float(decided.rejected.mean()),
        "abstained": float(decided.abstained.mean()),
    }


def summary(metrics: Mapping[str, Any]) -> str:
    """The figures in a line, for people; one more for each run that was trained otherwise."""
    test, flow, baseline = metrics["test"], metrics.get("flow"), metrics.get("baseline")
    said = (
        f"test: accuracy {test['accuracy']:.2%}, {test['bits_per_dim']:.3f} bits/dim, "
        f"{test['p_value_at_most_alpha']:.2%} with p <= {test['alpha']}"
    )
    if flow:
        said += f"; flow of beta 0: {flow['bits_per_dim']:.3f} bits/dim ({flow['difference']:+.3f})"
    if baseline:
        said += f"; {baseline['kind']}: accuracy {baseline['accuracy']:.2%}"
    lines = [said]
    for name, figures in (("flow", flow), ("baseline", baseline)):
        if figures and figures["settings_that_differ"]:
            differ = figures["settings_that_differ"].items()
            settings = "; ".join(f"{word} {theirs}, not {ours}" for word, (ours, theirs) in differ)
            lines.append(f"--{name} was trained with other settings than the model: {settings}")
    return "\n".join(lines)


def _unseen(data: str, images: Images, seen: Digests) -> Images:
    if not len(images):
        raise DataError(f"--test {data}: found no rows, expected some that are images")
    unlabelled = images.labels == UNLABELLED
    if unlabelled.any():
        raise DataError(
            f"--test {data}: {unlabelled.sum()} of {len(images)} rows have no label, the first is "
            f"{images.ids[int(unlabelled.argmax())]}: expected a folder a class, or a label column"
        )
    known = is_in(images.digests, seen)
    if known.all():
        raise DataError(
            f"--test {data}: all {len(images)} rows were trained, fitted or calibrated on: give a "
            "split that the model has not seen"
        )
    return images.take(np.flatnonzero(~known))

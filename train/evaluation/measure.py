"""Everything that is measured of a bundle on the sets it is held against; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from calibration.arrays import FloatArray
from calibration.calibration import Calibration
from calibration.detection import Rate, share_of
from calibration.rows import RowRecord, is_in
from model.checkpoint import Checkpoint
from train.data import DataError, ImageRows
from train.evaluation.judging import Judge, JudgedSet
from train.evaluation.pairs import Mean, Pair, compare, mean_of
from train.evaluation.posterior import PosteriorReport, posterior_figures
from train.evaluation.rates import ClassRates, Realised, class_rates, realised
from train.evaluation.sets import (
    LEFT_OUT,
    THIRTEEN,
    StrangeRows,
    Unseen,
    limited,
    load_unseen,
    with_bases_checked,
)
from train.images import Images
from train.learner import Classifier
from train.progress import say
from train.scoring import score_images
from train.strangers import Encoding
from train.validation import outputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """What is evaluated: a bundle's parts, and its ``training``."""

    name: str
    version: str
    checkpoint: Checkpoint
    calibration: Calibration
    record: RowRecord
    training: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """A classifier of the same classes to hold the model against, and the rows it is made of."""

    name: str
    kind: str
    classifier: Classifier
    record: RowRecord


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """The rows of the model's own kind: ``rows`` used, ``labelled`` of them with a class;
    ``refused`` were trained, fitted or calibrated on."""

    data: str
    rows: int
    refused: int
    labelled: int
    not_finite: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All numbers. ``detectors``: name -> words, in order; ``baselines``: name -> kind; ``mode``:
    that of the calibration, which says what is promised."""

    known: KnownSet
    detectors: Mapping[str, str]
    baselines: Mapping[str, str]
    limit: int | None
    mode: str
    pairs: tuple[Pair, ...]
    means: tuple[Mean, ...]
    realised: tuple[Realised, ...]
    rejected: Rate
    abstained: Rate
    classes: tuple[ClassRates, ...]
    posteriors: tuple[PosteriorReport, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """The images of a set, and how they were judged; row i of one is row i of the other."""

    name: str
    images: Images
    judged: JudgedSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The numbers, and what figures are drawn from: the known rows and each set of strangers."""

    model: Model
    evaluation: Evaluation
    known: Side
    strange: tuple[Side, ...]


def measure(
    model: Model,
    rows: ImageRows,
    strange: Sequence[StrangeRows],
    baselines: Sequence[Baseline],
    limit: int | None,
) -> Measured:
    """Score ``rows`` and each set of strangers, at most ``limit`` rows of each, and compare.

    Raises ``DataError`` for a set of which nothing is unseen, for far13 of images that the model
    has seen, and for rows that a baseline was trained on.
    """
    judge = Judge.of(model.calibration)
    unseen = _load(model, rows, limit, labelled=True)
    _refuse_trained_on(baselines, unseen.images, rows.spec)
    strange = with_bases_checked(strange, model.checkpoint.spec, model.record.known)
    known, logits = _judged(model, judge, "known", unseen.images, baselines)
    compared = [_compared(model, judge, known, found, baselines, limit) for found in strange]
    pairs = tuple(pair for pair, _ in compared)
    evaluation = Evaluation(
        known=_known_set(rows, unseen, known),
        detectors=judge.titles(tuple(baseline.name for baseline in baselines)),
        baselines={baseline.name: baseline.kind for baseline in baselines},
        limit=limit,
        mode=model.calibration.mode,
        pairs=pairs,
        means=tuple(filter(None, (mean_of(group, pairs) for group in (THIRTEEN, LEFT_OUT)))),
        realised=realised(model.calibration, known.judged),
        rejected=share_of(known.judged.decisions.rejected),
        abstained=share_of(known.judged.decisions.abstained),
        classes=class_rates(
            model.calibration, known.judged, known.images.labels, model.checkpoint.class_labels
        ),
        posteriors=posterior_figures(known.judged, known.images.labels, logits),
    )
    return Measured(
        model=model, evaluation=evaluation, known=known, strange=tuple(side for _, side in compared)
    )


def _compared(
    model: Model,
    judge: Judge,
    known: Side,
    found: StrangeRows,
    baselines: Sequence[Baseline],
    limit: int | None,
) -> tuple[Pair, Side]:
    theirs = _load(model, found.rows, limit, labelled=False, encoding=found.encoding)
    _refuse_trained_on(baselines, theirs.images, found.name)
    side, _ = _judged(model, judge, found.name, theirs.images, baselines)
    shared = int(is_in(side.images.digests, known.images.digests).sum())
    pair = compare(found, known.judged, side.judged, refused=theirs.refused, shared=shared)
    return pair, side


def _load(
    model: Model,
    rows: ImageRows,
    limit: int | None,
    *,
    labelled: bool,
    encoding: Encoding | None = None,
) -> Unseen:
    """Strangers' own labels name other classes, so they are left out."""
    labels = model.checkpoint.class_labels if labelled else None
    say(f"reading {rows.spec}")
    return load_unseen(
        limited(rows, limit), model.checkpoint.spec, labels, model.record.known, encoding
    )


def _judged(
    model: Model, judge: Judge, name: str, images: Images, baselines: Sequence[Baseline]
) -> tuple[Side, dict[str, FloatArray]]:
    table = score_images(model.checkpoint.classifier, images, [None] * len(images))
    logits = {baseline.name: _logits(baseline, images) for baseline in baselines}
    return Side(name=name, images=images, judged=judge.judge(table, logits)), logits


def _logits(baseline: Baseline, images: Images) -> FloatArray:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        found = outputs(baseline.classifier, images)[0]
    if not np.isfinite(found).all():
        raise DataError(
            f"--baseline {baseline.name}: some logits are no finite numbers, expected all to be: "
            "train the run anew at a lower learning rate, or compare with another"
        )
    return found


def _refuse_trained_on(baselines: Sequence[Baseline], images: Images, spec: str) -> None:
    for baseline in baselines:
        count = int(is_in(images.digests, baseline.record.trained_on).sum())
        if count:
            raise DataError(
                f"--baseline {baseline.name} was trained on {count:,} of the {len(images):,} rows "
                f"of {spec}, which would flatter it: train it on the model's own data, or choose "
                "other rows"
            )


def _known_set(rows: ImageRows, unseen: Unseen, known: Side) -> KnownSet:
    return KnownSet(
        data=rows.spec,
        rows=len(known.images),
        refused=unseen.refused,
        labelled=int((known.images.labels >= 0).sum()),
        not_finite=known.judged.not_finite,
    )

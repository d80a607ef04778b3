"""Everything that is measured of a bundle on the sets it is held against; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.arrays import FloatArray
from calibration.calibration import Calibration
from calibration.detection import Rate, share_of
from calibration.rows import RowRecord, is_in
from model.checkpoint import Checkpoint
from model.precision import full_convolutions
from train.data import DataError, ImageRows
from train.evaluation.judging import Judge, JudgedSet
from train.evaluation.pairs import Mean, Pair, compare, mean_of
from train.evaluation.part import Part
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
from train.evaluation.ten_crop import TenCrop, ten_crop_accuracy
from train.images import Images
from train.learner import Classifier
from train.progress import say
from train.scoring import score_images
from train.strangers import Encoding
from train.validation import outputs

#: Suites of this file; the others are in ``train.evaluation.suites``.
OOD, CALIBRATION = "ood", "calibration"


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
    that of the calibration, which says what is promised.

    Of a suite that is not among ``suites`` there are none; ``Part`` has those of other files.
    ``ten_crop`` is None where no labelled known image is larger than the model's input.
    """

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
    suites: tuple[str, ...] = (OOD, CALIBRATION)
    ten_crop: tuple[TenCrop, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """The images of a set, and how they were judged; row i of one is row i of the other."""

    name: str
    images: Images
    judged: JudgedSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """A model beside the ``known`` rows, which every suite begins with.

    ``source``: where these rows are from; ``logits``: of each baseline on them; ``refused``: how
    many rows the model had seen.
    """

    model: Model
    judge: Judge
    baselines: tuple[Baseline, ...]
    limit: int | None
    source: ImageRows
    refused: int
    known: Side
    logits: Mapping[str, FloatArray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The numbers, and what figures are drawn from: the known rows and each set of strangers;
    ``parts``: what other suites add."""

    model: Model
    evaluation: Evaluation
    known: Side
    strange: tuple[Side, ...]
    parts: tuple[Part, ...] = ()


def hold(model: Model, rows: ImageRows, baselines: Sequence[Baseline], limit: int | None) -> Held:
    """Score ``rows``, at most ``limit`` of them, those that the model has seen left out.

    Raises ``DataError`` where nothing is unseen, and for rows that a baseline was trained on.
    """
    judge = Judge.of(model.calibration)
    unseen = _load(model, rows, limit, labelled=True)
    _refuse_trained_on(baselines, unseen.images, rows.spec)
    known, logits = judged(model, judge, "known", unseen.images, baselines)
    return Held(
        model=model,
        judge=judge,
        baselines=tuple(baselines),
        limit=limit,
        source=rows,
        refused=unseen.refused,
        known=known,
        logits=logits,
    )


def measure(
    held: Held,
    strange: Sequence[StrangeRows],
    suites: Sequence[str] = (OOD, CALIBRATION),
    parts: Sequence[Part] = (),
) -> Measured:
    """Score each set of strangers, at most ``held.limit`` rows of it, and compare.

    Raises ``DataError`` for a set of which nothing is unseen, for far13 of images that the model
    has seen, and for rows that a baseline was trained on.
    """
    model = held.model
    strange = with_bases_checked(strange, model.checkpoint.spec, model.record.known)
    compared = [_compared(held, found) for found in strange]
    evaluation = _evaluation(held, tuple(pair for pair, _ in compared), suites)
    return Measured(
        model=model,
        evaluation=evaluation,
        known=held.known,
        strange=tuple(side for _, side in compared),
        parts=tuple(parts),
    )


def _evaluation(held: Held, pairs: tuple[Pair, ...], suites: Sequence[str]) -> Evaluation:
    calibration, known = held.model.calibration, held.known
    labels, names = known.images.labels, held.model.checkpoint.class_labels
    valid = CALIBRATION in suites
    return Evaluation(
        known=_known_set(held),
        detectors=held.judge.titles(tuple(baseline.name for baseline in held.baselines)),
        baselines={baseline.name: baseline.kind for baseline in held.baselines},
        limit=held.limit,
        mode=calibration.mode,
        pairs=pairs,
        means=tuple(filter(None, (mean_of(group, pairs) for group in (THIRTEEN, LEFT_OUT)))),
        realised=realised(calibration, known.judged) if valid else (),
        rejected=share_of(known.judged.decisions.rejected),
        abstained=share_of(known.judged.decisions.abstained),
        classes=class_rates(calibration, known.judged, labels, names) if valid else (),
        posteriors=posterior_figures(known.judged, labels, held.logits) if valid else (),
        suites=tuple(suites),
        ten_crop=ten_crop_accuracy(held) if valid else None,
    )


def _compared(held: Held, found: StrangeRows) -> tuple[Pair, Side]:
    known = held.known
    theirs = unseen_strangers(held, found)
    side, _ = judged(held.model, held.judge, found.name, theirs.images, held.baselines)
    shared = int(is_in(side.images.digests, known.images.digests).sum())
    pair = compare(found, known.judged, side.judged, refused=theirs.refused, shared=shared)
    return pair, side


def unseen_strangers(held: Held, found: StrangeRows) -> Unseen:
    """The images of a set, at most ``held.limit`` rows of it, as the model sees them.

    Raises ``DataError`` where nothing is unseen, and where a baseline was trained on some.
    """
    theirs = _load(held.model, found.rows, held.limit, labelled=False, encoding=found.encoding)
    _refuse_trained_on(held.baselines, theirs.images, found.name)
    return theirs


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


def judged(
    model: Model,
    judge: Judge,
    name: str,
    images: Images,
    baselines: Sequence[Baseline],
    *,
    shown: bool = True,
) -> tuple[Side, dict[str, FloatArray]]:
    """The images of a set as they are judged, and the logits (N, K) of each baseline on them."""
    table = score_images(model.checkpoint.classifier, images, [None] * len(images), shown=shown)
    logits = {baseline.name: _logits(baseline, images) for baseline in baselines}
    return Side(name=name, images=images, judged=judge.judge(table, logits)), logits


def _logits(baseline: Baseline, images: Images) -> FloatArray:
    with full_convolutions():
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


def _known_set(held: Held) -> KnownSet:
    known = held.known
    return KnownSet(
        data=held.source.spec,
        rows=len(known.images),
        refused=held.refused,
        labelled=int((known.images.labels >= 0).sum()),
        not_finite=known.judged.not_finite,
    )

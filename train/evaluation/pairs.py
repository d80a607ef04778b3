"""Figures of a pair: rows of the model's kind against one set of strangers, by each detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.detection import Rate, fpr_at_tpr, share_of, tpr_at
from calibration.metrics import auroc
from train.evaluation.judging import JudgedSet
from train.evaluation.sets import StrangeRows


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one detector finds, all in [0, 1].

    ``auroc``, ``tpr_01`` and ``tpr_05`` (share of strangers with p <= .01 and .05; None without
    p-values): higher = better. ``fpr95``: lower = better.
    """

    detector: str
    auroc: float
    fpr95: float
    tpr_01: float | None
    tpr_05: float | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """``name`` of the strangers, ``rows`` of them; ``group``, ``excluded``, ``note``: see
    ``StrangeRows``.

    ``refused``: rows that the model had seen, taken out. ``shared``: images that are among the
    known rows too, kept. ``not_finite``: rows with a score that is no finite number. ``rejected``
    and ``abstained``: by the calibration's own alpha.
    """

    name: str
    data: str
    group: str
    excluded: str | None
    note: str | None
    rows: int
    refused: int
    shared: int
    not_finite: int
    found: tuple[Found, ...]
    rejected: Rate
    abstained: Rate

    def by(self, detector: str) -> Found | None:
        """What ``detector`` finds; None where there is none of that name."""
        return next((found for found in self.found if found.detector == detector), None)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The unweighted mean over ``pairs`` of one group, those ``excluded`` left out."""

    group: str
    pairs: tuple[str, ...]
    excluded: tuple[str, ...]
    found: tuple[Found, ...]

    def by(self, detector: str) -> Found | None:
        """See ``Pair``."""
        return next((found for found in self.found if found.detector == detector), None)


def compare(
    strange: StrangeRows, known: JudgedSet, judged: JudgedSet, *, refused: int, shared: int
) -> Pair:
    """Hold ``judged``, the images of ``strange``, against the ``known`` rows."""
    return Pair(
        name=strange.name,
        data=strange.data,
        group=strange.group,
        excluded=strange.excluded,
        note=strange.note,
        rows=len(judged),
        refused=refused,
        shared=shared,
        not_finite=judged.not_finite,
        found=tuple(_found(name, known, judged) for name in judged.scores),
        rejected=share_of(judged.decisions.rejected),
        abstained=share_of(judged.decisions.abstained),
    )


def mean_of(group: str, pairs: Sequence[Pair]) -> Mean | None:
    """The mean over the pairs of ``group``; None where none is left to take it over."""
    members = [pair for pair in pairs if pair.group == group]
    counted = [pair for pair in members if pair.excluded is None]
    if not counted:
        return None
    columns = zip(*(pair.found for pair in counted), strict=True)
    return Mean(
        group=group,
        pairs=tuple(pair.name for pair in counted),
        excluded=tuple(pair.name for pair in members if pair.excluded is not None),
        found=tuple(_mean_found(column) for column in columns),
    )


def _found(name: str, known: JudgedSet, judged: JudgedSet) -> Found:
    ours, theirs = known.scores[name], judged.scores[name]
    p = judged.p_values.get(name)
    return Found(
        detector=name,
        auroc=auroc(ours, theirs),
        fpr95=fpr_at_tpr(ours, theirs),
        tpr_01=None if p is None else tpr_at(p, 0.01),
        tpr_05=None if p is None else tpr_at(p, 0.05),
    )


def _mean_found(column: Sequence[Found]) -> Found:
    def mean(values: list[float | None]) -> float | None:
        numbers = [value for value in values if value is not None]
        return float(np.mean(numbers)) if numbers else None

    return Found(
        detector=column[0].detector,
        auroc=float(np.mean([found.auroc for found in column])),
        fpr95=float(np.mean([found.fpr95 for found in column])),
        tpr_01=mean([found.tpr_01 for found in column]),
        tpr_05=mean([found.tpr_05 for found in column]),
    )

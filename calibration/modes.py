"""Among which held-out rows a score is ranked, and so for whom its p-value is valid.

Scores S are one-sided, larger = stranger. p = (1 + #{s_i >= s}) / (n + 1) over the n rows of a
category (Vovk et al., "Algorithmic Learning in a Random World", 2005):

- ``marginal``: all rows. Valid for inputs like the calibration rows, all classes together; a class
  alone may be rejected more often than alpha, another less.
- ``predicted_class``: rows of the same predicted class (Mondrian). Valid within each predicted
  class, so for any mixture of them. Wants about 500 rows a class.
- ``label_shift_safe``: p = max_y p_y, p_y among the rows of true class y. Whatever class an input
  is of, p is at least the p_y of that class: P(p <= t) <= t within each class, so under every prior
  of the classes. Costs power.

All hold for exchangeable inputs only. What a rank promises of the one calibration set in use stands
in ``calibration.conformal``; this file covers neither two-sided ranks (``calibration.typicality``)
nor how S is made. Quotients of whole numbers below 2^26 are equal or ordered as floats exactly
where they are as fractions, so no rounding decides what is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.conformal import pac_rank, smallest_alpha
from calibration.errors import CalibrationError, UnsupportedAlphaError

MARGINAL = "marginal"
PREDICTED_CLASS = "predicted_class"
LABEL_SHIFT_SAFE = "label_shift_safe"
MODES = (MARGINAL, PREDICTED_CLASS, LABEL_SHIFT_SAFE)

#: The label of a row whose true class is not known.
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """N answers, each field (N,).

    ``p_value`` = ``rank`` / (``size`` + 1), small = strange, ``size`` the rows of the category.
    ``rejected`` is exactly ``p_value`` <= ``threshold``, the PAC bound.
    """

    rank: IntArray
    size: IntArray
    p_value: FloatArray
    threshold: FloatArray
    rejected: BoolArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """p = max_y p_y over C categories as a function of the score: u + 1 steps, downwards.

    ``edges`` (u,) are the distinct known scores, ascending; a score s is on step #{edges < s}.
    ``rank``, ``size`` (u + 1,) are those of the category with the largest p_y on each step, of
    several the one with most rows; ``falling`` (u + 1,) is -p, ascending. ``places`` are the steps
    of the known rows, category after category and ascending within each, which end at ``ends``.
    """

    edges: FloatArray
    rank: IntArray
    size: IntArray
    falling: FloatArray
    places: IntArray
    ends: IntArray

    @classmethod
    def over(cls, categories: Sequence[FloatArray]) -> Steps:
        """Of the scores of each category, none of them empty or with a score not finite."""
        edges = np.unique(np.concatenate(categories))
        places = [np.searchsorted(edges, np.sort(scores)) for scores in categories]
        rank, size = np.zeros((2, len(edges) + 1), dtype=np.int64)
        for own in sorted(places, key=len):  # of equal p the last wins: the largest category
            n = len(own)
            below = np.concatenate([[0], np.bincount(own, minlength=len(edges)).cumsum()])
            wins = (n + 1 - below) / (n + 1) >= rank / (size + 1)
            rank, size = np.where(wins, n + 1 - below, rank), np.where(wins, n, size)
        return cls(
            edges=edges,
            rank=rank,
            size=size,
            falling=-rank / (size + 1),
            places=np.concatenate(places),
            ends=np.cumsum([len(own) for own in places]),
        )

    def first_below(self, ranks: IntArray) -> int:
        """The first step from which on, p being smaller, every category's rank is in ``ranks``.

        ``ranks`` (C,) are the largest that count. A category's rank is at most l' on the steps
        beyond its l'-th largest row, so all are beyond the last of these; then on to where p falls.
        """
        last_kept = self.places[self.ends - ranks].max()
        return int(np.searchsorted(self.falling, self.falling[last_kept], side="right"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Calibration rows in the categories of one mode; frozen, made by ``ranking``.

    ``sizes`` (C,): rows of each category, which is one in mode marginal, else one a class.
    ``steps``: one for each predicted class in mode predicted_class, else a single one.

    The PAC bound makes a category's rate of false rejections at most alpha with confidence
    1 - ``delta`` over the draw of its calibration rows, each category by itself and not all at
    once (that holds with 1 - C delta). With l'_y = ``pac_rank``(n_y, alpha, delta):

    - marginal, predicted_class: reject iff p <= l'_c / (n_c + 1), c the row's category.
    - label_shift_safe: reject iff p = max_y p_y is at most t, the largest value of p such that
      every score with p <= t has rank_y <= l'_y in *each* class y. Proof: a row of class y that is
      rejected has rank_y <= l'_y, whose rate is at most alpha with confidence 1 - delta by
      ``pac_rank`` on the n_y rows of that class, whatever the other classes are. The bound
      min_y l'_y / (n_y + 1) would be valid too and never rejects more, but it can lie below the
      smallest p there is: with classes of 470 and 472 rows at alpha = .01, 1/473 below 1/471.
    """

    mode: str
    delta: float
    classes: int
    sizes: IntArray
    steps: tuple[Steps, ...]

    @property
    def smallest_alpha(self) -> float:
        """The smallest alpha that every category supports; 1, which is none, where one has none."""
        pairs = zip(self.sizes.tolist(), self._floors, strict=True)
        return max(smallest_alpha(n, self.delta, floor) for n, floor in set(pairs))

    def check_alpha(self, alpha: float) -> None:
        """Raise ``UnsupportedAlphaError`` where a category cannot support ``alpha``."""
        self._pac_ranks(alpha)

    def thresholds(self, alpha: float) -> FloatArray:
        """What the p-value of each predicted class is held against at ``alpha``, (K,)."""
        rank, size = _bounds(self, alpha)
        return np.broadcast_to(rank / (size + 1), (self.classes,)).copy()

    def rank(self, scores: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """Rank and size of the category, (N,) and (N,), of scores (N,) and predicted classes (N,).

        p = rank / (size + 1). A score that is not finite, on either side or NaN, is a stranger:
        rank 1. Raises ``CalibrationError`` for shapes and classes that do not fit.
        """
        return self._rank(*self._rows(scores, predicted))

    def known(self, predicted: int) -> FloatArray:
        """The scores that images of a predicted class are ranked among, of all categories."""
        steps = self.steps[predicted if len(self.steps) > 1 else 0]
        return steps.edges[steps.places]

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that an image can have, 1 / (n + 1) for n rows it is ranked among.

        Mode label_shift_safe: those of the smallest class; predicted_class: of the largest.
        """
        n = self.sizes.min() if self.mode == LABEL_SHIFT_SAFE else self.sizes.max()
        return 1 / (int(n) + 1)

    def judge(
        self, scores: npt.ArrayLike, predicted: npt.ArrayLike, alpha: npt.ArrayLike
    ) -> Judged:
        """Scores (N,) and predicted classes (N,) to N answers, each by itself.

        ``alpha`` one or (N,). Raises ``UnsupportedAlphaError`` for an alpha that a category cannot
        support, whichever the row's own is, and ``CalibrationError`` as ``rank`` does.
        """
        values, own = self._rows(scores, predicted)
        rank, size = self._rank(values, own)
        asked = np.asarray(alpha, dtype=np.float64)
        if asked.shape not in ((), values.shape):
            raise CalibrationError(
                f"alpha: found shape {asked.shape}, expected () or ({len(own)},)"
            )
        if asked.size and (asked == asked.flat[0]).all():  # as most are: np.unique takes longer
            levels, which = asked.ravel()[:1], np.zeros(asked.shape, dtype=np.int64)
        else:
            levels, which = np.unique(asked, return_inverse=True)  # each bound is found once
        bounds = np.array([_bounds(self, level) for level in levels.tolist()], dtype=np.int64)
        picked = bounds.reshape(-1, 2, len(self.steps))[which.reshape(asked.shape), :, own]
        limit, among = picked[:, 0], picked[:, 1]
        return Judged(
            rank=rank,
            size=size,
            p_value=rank / (size + 1),
            threshold=limit / (among + 1),
            rejected=rank * (among + 1) <= limit * (size + 1),
        )

    @property
    def _floors(self) -> list[int]:
        """The fewest ranks (C,) that each category must be able to reject.

        label_shift_safe: a stranger to all classes has rank 1 in each and p = 1 / (min n + 1); it
        is rejected only together with every score whose p is no larger.
        """
        if self.mode != LABEL_SHIFT_SAFE:
            return [1] * len(self.sizes)
        floors: list[int] = ((self.sizes + 1) // (self.sizes.min() + 1)).tolist()
        return floors

    def _pac_ranks(self, alpha: float) -> IntArray:
        """l' of each category, (C,)."""
        sizes, floors = self.sizes.tolist(), self._floors
        ranks = [pac_rank(n, alpha, self.delta, min_rank=0) for n in sizes]
        short = [
            i for i, (rank, floor) in enumerate(zip(ranks, floors, strict=True)) if rank < floor
        ]
        if short:
            limiting = max(short, key=lambda i: smallest_alpha(sizes[i], self.delta, floors[i]))
            self._refuse(alpha, limiting, floors[limiting])
        return np.array(ranks, dtype=np.int64)

    def _refuse(self, alpha: float, category: int, floor: int) -> None:
        source = "" if self.mode == MARGINAL else f", limited by class {category}"
        try:
            pac_rank(int(self.sizes[category]), alpha, self.delta, floor)
        except UnsupportedAlphaError as error:
            raise UnsupportedAlphaError(f"mode {self.mode}{source}: {error}") from None

    def _search_bounds(self, alpha: float) -> tuple[IntArray, IntArray]:
        """Largest rejected rank and its size, both (1,) or, in mode predicted_class, (K,)."""
        ranks = self._pac_ranks(alpha)
        if self.mode != LABEL_SHIFT_SAFE:
            return ranks, self.sizes
        steps = self.steps[0]
        at = steps.first_below(ranks)
        return steps.rank[at : at + 1], steps.size[at : at + 1]

    def _rank(self, values: FloatArray, own: IntArray) -> tuple[IntArray, IntArray]:
        values = np.where(np.isfinite(values), values, np.inf)
        if len(self.steps) == 1:
            at = np.searchsorted(self.steps[0].edges, values)
            return self.steps[0].rank[at], self.steps[0].size[at]
        rank, size = np.empty((2, len(values)), dtype=np.int64)
        for index in np.unique(own).tolist():
            rows, steps = own == index, self.steps[index]
            at = np.searchsorted(steps.edges, values[rows])
            rank[rows], size[rows] = steps.rank[at], steps.size[at]
        return rank, size

    def _rows(self, scores: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
        """Scores (N,), and which of ``steps`` each is read off, (N,)."""
        values, own = _aligned(scores, "predicted", predicted)
        if self.mode != PREDICTED_CLASS:
            return values, np.zeros_like(own)
        _check_classes("predicted", own, self.classes)
        return values, own


def check_mode(mode: str) -> None:
    """Raise ``CalibrationError`` for a word that is no mode."""
    if mode not in MODES:
        raise CalibrationError(f"mode: found {mode!r}, expected one of {', '.join(MODES)}")


@lru_cache(maxsize=256)  # a request may bring its own alpha; most bring the same few
def _bounds(ranking: Ranking, alpha: float) -> tuple[IntArray, IntArray]:
    return ranking._search_bounds(alpha)


def ranking(
    mode: str,
    scores: npt.ArrayLike,
    predicted: npt.ArrayLike,
    labels: npt.ArrayLike,
    classes: int,
    delta: float,
) -> Ranking:
    """The ranking of one of ``MODES`` from n calibration rows.

    ``scores`` (n,) finite, larger = stranger; ``predicted`` and ``labels`` (n,) classes in
    [0, ``classes``), labels ``UNKNOWN`` where they are not known, which label_shift_safe refuses.
    ``delta`` in (0, 1): see ``Ranking``. Raises ``CalibrationError`` for rows that do not fit and
    where a class has none to be ranked among.
    """
    check_mode(mode)
    values, own = _aligned(scores, "predicted", predicted)
    _, truth = _aligned(scores, "labels", labels)
    smallest_alpha(len(values), delta)  # refuses a delta that is none
    bad = int((~np.isfinite(values)).sum())
    if bad or not len(values):
        raise CalibrationError(
            f"calibration scores: found {len(values)} rows, {bad} of them not finite; expected at "
            "least one and only numbers: leave out rows that could not be scored"
        )
    categories = [values] if mode == MARGINAL else _categories(mode, values, own, truth, classes)
    apart = mode == PREDICTED_CLASS
    return Ranking(
        mode=mode,
        delta=delta,
        classes=classes,
        sizes=np.array([len(rows) for rows in categories], dtype=np.int64),
        steps=tuple(Steps.over([rows]) for rows in categories)
        if apart
        else (Steps.over(categories),),
    )


def _categories(
    mode: str, scores: FloatArray, predicted: IntArray, labels: IntArray, classes: int
) -> list[FloatArray]:
    """The scores of each class, predicted or true."""
    unlabelled = int((labels == UNKNOWN).sum())
    if mode == LABEL_SHIFT_SAFE and unlabelled:
        raise CalibrationError(
            f"mode {mode}: {unlabelled} of {len(labels)} calibration rows have no label; expected "
            f"one in each: label them, or calibrate in mode {MARGINAL} or {PREDICTED_CLASS}"
        )
    name, own = ("predicted", predicted) if mode == PREDICTED_CLASS else ("labels", labels)
    _check_classes(name, own, classes)
    counts = np.bincount(own, minlength=classes)
    missing = np.flatnonzero(counts == 0).tolist()
    if missing:
        kind = "predicted" if mode == PREDICTED_CLASS else "true"
        raise CalibrationError(
            f"mode {mode}: no calibration row has {kind} class {missing[0]} ({len(missing)} of "
            f"{classes} classes have none); calibrate on more rows, or in mode {MARGINAL}"
        )
    return np.split(scores[np.argsort(own, kind="stable")], counts.cumsum()[:-1])


def _aligned(
    scores: npt.ArrayLike, name: str, classes: npt.ArrayLike
) -> tuple[FloatArray, IntArray]:
    values, own = np.asarray(scores, dtype=np.float64), np.asarray(classes)
    if values.ndim != 1 or own.shape != values.shape:
        raise CalibrationError(
            f"{name}: found shape {own.shape} for scores {values.shape}, expected (N,) for both"
        )
    if own.dtype.kind not in "iu" and own.size:
        raise CalibrationError(f"{name}: found {own.dtype} values, expected whole numbers")
    return values, own.astype(np.int64)


def _check_classes(name: str, found: IntArray, classes: int) -> None:
    if len(found) and not (found.min() >= 0 and found.max() < classes):
        raise CalibrationError(
            f"{name}: found classes {found.min()} to {found.max()}, expected 0 to {classes - 1}"
        )

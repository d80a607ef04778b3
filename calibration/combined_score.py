"""S: all statistics of an image as one number, the higher the stranger.

To combine first and rank once is exact for any number of dependent statistics, where p-values of
each combined by Fisher's chi-square are not. S is fitted on fit rows alone and frozen before any
calibration row is ranked by it. Up to four views, each turned into a normal score t by its own
distribution over rows that it was not fitted on (five folds of the fit rows):

- ``joint``: surprise under the Gaussian of the predicted class (``class_gaussians``) over
  normal scores that all classes share
- ``within``: the same over normal scores within the predicted class, which sees a value that is
  common among all images and rare for its class
- ``ambiguity``: entropy of the posterior, at a quarter of the weight of the others: a stranger may
  be no typical member of any class, and so may an image between two classes
- ``distortion``: log-odds to be a distorted copy of a fit row, where there were such copies
  (``outlier_exposure``)

    S = log(e^t_joint + e^t_within + e^t_ambiguity / 4 + e^t_distortion)

Sized to the rows: a class with fewer than ``CLASS_ROWS`` of them shares the group of all rows, and
below ``COMBINED_ROWS`` in all S is the distance of log p(x) from the middle of its distribution,
the one statistic that needs no covariance. Constants were chosen on rows held out from training
(``train/LOG.md``), none on a calibration or test row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.arrays import FloatArray, IntArray
from calibration.errors import CalibrationError
from calibration.normal_scores import NormalScores
from calibration.outlier_exposure import Outliers
from calibration.views import AMBIGUITY, DISTORTION, DOUBT, ENTROPY, VIEWS, Views

#: The column that S reads beside the statistics.
LOG_PROB = "log_prob"

#: Rows that a class needs for maps and a Gaussian of its own.
CLASS_ROWS = 50
#: Rows below which covariances are not tried.
COMBINED_ROWS = 60
#: Parts of the fit rows that are left out in turn to find how views are distributed.
FOLDS = 5
#: Steps that S is rounded to: sums differ in their last bits between machines and batch sizes.
STEP = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class CombinedScore:
    """S of ``names``; made by ``fit``, stored by ``calibration.score_file``.

    ``group_of`` (K,): the group of each predicted class. ``over_all``: the normal scores that all
    classes share. ``tails``: normal scores of what the views find. Without ``views`` S is the
    distance of log p(x) from its middle, and ``tails`` has nothing to map.
    """

    names: tuple[str, ...]
    rows: int
    group_of: IntArray
    over_all: NormalScores
    views: Views | None
    tails: NormalScores | None

    @classmethod
    def fit(
        cls,
        values: Mapping[str, npt.ArrayLike],
        predicted: IntArray,
        classes: int,
        outliers: Outliers | None = None,
    ) -> CombinedScore:
        """Of fit rows: ``values`` name -> (n,), ``log_prob`` among them, classes (n,) in [0, K).

        ``outliers``: distorted copies of these rows, of the same statistics; fewer than
        ``COMBINED_ROWS`` of them are not used. The order of rows does not matter. Raises
        ``CalibrationError`` without a name or a row, of one row where ``log_prob`` is not among the
        names, and for values that are not finite.
        """
        names = tuple(values)
        x = _matrix(values, names)
        order = np.lexsort((predicted, *x.T))
        x, predicted = x[order], predicted[order]
        copies = None if outliers is None else _copies(outliers, names, order)
        least = 1 if LOG_PROB in names else 2  # folds need a row to be left out of
        if len(x) < least or not np.isfinite(x).all():
            raise CalibrationError(
                f"combined score: found {len(x)} fit rows, {(~np.isfinite(x)).any(axis=1).sum()} "
                f"of them with a statistic that is not finite; expected {least} at least, all "
                "finite"
            )
        over_all = NormalScores.fit([x])
        if len(x) < COMBINED_ROWS and LOG_PROB in names:
            group_of, views, tails = np.zeros(classes, dtype=np.int64), None, None
        else:
            group_of, groups = _groups(predicted, classes)
            group = group_of[predicted]
            found = _left_out(x, group, groups, copies, names)
            strange = None if copies is None else _shared(over_all, copies[0])
            views = Views.fit(x, _shared(over_all, x), group, groups, strange)
            tails = NormalScores.fit([found])
        return cls(
            names=names,
            rows=len(x),
            group_of=group_of,
            over_all=over_all,
            views=views,
            tails=tails,
        )

    def __call__(
        self, values: Mapping[str, npt.ArrayLike], predicted: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of rows by name and predicted class (N,): S (N,), and what it was made from.

        That are the values and their normal scores, (N, names) each. S is NaN where a statistic of
        the row is not finite.
        """
        x = _matrix(values, self.names)
        shared = _shared(self.over_all, x)
        usable = np.isfinite(x).all(axis=1)
        if usable.all():
            return self._scores(x, shared, self.group_of[predicted]), x, shared
        scores = np.full(len(x), np.nan)
        if usable.any():
            group = self.group_of[predicted[usable]]
            scores[usable] = self._scores(x[usable], shared[usable], group)
        return scores, x, shared

    def shares(self, x: FloatArray, shared: FloatArray, predicted: IntArray) -> FloatArray:
        """How much of e^S each of ``views_of`` is, (N, V), rows that sum to 1; of finite rows as
        ``__call__`` gives them. Raises ``CalibrationError`` where S has no views."""
        t = self._views(x, shared, self.group_of[predicted])
        weights = np.exp(t - t.max(axis=1, keepdims=True))
        shares: FloatArray = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def parts(self, x: FloatArray, shared: FloatArray, predicted: IntArray) -> FloatArray:
        """What each statistic adds to the surprise of the two densities, (N, 2, names), nats."""
        group = self.group_of[predicted]
        views, _ = self._fitted_views()
        own = views.by_group(x, group)
        return np.stack([views.joint.parts(shared, group), views.within.parts(own, group)], axis=1)

    @property
    def views_of(self) -> tuple[str, ...]:
        """The ``VIEWS`` that S has, none where it has no densities."""
        if self.views is None:
            return ()
        there = {DOUBT: ENTROPY in self.names, DISTORTION: self.views.outliers is not None}
        return tuple(view for view in VIEWS if there.get(view, True))

    @property
    def weights(self) -> FloatArray:
        """Logs of the weights of ``views_of`` in e^S."""
        return np.array([AMBIGUITY if view == DOUBT else 0.0 for view in self.views_of])

    def _fitted_views(self) -> tuple[Views, NormalScores]:
        if self.views is None or self.tails is None:
            raise CalibrationError(
                f"S of {self.rows} fit rows is a distance of log_prob: it has no views; expected "
                f"{COMBINED_ROWS} rows at least"
            )
        return self.views, self.tails

    def _views(self, x: FloatArray, shared: FloatArray, group: IntArray) -> FloatArray:
        """Normal scores of the views, their weights in them."""
        views, tails = self._fitted_views()
        return _shared(tails, views.columns(x, shared, group, self.names)) + self.weights

    def _scores(self, x: FloatArray, shared: FloatArray, group: IntArray) -> FloatArray:
        if self.views is None:
            found = np.abs(shared[:, self.names.index(LOG_PROB)])
        else:
            t = self._views(x, shared, group)
            top = t.max(axis=1)
            found = top + np.log(np.exp(t - top[:, None]).sum(axis=1))
        return np.rint(found / STEP) * STEP


def _shared(maps: NormalScores, x: FloatArray) -> FloatArray:
    """Normal scores of rows (N, S) by maps of a single group."""
    return maps(x, np.zeros(len(x), dtype=np.int64))


def _groups(predicted: IntArray, classes: int) -> tuple[IntArray, int]:
    """The group of each class, and how many: one for each class of many rows, the last for all."""
    counts = np.bincount(predicted, minlength=classes)
    large = np.flatnonzero(counts >= CLASS_ROWS)
    group_of = np.full(classes, len(large), dtype=np.int64)
    group_of[large] = np.arange(len(large))
    return group_of, len(large) + 1


def _copies(
    outliers: Outliers, names: Sequence[str], order: IntArray
) -> tuple[FloatArray, IntArray] | None:
    """Values (m, S) of outliers that are enough, and the place in ``order`` of the row of each."""
    if len(outliers) < COMBINED_ROWS:
        return None
    copies = _matrix(outliers.values, names)
    known = (outliers.of >= 0) & (outliers.of < len(order))
    if len(copies) != len(outliers) or not (np.isfinite(copies).all() and known.all()):
        raise CalibrationError(
            f"outliers: found {len(copies)} rows of statistics, {(~np.isfinite(copies)).sum()} "
            f"numbers of them not finite, and {(~known).sum()} of {len(known)} copies that are of "
            f"none of {len(order)} fit rows: expected finite copies of fit rows alone"
        )
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    of = place[outliers.of]
    sort = np.lexsort((of, *copies.T))
    return copies[sort], of[sort]


def _left_out(
    x: FloatArray,
    group: IntArray,
    groups: int,
    copies: tuple[FloatArray, IntArray] | None,
    names: Sequence[str],
) -> FloatArray:
    """What the views find of each row when fitted without its fold and without copies of rows of
    that fold: (n, V)."""
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    parts = []
    for k in range(FOLDS):
        out = fold == k
        over_all = NormalScores.fit([x[~out]])
        strange = None
        if copies is not None:
            strange = _shared(over_all, copies[0][fold[copies[1]] != k])
        views = Views.fit(x[~out], _shared(over_all, x[~out]), group[~out], groups, strange)
        parts.append(views.columns(x[out], _shared(over_all, x[out]), group[out], names))
    found = np.empty((len(x), parts[0].shape[1]))
    for k, part in enumerate(parts):
        found[fold == k] = part
    return found


def _matrix(values: Mapping[str, npt.ArrayLike], names: Sequence[str]) -> FloatArray:
    """The columns of ``names``, (N, S)."""
    try:
        columns = np.array([values[name] for name in names], dtype=np.float64)
    except (KeyError, ValueError):
        columns = np.empty(0)
    if columns.ndim != 2:
        shapes = {name: np.shape(column) for name, column in values.items()}
        raise CalibrationError(
            f"combined score: found statistics of shapes {shapes}, expected "
            f"{', '.join(names) or 'one at least'}, those that it was fitted for, each (N,)"
        )
    return columns.T

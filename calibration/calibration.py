"""A calibration: everything that turns scores of one model into a posterior and a decision.

Fitted once on a score table, then frozen and bound by hash to the weights, the preprocessing and
the dtype that it was fitted for; a change of any needs a new one. ``p_value`` is the rank of the
combined score S (``combined_score``) among held-out rows, in one of three modes (``modes``), held
against a PAC threshold (``conformal``); no training score enters it. This file knows no network
and does not hash: the bundle does. Its files are read and written in ``calibration.files``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from calibration.arrays import FloatArray, IntArray
from calibration.combined_score import LOG_PROB, CombinedScore
from calibration.decisions import Decisions
from calibration.errors import CalibrationError
from calibration.fit_rows import fit_rows, outliers_of, values_of
from calibration.modes import MARGINAL, Ranking, ranking
from calibration.posterior import TEMPERATURE, Posterior, missing_labels, rows_of
from calibration.prediction_sets import LAC
from calibration.reference import Reference, reference_rows
from calibration.table import floats_of, labels_of, logits_of, statistics_of
from calibration.typicality import p_train, p_typicality

__all__ = ["Bound", "Calibration", "CalibrationError"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a calibration belongs to, and is refused with anything else.

    SHA-256 in hexadecimal of the weights file and of the preprocessing (``InputSpec.digest``), and
    the dtype in which scores are computed.
    """

    weights_sha256: str
    preprocessing_sha256: str
    dtype: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Frozen; made by ``fit`` or read by ``calibration.files``.

    ``alpha``, ``delta``: at most a share ``alpha`` of inputs like the calibration rows is rejected,
    with confidence 1 - ``delta``, unless a request asks for another alpha; ``mode`` says within
    which rows. ``posterior_borrowed``: the posterior and its sets come from an earlier calibration,
    so ``set_level`` is promised for *its* rows. ``dropped``: rows with an error, left out.
    ``table``: the ``reference_rows`` of all splits.
    """

    alpha: float
    delta: float
    mode: str
    posterior: Posterior
    posterior_borrowed: bool
    combined: CombinedScore
    bound: Bound
    dropped: int
    table: pa.Table = field(repr=False)
    classes: int = field(init=False)
    reference: Reference = field(init=False, repr=False)
    ranking: Ranking = field(init=False, repr=False)
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Score and sort the reference; refuse what no decision could be made with."""
        object.__setattr__(self, "classes", logits_of(self.table).shape[1])
        object.__setattr__(self, "reference", Reference.from_table(self.table))
        object.__setattr__(self, "_names", frozenset(self.reference.names))
        object.__setattr__(self, "ranking", self._ranking())
        self.check_alpha(self.alpha)

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        *,
        bound: Bound,
        alpha: float = 0.05,
        delta: float = 0.05,
        mode: str = MARGINAL,
        posterior_method: str = TEMPERATURE,
        set_method: str = LAC,
        set_level: float = 0.95,
        posterior_from: Calibration | None = None,
    ) -> Calibration:
        """Fit on a score table: posterior and S on ``fit`` rows, q_hat and references on ``cal``.

        ``outlier`` rows, distorted copies of fit rows, give S another view.
        ``train`` rows give the training reference; without any ``p_train`` is NaN. Rows with an
        error are dropped and counted; every other row needs a split. Where a fit or cal row has no
        label, or there is no fit row, the posterior and its sets come from ``posterior_from``, an
        earlier calibration of the same model and ``set_level``; it is not used otherwise. Without
        fit rows S is that of log p(x) alone, fitted on the ``train`` rows.

        Raises ``TableError``, ``UnsupportedAlphaError`` if the cal rows cannot support ``alpha``,
        and ``CalibrationError`` for the rest.
        """
        rows = reference_rows(table)
        unlabelled = missing_labels(rows)
        if not unlabelled:
            posterior = Posterior.fit(
                rows, method=posterior_method, set_method=set_method, set_level=set_level
            )
        elif posterior_from is not None:
            asked: dict[str, object] = {"model": bound, "posterior_method": posterior_method}
            asked |= {"set_method": set_method, "set_level": set_level}
            asked |= {"classes": logits_of(rows).shape[1]}
            posterior_from._check_lends(asked)
            posterior = posterior_from.posterior
        else:
            raise CalibrationError(
                f"temperature and prediction sets need labels ({unlabelled}): label the rows, or "
                "pass posterior_from, an earlier calibration of the same weights"
            )
        return cls(
            alpha=float(alpha),
            delta=float(delta),
            mode=mode,
            posterior=posterior,
            posterior_borrowed=bool(unlabelled),
            combined=_fitted_score(rows),
            bound=bound,
            dropped=table.num_rows - rows.num_rows,
            table=rows,
        )

    @property
    def reference_size(self) -> int:
        """Held-out rows that new images are ranked among, those of all categories together."""
        return len(self.reference.held_out)

    @property
    def set_level(self) -> float:
        """Chance that a prediction set holds the true class."""
        return self.posterior.set_level

    def check_alpha(self, alpha: float) -> None:
        """Raise ``UnsupportedAlphaError`` where the reference cannot support ``alpha``."""
        self.ranking.check_alpha(alpha)

    def threshold(self, alpha: float | None = None) -> float:
        """What p_value is held against; None asks for the default alpha.

        The smallest over predicted classes, which differ in mode ``predicted_class`` alone.
        """
        return float(self.ranking.thresholds(self.alpha if alpha is None else alpha).min())

    def scores(
        self, logits: FloatArray, log_prob: FloatArray, statistics: Mapping[str, npt.ArrayLike]
    ) -> FloatArray:
        """S (N,) of rows; NaN, which ranks as the strangest, where a score is not finite."""
        found = self.combined({**statistics, LOG_PROB: log_prob}, top_class(logits))[0]
        return np.where(np.isfinite(logits).all(axis=1), found, np.nan)

    def decide(
        self,
        logits: npt.ArrayLike,
        log_prob: npt.ArrayLike,
        statistics: Mapping[str, npt.ArrayLike],
        alpha: npt.ArrayLike | None = None,
    ) -> Decisions:
        """Scores of N images to N answers, each by itself.

        ``logits`` (N, K) and ``log_prob`` (N,) in nats; ``statistics`` name -> (N,), with the names
        of the reference; ``alpha`` one or (N,), None for the default. An image whose logits,
        log_prob or statistics are not finite is rejected with the smallest p; without finite logits
        its posterior is uniform. Raises ``UnsupportedAlphaError`` for an alpha that n cannot
        support (in a batch: ``check_alpha`` each first), and ``CalibrationError`` for shapes and
        names that do not fit.
        """
        rows, density = np.asarray(logits, np.float64), np.asarray(log_prob, np.float64)
        self._check_shapes(rows, density, statistics)
        levels = self._levels(alpha, len(rows))
        posterior = self.posterior(rows)
        sets = self.posterior.sets(posterior)
        top, usable = top_class(rows), np.isfinite(rows).all(axis=1)
        score, values, normal = self.combined({**statistics, LOG_PROB: density}, top)
        score, density = np.where(usable, score, np.nan), np.where(usable, density, np.nan)
        judged = self.ranking.judge(score, posterior.argmax(axis=1), levels)
        return Decisions(
            class_index=posterior.argmax(axis=1),
            posterior=posterior,
            prediction_set=sets,
            p_value=judged.p_value,
            p_typicality=p_typicality(self.reference.held_out, density),
            p_train=p_train(self.reference.train, density),
            alpha=levels,
            threshold=judged.threshold,
            reference_size=judged.size,
            rejected=judged.rejected,
            abstained=~judged.rejected & (sets.sum(axis=1) > 1),
            score=score,
            unusual=self.reference.unusual(self.combined.names, values, normal),
        )

    def held_out(self) -> tuple[FloatArray, FloatArray, dict[str, FloatArray]]:
        """``logits`` (n, K), ``log_prob`` (n,) and statistics of the rows that images are ranked
        among, in the order of the table; as ``scores`` takes them."""
        cal = rows_of(self.table, "cal")
        named = {name: values[cal] for name, values in statistics_of(self.table).items()}
        return logits_of(self.table)[cal], floats_of(self.table, LOG_PROB)[cal], named

    def _ranking(self) -> Ranking:
        logits, log_prob, named = self.held_out()
        scores = self.scores(logits, log_prob, named)
        labels, known = labels_of(self.table)
        truth = np.where(known, labels, -1)[rows_of(self.table, "cal")]
        predicted = self.posterior(logits).argmax(axis=1)
        return ranking(self.mode, scores, predicted, truth, self.classes, self.delta)

    def _check_lends(self, asked: Mapping[str, object]) -> None:
        """A posterior belongs to one model and its classes, and is what it is."""
        mine = {
            "model": self.bound,
            "classes": self.classes,
            "posterior_method": self.posterior.method,
            "set_method": self.posterior.set_method,
            "set_level": self.posterior.set_level,
        }
        for name, expected in asked.items():
            if mine[name] != expected:
                raise CalibrationError(
                    f"posterior_from: found {name} {mine[name]!r}, expected {expected!r}; rows "
                    "without labels take over the posterior and sets of the same model as they are"
                )

    def _check_shapes(
        self, logits: FloatArray, log_prob: FloatArray, statistics: Mapping[str, npt.ArrayLike]
    ) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise CalibrationError(
                f"logits: found shape {logits.shape}, expected (N, {self.classes})"
            )
        if statistics.keys() != self._names:
            raise CalibrationError(
                f"statistics: found {sorted(statistics)}, expected those of the reference: "
                f"{sorted(self.reference.names)}"
            )
        if log_prob.shape != logits.shape[:1]:
            raise CalibrationError(
                f"log_prob: found shape {log_prob.shape}, expected {logits.shape[:1]}"
            )

    def _levels(self, alpha: npt.ArrayLike | None, count: int) -> FloatArray:
        """The alpha of each row."""
        asked = np.asarray(self.alpha if alpha is None else alpha, np.float64)
        if asked.shape not in ((), (count,)):
            raise CalibrationError(f"alpha: found shape {asked.shape}, expected () or ({count},)")
        return np.broadcast_to(asked, (count,))


def top_class(logits: FloatArray) -> IntArray:
    """The class of each row's largest logit, which S goes by; mode ``predicted_class`` goes by that
    of the calibrated posterior, which vector scaling may move."""
    return np.asarray(np.where(np.isnan(logits), -np.inf, logits).argmax(axis=1), dtype=np.int64)


def _fitted_score(rows: pa.Table) -> CombinedScore:
    part, outliers = fit_rows(rows), None
    if part.num_rows:
        values, logits = values_of(part), logits_of(part)
        outliers = outliers_of(rows, tuple(values))
    else:
        part = rows.filter(pa.array(rows_of(rows, "train")))
        if not part.num_rows:
            raise CalibrationError(
                "found neither fit nor train rows, expected some: the score that images are "
                "ranked by is fitted on rows that do not calibrate it"
            )
        values, logits = {LOG_PROB: floats_of(part, LOG_PROB)}, logits_of(part)
    return CombinedScore.fit(values, top_class(logits), logits.shape[1], outliers)

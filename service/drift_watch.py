"""Drift of what is served: the sequential test of each model, and what moved most.

After an alarm the test begins again from the calibration rows alone. So a change that stays is told
again and again rather than learnt, as far as it can be seen against those rows, and one that has
gone is not told any more. On clean traffic all alarms together keep to the budget (row
``renewals`` of ``tests.bench.drift``), though by an unlucky reference they come in twos and threes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import numpy as np

from calibration.arrays import FloatArray
from calibration.drift import AlarmBudget, DriftTest
from calibration.scored_rows import SCORE, ScoredRows
from calibration.windows import Moved, RecentWindow
from service import metrics
from service.drift_sight import Sight
from service.tally import Tally

logger = logging.getLogger("oodgate")

#: Name and version of a bundle.
Model = tuple[str, str]

#: A version that no replica has told of for so long is not served any more.
FRESH_S = 10.0
#: After so long its test is dropped; until then a rollback finds it as it was.
KEPT_S = 600.0
#: Distances are computed anew at most so often: they take some 50 ms.
DISTANCES_S = 5.0
#: At most one line of log in so many seconds tells of alarms.
LOGGED_S = 60.0


class DriftWatch:
    """One model: the sequential test of its scores, and a window of the last ones.

    ``reference``: its calibration rows; those whose S is not finite are left out. ``name`` is for
    the log alone.
    """

    def __init__(self, name: str, reference: ScoredRows, classes: int, budget: AlarmBudget) -> None:
        finite = np.isfinite(reference.scores)
        self._name = name
        self._test = DriftTest(reference.scores[finite], budget)
        self._window = RecentWindow(
            {name: values[finite] for name, values in _columns(reference).items()},
            reference.predicted[finite],
            classes,
        )
        self._moved: list[Moved] = []
        self._moved_at = self._logged_at = -np.inf

    @property
    def score(self) -> float:
        """log of the test's worth, nats, and 0 where it is below; an alarm sets it back."""
        return max(0.0, self._test.score)

    @property
    def threshold(self) -> float:
        """The score of an alarm."""
        return self._test.threshold

    @property
    def window_images(self) -> int:
        """Images that the distances are of."""
        return len(self._window)

    def add(self, rows: ScoredRows) -> int:
        """Take in rows in their order; how many alarms that gave."""
        self._window.add(_columns(rows), rows.predicted)
        alarms = self._test.renew(np.where(np.isnan(rows.scores), np.inf, rows.scores))
        if alarms:
            self._log(alarms[0])
        return len(alarms)

    def moved(self) -> list[Moved]:
        """Distances of the window, the largest effect first; a few seconds old."""
        if time.monotonic() - self._moved_at > DISTANCES_S:
            self._moved = self._window.most_moved()
            self._moved_at = time.monotonic()
        return self._moved

    def _log(self, after: int) -> None:
        if time.monotonic() - self._logged_at < LOGGED_S:
            return
        self._logged_at = time.monotonic()
        most = ", ".join(f"{one.name} ({one.effect:.1f})" for one in self._window.most_moved(3))
        logger.warning(
            "images for %s have changed: alarm of drift %d images after the test began (budget: "
            "%s); moved most, in units of chance: %s",
            *(self._name, after, self._test.budget, most),
        )


@dataclass
class _Kept:
    """``watch`` is None where no calibration row has a finite S: there is nothing to compare with.

    ``numbers``: the last sight that was taken in, by its source.
    """

    watch: DriftWatch | None
    heard_at: float
    alarmed_at: float | None = None
    numbers: dict[str, int] = field(default_factory=dict)


class DriftWatches:
    """The watches of all models that replicas serve."""

    def __init__(self, budget: AlarmBudget | None = None) -> None:
        self._budget = budget or AlarmBudget()
        self._kept: dict[Model, _Kept] = {}

    def introduce(self, model: Model, reference: ScoredRows, classes: int) -> None:
        """Begin to watch a model; one that is known goes on."""
        self._drop_old()
        if model not in self._kept:
            watch = None
            if np.isfinite(reference.scores).any():
                watch = DriftWatch(model[0], reference, classes, self._budget)
            else:
                logger.warning("%s %s: no reference row has a finite score, no test", *model)
            self._kept[model] = _Kept(watch, time.monotonic())

    def observe(self, sight: Sight) -> Tally | None:
        """What to count for a sight, nothing where it is known; None if the model is not known."""
        kept, tally = self._kept.get((sight.name, sight.version)), Tally()
        if kept is None:
            return None
        kept.heard_at = time.monotonic()
        if sight.number <= kept.numbers.get(sight.source, 0):
            return tally
        kept.numbers[sight.source] = sight.number
        looked_at = len(sight.rows) if kept.watch else 0
        alarms = kept.watch.add(sight.rows) if kept.watch else 0
        if alarms:
            kept.alarmed_at = time.time()
        tally.count(metrics.DRIFT_ALARMS, sight.name, by=alarms)
        tally.count(metrics.DRIFT_IMAGES, sight.name, by=looked_at)
        skipped = sight.skipped + len(sight.rows) - looked_at
        tally.count(metrics.DRIFT_SKIPPED, sight.name, by=skipped)
        return tally

    def told(self) -> Tally:
        """Gauges of what is served now; during a swap those of the version that came last."""
        self._drop_old()
        tally = Tally()
        for name, kept in self._served().items():
            if kept.alarmed_at is not None:
                tally.count(metrics.DRIFT_LAST_ALARM, name, by=kept.alarmed_at)
            if kept.watch is not None:
                _tell(tally, name, kept.watch)
        return tally

    def _served(self) -> dict[str, _Kept]:
        """By name, of what was heard of lately."""
        now = time.monotonic()
        return {
            name: kept for (name, _), kept in self._kept.items() if now - kept.heard_at < FRESH_S
        }

    def _drop_old(self) -> None:
        now = time.monotonic()
        self._kept = {m: kept for m, kept in self._kept.items() if now - kept.heard_at < KEPT_S}


def _tell(tally: Tally, name: str, watch: DriftWatch) -> None:
    tally.count(metrics.DRIFT_SCORE, name, by=watch.score)
    tally.count(metrics.DRIFT_THRESHOLD, name, by=watch.threshold)
    tally.count(metrics.WINDOW_IMAGES, name, by=watch.window_images)
    for one in watch.moved():
        tally.count(metrics.WINDOW_DISTANCE, name, one.name, by=one.distance)
        tally.count(metrics.WINDOW_EFFECT, name, one.name, by=one.effect)


def _columns(rows: ScoredRows) -> dict[str, FloatArray]:
    return {SCORE: rows.scores, **rows.columns}

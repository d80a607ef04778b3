"""Has the traffic changed? A test that looks at every score and may be asked at any time.

Each score becomes a p-value that is uniform and independent of the past while nothing has changed
(``growing_reference``); bets against that (``bets``) gain when it has. The statistic adds what a
stake put on before each score so far would be worth by now, over bets k of weight w_k:

    R_t = sum_k w_k R_t^k,   R_t^k = (1 + R_(t-1)^k) f_k(p_t),   R_0 = 0

and the alarm is R_t >= h. This is the Shiryaev-Roberts form of the CUSUM of betting scores (Page,
1954: S_t = max(0, S_(t-1)) + log f(p_t), which takes the best start where this adds all of them;
for conformal p-values Vovk et al., "Retrain or not retrain", 2021; for any such bets Shin, Ramdas &
Rinaldo, "E-detectors", 2022). R_t - t is a martingale, so on clean traffic an alarm takes h scores
on average or more, as with CUSUM (Lorden, 1971). Adding makes good use of that: several bets share
one h exactly, where CUSUM waits longer than it has to.

h is the *time* between false alarms that is wanted, in scores: days at a rate. The delay of a true
alarm grows like log h only. Holds for scores that are exchangeable with the reference; frames of a
video are not, however ordinary. What changes slowly enough is learnt as part of the growing
reference and not seen; so is a change at the very start with a small one, whose rows themselves
limit how sure anybody can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.arrays import FloatArray
from calibration.bets import WEIGHTS, Bets
from calibration.errors import CalibrationError
from calibration.growing_reference import CHUNK, SIZE, GrowingReference

#: Scores between two looks for an alarm to begin again after.
RENEWED = 32

SECONDS_A_DAY = 24 * 60 * 60

#: Images in which one false alarm is the most that may be asked for; below, it would be at once.
FEWEST_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class AlarmBudget:
    """One false alarm in ``days`` of traffic at ``rate`` images a second, on average."""

    days: float = 30.0
    rate: float = 100.0

    def __post_init__(self) -> None:
        """Refuse what is no time or no rate."""
        for name, value in (("days", self.days), ("rate", self.rate)):
            if not 0 < value < math.inf:
                raise CalibrationError(f"{name} {value}: expected a finite number above 0")
        if not FEWEST_IMAGES <= self.images < math.inf:
            raise CalibrationError(
                f"one false alarm in {self.days:g} days at {self.rate:g} images/s is one in "
                f"{self.images:g} images, expected at least {FEWEST_IMAGES}: allow more days, or "
                "state the rate at its full height"
            )

    @property
    def images(self) -> float:
        """h: images between two false alarms, on average at least."""
        return self.days * SECONDS_A_DAY * self.rate

    def __str__(self) -> str:
        return f"one false alarm in {self.days:g} days at {self.rate:g} images/s"


class DriftTest:
    """The sequential test of one stream of scores S. Not locked: one stream, one thread.

    Memory is bounded (``nbytes``), and equal streams give equal answers however they are cut into
    batches.
    """

    def __init__(
        self,
        reference_scores: npt.ArrayLike,
        budget: AlarmBudget | None = None,
        seed: int = 0,
        size: int = SIZE,
    ) -> None:
        """``reference_scores`` (n,): finite, of rows that neither model nor S were fitted on."""
        self.budget = budget or AlarmBudget()
        self._reference = np.sort(np.array(reference_scores, dtype=np.float64))
        self._seed, self._size, self._resets = seed, size, 0
        self._begin()

    def update(self, scores: npt.ArrayLike) -> FloatArray:
        """Take in scores (N,), higher = stranger, in their order; log R after each of them, (N,).

        An image without a finite score is +infinity, the strangest; NaN is refused and then nothing
        has been taken in.
        """
        found = _checked_scores(scores)
        parts = [found[i : i + CHUNK] for i in range(0, len(found), CHUNK)]
        return np.concatenate([self._take(part) for part in parts]) if parts else np.empty(0)

    def renew(self, scores: npt.ArrayLike) -> list[int]:
        """Take in scores as ``update`` does, but begin again after each alarm, as ``reset`` does.

        For each alarm how many scores the test had seen by then, since the start or the one before.
        """
        left, found = _checked_scores(scores), list[int]()
        while len(left):
            seen, part = self._seen, left[:RENEWED]  # what follows an alarm is looked at again
            self.update(part)
            used = len(part) if self._alarm_at is None else self._alarm_at - seen
            left = left[used:]
            if self._alarm_at is not None:
                found.append(self._alarm_at)
                self.reset()
        return found

    @property
    def score(self) -> float:
        """log R_t, nats; minus infinity before the first score. An alarm from ``threshold`` on.

        Beyond that it hardly rises, and it comes down again as what came becomes part of the
        reference, whether the change has gone or stays: ``alarmed`` remembers.
        """
        return float(_log_total(self._worth)) if self._seen else -math.inf

    @property
    def threshold(self) -> float:
        """log h, nats."""
        return math.log(self.budget.images)

    @property
    def seen(self) -> int:
        """Scores taken in since the start or the last ``reset``."""
        return self._seen

    @property
    def alarm_at(self) -> int | None:
        """How many scores had been seen at the first alarm; None without any."""
        return self._alarm_at

    @property
    def alarmed(self) -> bool:
        """Whether there was an alarm since the start or the last ``reset``."""
        return self._alarm_at is not None

    @property
    def nbytes(self) -> int:
        """Memory of the reference, first and grown."""
        return self._reference.nbytes + self._growing.nbytes

    def reset(self) -> None:
        """Begin again with the reference scores alone: what was learnt since may be the drift."""
        self._resets += 1
        self._begin()

    def _begin(self) -> None:
        draws = int(np.random.SeedSequence([self._seed, self._resets]).generate_state(1)[0])
        self._growing = GrowingReference(self._reference, draws, self._size)
        self._bets = Bets()
        self._worth: FloatArray = np.zeros(len(WEIGHTS))
        self._seen = 0
        self._alarm_at: int | None = None

    def _take(self, scores: FloatArray) -> FloatArray:
        worth = accumulate(self._worth, self._bets(self._growing.p_values(scores)), self._cap)
        self._worth = worth[-1]
        score = _log_total(worth)
        reached = np.flatnonzero(score >= self.threshold)
        if reached.size and self._alarm_at is None:
            self._alarm_at = self._seen + int(reached[0]) + 1
        self._seen += len(scores)
        return score

    @property
    def _cap(self) -> FloatArray:
        """Of each R^k: enough for an alarm by itself, so that none before it is changed."""
        return self.budget.images / WEIGHTS * (1 + 1e-9)


def accumulate(start: FloatArray, factors: FloatArray, cap: npt.ArrayLike) -> FloatArray:
    """R^k after each score: R = min((1 + R) f, cap), from ``start`` (.., K); (N, .., K) as given.

    ``factors`` (N, .., K). One score after another, so that batches cannot change the sum.
    """
    found, worth = np.empty(factors.shape), start
    for i, factor in enumerate(factors):
        worth = np.minimum((1.0 + worth) * factor, cap)
        found[i] = worth
    return found


def _log_total(worth: FloatArray) -> FloatArray:
    """log R of R^k (.., K): (..,)."""
    total: FloatArray = np.log((worth * WEIGHTS).sum(axis=-1))
    return total


def _checked_scores(scores: npt.ArrayLike) -> FloatArray:
    found = np.asarray(scores, dtype=np.float64)
    if found.ndim != 1:
        raise CalibrationError(f"scores: found shape {found.shape}, expected (N,), one an image")
    for row in np.flatnonzero(np.isnan(found))[:1]:
        raise CalibrationError(
            f"scores: found NaN in row {row}, expected numbers; leave out images without a score, "
            "or give +infinity for one whose score is not finite"
        )
    return found

"""A calibration: everything that turns scores of one model into a posterior and a decision.

Fitted once on a score table, then frozen and bound by hash to the weights it was fitted for; a new
model, preprocessing or dtype needs a new one. ``p_value`` is the rank of log p(x) among held-out
rows (``typicality``), held against a PAC threshold (``conformal``); no training score enters it.
Validity is marginal: over all inputs together, not within each class. This file knows no network
and does not hash: the bundle does, on the bytes that ``from_bytes`` takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from calibration.arrays import FloatArray, IntArray
from calibration.conformal import pac_rank, pac_threshold
from calibration.decisions import Decisions
from calibration.errors import CalibrationError
from calibration.posterior import fit_posterior, missing_labels
from calibration.prediction_sets import prediction_sets
from calibration.record import SCHEMA_VERSION, Record, summary
from calibration.reference import Reference, reference_rows
from calibration.table import SPLITS, logits_of, table_from_bytes, table_to_bytes
from calibration.temperature import softmax
from calibration.typicality import MIN_RANK, p_train, two_sided_rank

__all__ = ["MARGINAL", "RECORD_FILE", "REFERENCE_FILE", "Calibration", "CalibrationError"]

RECORD_FILE = "calibration.json"
REFERENCE_FILE = "reference.parquet"
MARGINAL = "marginal"


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Frozen; made by ``fit``, ``load`` or ``from_bytes``.

    ``alpha``, ``delta``: at most a share ``alpha`` of inputs like the calibration rows is rejected,
    with confidence 1 - ``delta``, unless a request asks for another alpha. ``set_level``: chance
    that a prediction set holds the true class. ``posterior_borrowed``: temperature and q_hat come
    from an earlier calibration, so ``set_level`` is promised for *its* rows. ``dropped``: rows with
    an error, left out. ``table``: the ``reference_rows`` of all splits.
    """

    alpha: float
    delta: float
    set_level: float
    temperature: float
    q_hat: float
    posterior_borrowed: bool
    weights_sha256: str
    dropped: int
    table: pa.Table = field(repr=False)
    mode: str = MARGINAL
    classes: int = field(init=False)
    reference: Reference = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sort the reference; refuse what no decision could be made with."""
        object.__setattr__(self, "classes", logits_of(self.table).shape[1])
        object.__setattr__(self, "reference", Reference.from_table(self.table))
        if self.mode != MARGINAL:
            raise CalibrationError(f"mode: found {self.mode!r}, expected {MARGINAL!r}")
        if not 0 < self.temperature < np.inf:
            raise CalibrationError(f"temperature: found {self.temperature!r}, expected above 0")
        if not 0 <= self.q_hat <= 1:
            raise CalibrationError(f"q_hat: found {self.q_hat!r}, expected a number in [0, 1]")
        if not 0 < self.set_level < 1:
            raise CalibrationError(f"set_level: found {self.set_level!r}, expected in (0, 1)")
        self.check_alpha(self.alpha)

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        *,
        alpha: float = 0.05,
        delta: float = 0.05,
        set_level: float = 0.95,
        weights_sha256: str,
        posterior_from: Calibration | None = None,
    ) -> Calibration:
        """Fit on a score table: temperature on ``fit`` rows, q_hat and references on ``cal`` rows.

        ``train`` rows give the training reference; without any ``p_train`` is NaN. Rows with an
        error are dropped and counted; every other row needs a split. Where a fit or cal row has no
        label, or there is no fit row, temperature and q_hat come together from ``posterior_from``,
        an earlier calibration of the same weights and ``set_level``; it is not used otherwise.

        Raises ``TableError``, ``UnsupportedAlphaError`` if the cal rows cannot support ``alpha``,
        and ``CalibrationError`` for the rest.
        """
        rows = reference_rows(table)
        unlabelled = missing_labels(rows)
        if not unlabelled:
            temperature, q_hat = fit_posterior(rows, set_level)
        elif posterior_from is not None:
            posterior_from._check_lends(logits_of(rows).shape[1], set_level, weights_sha256)
            temperature, q_hat = posterior_from.temperature, posterior_from.q_hat
        else:
            raise CalibrationError(
                f"temperature and prediction sets need labels ({unlabelled}): label the rows, or "
                "pass posterior_from, an earlier calibration of the same weights"
            )
        return cls(
            alpha=float(alpha),
            delta=float(delta),
            set_level=float(set_level),
            temperature=temperature,
            q_hat=q_hat,
            posterior_borrowed=bool(unlabelled),
            weights_sha256=weights_sha256,
            dropped=table.num_rows - rows.num_rows,
            table=rows,
        )

    @property
    def reference_size(self) -> int:
        """The n behind every p-value: how many held-out rows new images are ranked among."""
        return len(self.reference.held_out)

    def check_alpha(self, alpha: float) -> None:
        """Raise ``UnsupportedAlphaError`` where the reference cannot support ``alpha``."""
        pac_rank(self.reference_size, alpha, self.delta, MIN_RANK)

    def threshold(self, alpha: float | None = None) -> float:
        """l'/(n + 1), which p_value is held against; None asks for the default alpha."""
        asked = self.alpha if alpha is None else alpha
        return pac_threshold(self.reference_size, asked, self.delta, MIN_RANK)

    def decide(
        self,
        logits: npt.ArrayLike,
        log_prob: npt.ArrayLike,
        statistics: Mapping[str, npt.ArrayLike],
        alpha: npt.ArrayLike | None = None,
    ) -> Decisions:
        """Scores of N images to N answers, each by itself.

        ``logits`` (N, K) and ``log_prob`` (N,) in nats; ``statistics`` name -> (N,), with the names
        of the reference; ``alpha`` one or (N,), None for the default. An image whose logits or
        log_prob are not finite is rejected with the smallest p; without finite logits its posterior
        is uniform. Raises ``UnsupportedAlphaError`` for an alpha that n cannot support (in a batch:
        ``check_alpha`` each first), and ``CalibrationError`` for shapes and names that do not fit.
        """
        rows, density = np.asarray(logits, np.float64), np.asarray(log_prob, np.float64)
        self._check_shapes(rows, density, statistics)
        levels, limit = self._limits(alpha, len(rows))
        density = np.where(np.isfinite(rows).all(axis=1), density, np.nan)
        posterior = softmax(rows, self.temperature)
        sets = prediction_sets(posterior, self.q_hat)
        rank, steps = two_sided_rank(self.reference.held_out, density), self.reference_size + 1
        rejected = rank <= limit  # whole numbers: no rounding at equality
        return Decisions(
            class_index=posterior.argmax(axis=1),
            posterior=posterior,
            prediction_set=sets,
            p_value=rank / steps,
            p_typicality=rank / steps,
            p_train=p_train(self.reference.train, density),
            alpha=levels,
            threshold=limit / steps,
            rejected=rejected,
            abstained=~rejected & (sets.sum(axis=1) > 1),
            score=-np.log(rank / steps),
            unusual=self.reference.unusual(statistics) if statistics else [[] for _ in rows],
        )

    def record(self) -> Record:
        """What calibration.json holds."""
        splits = self.table.column("split").to_pylist()
        return Record(
            schema_version=SCHEMA_VERSION,
            mode=self.mode,
            alpha=self.alpha,
            delta=self.delta,
            threshold=self.threshold(),
            set_level=self.set_level,
            temperature=self.temperature,
            q_hat=self.q_hat,
            posterior_borrowed=self.posterior_borrowed,
            weights_sha256=self.weights_sha256,
            classes=self.classes,
            counts={split: splits.count(split) for split in SPLITS} | {"dropped": self.dropped},
            statistics=list(self.reference.names),
            train_log_prob=summary(self.reference.train),
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write calibration.json and reference.parquet; equal calibrations give equal bytes."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, RECORD_FILE).write_bytes(self.record().to_bytes())
        Path(folder, REFERENCE_FILE).write_bytes(table_to_bytes(self.table))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Calibration:
        """What ``save`` wrote. Raises ``CalibrationError`` naming the file that is unusable."""
        contents = []
        for path in (Path(folder, RECORD_FILE), Path(folder, REFERENCE_FILE)):
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise CalibrationError(
                    f"{path}: cannot be read ({error.strerror}); calibrate the model again"
                ) from error
        with _naming(str(folder)):
            return cls.from_bytes(*contents)

    @classmethod
    def from_bytes(cls, json_bytes: bytes, parquet_bytes: bytes) -> Calibration:
        """The contents of calibration.json and reference.parquet, which must fit each other."""
        with _naming(REFERENCE_FILE):
            table = table_from_bytes(parquet_bytes)
            rows = reference_rows(table)
            if rows.num_rows != table.num_rows:
                raise CalibrationError("found rows with an error, expected none in a reference")
        with _naming(RECORD_FILE):
            record = Record.from_bytes(json_bytes)
            calibration = cls._from_record(record, rows)
            found, expected = asdict(record), asdict(calibration.record())
            for key in expected:
                if found[key] != expected[key]:
                    raise CalibrationError(
                        f"{key}: found {found[key]!r}, expected {expected[key]!r} from "
                        f"{REFERENCE_FILE}"
                    )
        return calibration

    @classmethod
    def _from_record(cls, record: Record, rows: pa.Table) -> Calibration:
        return cls(
            alpha=record.alpha,
            delta=record.delta,
            set_level=record.set_level,
            temperature=record.temperature,
            q_hat=record.q_hat,
            posterior_borrowed=record.posterior_borrowed,
            weights_sha256=record.weights_sha256,
            dropped=record.counts.get("dropped", 0),
            table=rows,
            mode=record.mode,
        )

    def _check_lends(self, classes: int, set_level: float, weights_sha256: str) -> None:
        """Temperature and q_hat belong to these weights, these classes and this level only."""
        asked = {
            "weights_sha256": (self.weights_sha256, weights_sha256),
            "classes": (self.classes, classes),
            "set_level": (self.set_level, set_level),
        }
        for name, (found, expected) in asked.items():
            if found != expected:
                raise CalibrationError(
                    f"posterior_from: found {name} {found!r}, expected {expected!r}; without "
                    "labels it must be a calibration of the same model at the same level"
                )

    def _check_shapes(
        self, logits: FloatArray, log_prob: FloatArray, statistics: Mapping[str, npt.ArrayLike]
    ) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise CalibrationError(
                f"logits: found shape {logits.shape}, expected (N, {self.classes})"
            )
        if statistics.keys() != set(self.reference.names):
            raise CalibrationError(
                f"statistics: found {sorted(statistics)}, expected those of the reference: "
                f"{sorted(self.reference.names)}"
            )
        for name, values in (("log_prob", log_prob), *statistics.items()):
            if np.shape(values) != logits.shape[:1]:
                raise CalibrationError(
                    f"{name}: found shape {np.shape(values)}, expected {logits.shape[:1]}"
                )

    def _limits(self, alpha: npt.ArrayLike | None, count: int) -> tuple[FloatArray, IntArray]:
        """The alpha of each row, and the largest rank that is rejected at it."""
        asked = np.asarray(self.alpha if alpha is None else alpha, np.float64)
        if asked.shape not in ((), (count,)):
            raise CalibrationError(f"alpha: found shape {asked.shape}, expected () or ({count},)")
        n, delta = self.reference_size, self.delta
        if not asked.ndim:
            level = asked.item()
            return np.full(count, level), np.full(count, pac_rank(n, level, delta, MIN_RANK))
        ranks = [pac_rank(n, level, delta, MIN_RANK) for level in asked.tolist()]
        return asked, np.array(ranks, dtype=np.int64)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the name of a file or folder in front of what is wrong with it."""
    try:
        yield
    except CalibrationError as error:
        raise CalibrationError(f"{source}: {error}") from error

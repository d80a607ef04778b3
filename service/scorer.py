"""Scoring many images in this process: rows in, a folder of Parquet parts out, in input order.

Memory does not grow with the input: images are decoded and scored in batches, and written in
parts. A part gets its name only when it is whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from model.checkpoint import Checkpoint, load_model
from model.image import ImageError, InputSpec, UInt8Array, decode
from model.scoring import Scores, default_device, score
from service.bundle import MANIFEST, Bundle, BundleError
from service.catalog import find_bundle
from service.predictor import Predictor
from service.verdict import Verdict
from service.verdict_table import ScoredRow, verdict_schema, verdict_table

#: (id, encoded image, label or None)
Input = tuple[str, bytes, int | None]

BATCH = 64
PART_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A bundle with its predictor, or a bare checkpoint: that gives scores without verdicts."""

    name: str
    version: str | None
    checkpoint: Checkpoint
    predictor: Predictor | None
    alpha: float | None
    statistics: bool

    @property
    def spec(self) -> InputSpec:
        """How an encoded image becomes an input."""
        return self.checkpoint.spec

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.checkpoint.class_labels

    def __call__(self, inputs: Iterable[Input]) -> list[ScoredRow]:
        """Score one batch; an image that cannot be decoded becomes a row with its error."""
        entries = [(id_, label, _decoded(data, self.spec)) for id_, data, label in inputs]
        good = [pixels for _, _, pixels in entries if not isinstance(pixels, str)]
        scored = self._scored(np.stack(good)) if good else iter(())
        rows = []
        for id_, label, pixels in entries:
            if isinstance(pixels, str):
                rows.append(ScoredRow(id=id_, label=label, error=pixels))
            else:
                scores, i, verdict = next(scored)
                rows.append(self._row(id_, label, scores, i, verdict))
        return rows

    def _scored(self, pixels: UInt8Array) -> Iterator[tuple[Scores, int, Verdict | None]]:
        scores = score(self.checkpoint.classifier, pixels)
        if self.predictor is None:
            return ((scores, i, None) for i in range(len(pixels)))
        verdicts = self.predictor.verdicts(scores, [self.alpha] * len(pixels))
        return ((scores, i, verdict) for i, verdict in enumerate(verdicts))

    def _row(
        self, id_: str, label: int | None, scores: Scores, i: int, verdict: Verdict | None
    ) -> ScoredRow:
        named = {name: float(values[i]) for name, values in scores.statistics.items()}
        return ScoredRow(
            id=id_,
            label=label,
            logits=scores.logits[i].tolist(),
            log_prob=float(scores.log_prob[i]),
            statistics=named if self.statistics else None,
            verdict=verdict,
        )


def open_scorer(source: str, bundles: Path | None, alpha: float | None, statistics: bool) -> Scorer:
    """A scorer for a bundle by path or name, or for the folder of a checkpoint."""
    folder = Path(source)
    if not (folder / MANIFEST).is_file() and (folder / "model").is_dir():
        if alpha is not None:
            raise BundleError(f"{source} is not calibrated, so it can hold no alpha: calibrate it")
        checkpoint = load_model(folder / "model")
        checkpoint.classifier.to(default_device())
        return Scorer(
            name=folder.name,
            version=None,
            checkpoint=checkpoint,
            predictor=None,
            alpha=None,
            statistics=statistics,
        )
    bundle = Bundle.load(find_bundle(source, bundles))
    predictor = Predictor(bundle)
    predictor.check_alpha(alpha)
    return Scorer(
        name=bundle.name,
        version=bundle.version,
        checkpoint=bundle.checkpoint,
        predictor=predictor,
        alpha=alpha,
        statistics=statistics,
    )


def prepare_folder(out: Path) -> None:
    """Make the folder of a table; raises ``BundleError`` where something is in it already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} is not an empty folder: a table is never mixed; choose another")
    out.mkdir(parents=True, exist_ok=True)


def score_rows(
    scorer: Scorer,
    inputs: Iterable[Input],
    out: Path,
    advance: Callable[[int], None],
    count: Callable[[Sequence[ScoredRow]], None] = lambda _: None,
) -> Counter[str]:
    """Write the verdict table of ``inputs``; returns how many rows got each decision.

    Keys of the result: the decisions, ``scored`` (by a bare checkpoint) and ``error``. ``count``
    is given the rows of each batch, ``advance`` their number.
    """
    outcomes: Counter[str] = Counter()
    source = iter(inputs)
    schema = verdict_schema(_statistic_names(scorer))
    number = 0
    while (rows := list(_part(scorer, source, advance, count))) or not number:
        table = verdict_table(rows, schema, scorer.name, scorer.version)
        unfinished = out / f"_part-{number:05d}.parquet"
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.rename(out / f"part-{number:05d}.parquet")
        outcomes.update(_outcome(row) for row in rows)
        number += 1
    return outcomes


def _part(
    scorer: Scorer,
    source: Iterator[Input],
    advance: Callable[[int], None],
    count: Callable[[Sequence[ScoredRow]], None],
) -> Iterator[ScoredRow]:
    for _ in range(PART_ROWS // BATCH):
        batch = list(islice(source, BATCH))
        if not batch:
            return
        rows = scorer(batch)
        count(rows)
        yield from rows
        advance(len(rows))


def _statistic_names(scorer: Scorer) -> list[str]:
    """Asked of the model itself, so that a table has its columns even when every row failed."""
    if not scorer.statistics:
        return []
    blank = np.zeros((1, *scorer.spec.shape), dtype=np.uint8)
    return list(score(scorer.checkpoint.classifier, blank).statistics)


def _outcome(row: ScoredRow) -> str:
    if row.error is not None:
        return "error"
    return "scored" if row.verdict is None else row.verdict.decision.value


def _decoded(data: bytes, spec: InputSpec) -> UInt8Array | str:
    """Pixels, or the text of what is wrong with the image."""
    try:
        return decode(data, spec)
    except ImageError as error:
        return str(error)

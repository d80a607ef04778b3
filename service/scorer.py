"""A bundle or a bare checkpoint that turns a batch of decoded images into rows of a verdict table.

An image that fails is a row with its error, whether it could not be decoded or not be scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.checkpoint import Checkpoint, load_model
from model.classifier import bits_per_dim
from model.image import InputSpec, UInt8Array
from model.scoring import default_device, score
from service.batch.images import pixels_of
from service.bundle import MANIFEST, Bundle, BundleError
from service.catalog import find_bundle
from service.predictor import Predictor
from service.verdict_table import (
    Judge,
    score_columns,
    verdict_columns,
    verdict_schema,
    verdict_table,
)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A bundle with its predictor, or a bare checkpoint: that gives scores without verdicts."""

    name: str
    version: str | None
    folder: Path
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

    def schema(self) -> pa.Schema:
        """The table's columns; asked of the model itself, so that they are known of a table in
        which every row has failed."""
        names = score(self.checkpoint.classifier, self._blank()).statistics
        return verdict_schema(list(names) if self.statistics else [])

    def __call__(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
        """Rows of ``schema`` for a batch of ``service.batch.images``.

        Raises what the model raises for an image that has nothing in it: then it is not the images
        that fail.
        """
        try:
            columns = self._columns(pixels_of(batch, self.spec))
        except Exception:  # of which image, each alone has to say
            return self._one_by_one(batch, schema)
        return verdict_table(batch, columns, schema, self.name, self.version)

    def _one_by_one(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
        self._columns(self._blank())
        rows = [batch.slice(i, 1) for i in range(batch.num_rows)]
        return pa.concat_tables([self._alone(row, schema) for row in rows])

    def _alone(self, row: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
        columns = {}
        try:
            columns = self._columns(pixels_of(row, self.spec))
        except Exception as error:
            row = row.set_column(2, "error", pa.array([f"could not be scored: {error!r}"]))
        return verdict_table(row, columns, schema, self.name, self.version)

    def _columns(self, pixels: UInt8Array) -> dict[str, pa.Array]:
        if not len(pixels):
            return {}
        scores = score(self.checkpoint.classifier, pixels)
        columns = score_columns(scores)
        if self.predictor is None:
            return columns
        decisions = self.predictor.decide(scores, [self.alpha] * len(pixels))
        calibration = self.predictor.bundle.calibration
        judge = Judge(
            class_labels=self.class_labels, delta=calibration.delta, mode=calibration.mode
        )
        bits = bits_per_dim(scores.log_prob, self.checkpoint.classifier.config)
        return {**columns, **verdict_columns(decisions, judge), "bits_per_dim": pa.array(bits)}

    def _blank(self) -> UInt8Array:
        return np.zeros((1, *self.spec.shape), dtype=np.uint8)


def open_scorer(source: str, bundles: Path | None, alpha: float | None, statistics: bool) -> Scorer:
    """A scorer for a bundle by path or name, or for the folder of a checkpoint."""
    folder = Path(source).resolve()
    if not (folder / MANIFEST).is_file() and (folder / "model").is_dir():
        if alpha is not None:
            raise BundleError(f"{source} is not calibrated, so it can hold no alpha: calibrate it")
        checkpoint = load_model(folder / "model")
        checkpoint.classifier.to(default_device())
        return Scorer(
            name=folder.name,
            version=None,
            folder=folder,
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
        folder=bundle.path,
        checkpoint=bundle.checkpoint,
        predictor=predictor,
        alpha=alpha,
        statistics=statistics,
    )

"""Decoded images to a score table, through the path that serving uses; and back again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from calibration.table import score_table
from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from model.scoring import joined, round_trip_errors, score
from train.batch_sizes import in_parts
from train.images import UNLABELLED, Images
from train.progress import Progress

#: Images at once, or fewer where they are large (``train.batch_sizes``).
BATCH = 256


def score_images(
    classifier: GenerativeClassifier,
    images: Images,
    splits: Sequence[str | None],
    *,
    shown: bool = True,
    label: str = "scoring",
) -> pa.Table:
    """The score table of ``images`` in their order; ``splits`` names the part of each row.

    ``shown`` False leaves out the bar, where another one counts; ``label`` stands before it.
    """
    batches = _batches(label, classifier, images, shown=shown)
    scores = joined([score(classifier, pixels) for pixels in batches])
    return score_table(
        ids=list(images.ids),
        labels=[None if label == UNLABELLED else int(label) for label in images.labels],
        splits=list(splits),
        logits=scores.logits,
        log_prob=scores.log_prob,
        statistics=scores.statistics,
    )


def round_trip_error(classifier: GenerativeClassifier, images: Images) -> float:
    """Largest error of a pixel, in [0, 1], after the flow and its inverse, in float32.

    NaN where an inverse gives no number.
    """
    batches = _batches("inverting", classifier, images)
    errors = [round_trip_errors(classifier, pixels) for pixels in batches]
    return float(np.concatenate(errors).max())


def _batches(
    label: str, classifier: GenerativeClassifier, images: Images, *, shown: bool = True
) -> Iterator[UInt8Array]:
    with Progress(label, len(images), shown=shown) as progress:
        for part in in_parts(len(images), classifier.config.dim, BATCH):
            pixels = images.pixels[part]
            yield pixels
            progress.advance(len(pixels))

"""One corruption at one severity: what the gate finds of it, and what becomes of the classes.

Images are corrupted at the model's input size and then stored as the known images are where that
loses something, so that no image is told by how it is stored. Where it does, there is a control:
the known images stored anew and not corrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import entr

from calibration.arrays import BoolArray, FloatArray
from calibration.detection import Rate, share_of
from calibration.metrics import is_confident, overconfidence_error
from calibration.temperature import softmax
from model.image import UInt8Array
from train.batch_sizes import in_parts
from train.evaluation.corruptions import corrupt
from train.evaluation.judging import JudgedSet
from train.evaluation.measure import Held, judged
from train.evaluation.pairs import Found, Pair, compare
from train.evaluation.posterior import MODEL
from train.evaluation.sets import StrangeRows
from train.storage import Storage

#: What images that are not corrupted are called, and those that are only stored anew.
CLEAN, STORED = "clean", "stored anew"

#: Images corrupted at once, or fewer where they are large.
BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What a classifier makes of images: the model, or a baseline at temperature 1.

    ``entropy``: mean of its posterior's, nats. ``oce``: see ``calibration.metrics``; of
    ``oce_rows`` confident predictions.
    """

    source: str
    accuracy: Rate
    entropy: float
    oce: float | None
    oce_rows: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """``pair``: the corrupted images as strangers to the clean ones, ``group`` the corruption.

    ``severity`` 0: none. ``accuracy_accepted``, ``accuracy_rejected``: the model's, on what its
    gate accepts (with what it abstains on) and on what it rejects. ``classified``: the model first.
    """

    corruption: str
    severity: int
    pair: Pair
    classified: tuple[Classified, ...]
    accuracy_accepted: Rate
    accuracy_rejected: Rate

    @property
    def model(self) -> Classified:
        """What the model itself makes of the images."""
        return self.classified[0]

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Cell:
        """The inverse; raises ``ValueError`` for anything else."""
        try:
            return cls(
                corruption=content["corruption"],
                severity=content["severity"],
                pair=_pair(content["pair"]),
                classified=tuple(_classified(one) for one in content["classified"]),
                accuracy_accepted=Rate(**content["accuracy_accepted"]),
                accuracy_rejected=Rate(**content["accuracy_rejected"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a cell of this version: {error!r}") from error


def corrupted(held: Held, storage: Storage, name: str, severity: int, seed: int) -> UInt8Array:
    """The known images with a corruption, as the model sees them; 0 only stores them anew."""
    spec, pixels = held.model.checkpoint.spec, held.known.images.pixels
    found = []
    for rows in in_parts(len(pixels), held.model.checkpoint.classifier.config.dim, BATCH):
        part = pixels[rows]
        if severity:
            part = corrupt(part, name, severity, seed=seed, first=rows.start)
        found.append(storage.seen(part, spec))
    return np.concatenate(found)


def measure_cell(held: Held, name: str, severity: int, pixels: UInt8Array) -> Cell:
    """Judge ``pixels`` (N, C, H, W), made of the known images in their order."""
    title = f"{name} {severity}"
    images = replace(held.known.images, pixels=pixels)
    side, logits = judged(held.model, held.judge, title, images, held.baselines, shown=False)
    return cell_of(held, name, severity, side.judged, logits)


def cell_of(
    held: Held,
    name: str,
    severity: int,
    found: JudgedSet,
    logits: Mapping[str, FloatArray],
) -> Cell:
    """Of images that are judged; row i is made of known image i."""
    labels, decided = held.known.images.labels, found.decisions
    right: BoolArray = decided.class_index == labels
    strange = StrangeRows(
        name=f"{name} {severity}", data=held.source.spec, group=name, rows=held.source
    )
    posteriors = {MODEL: decided.posterior}
    posteriors |= {name: softmax(rows, 1.0) for name, rows in logits.items()}
    return Cell(
        corruption=name,
        severity=severity,
        pair=compare(strange, held.known.judged, found, refused=0, shared=0),
        classified=tuple(_figures(held, *named) for named in posteriors.items()),
        accuracy_accepted=share_of(right[~decided.rejected]),
        accuracy_rejected=share_of(right[decided.rejected]),
    )


def _figures(held: Held, source: str, posterior: FloatArray) -> Classified:
    labels = held.known.images.labels
    return Classified(
        source=source,
        accuracy=share_of(posterior.argmax(axis=1) == labels),
        entropy=float(entr(posterior).sum(axis=1).mean()),
        oce=overconfidence_error(posterior, labels),
        oce_rows=int(is_confident(posterior).sum()),
    )


def _pair(content: Mapping[str, Any]) -> Pair:
    rates = {name: Rate(**content[name]) for name in ("rejected", "abstained")}
    return Pair(**{**content, **rates, "found": tuple(Found(**one) for one in content["found"])})


def _classified(content: Mapping[str, Any]) -> Classified:
    return Classified(**{**content, "accuracy": Rate(**content["accuracy"])})

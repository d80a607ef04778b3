"""Ten-crop accuracy beside that of the served image, as papers on ImageNet report it.

Of an image that is stored larger than the model's input: its shorter side is brought to 256/224 of
the input where it is longer, then the four corners and the centre are cut out, and each is
mirrored; the posterior is averaged over the ten. The service stretches the whole image instead and
asks once, so what is served has the accuracy of one look. Nothing is said of the gate: crops are
not what it was calibrated on.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.detection import Rate, share_of
from calibration.temperature import softmax
from model.classifier import ClassifierOutput
from model.image import ImageError, UInt8Array, decode_covering
from model.precision import full_convolutions
from train.batch_sizes import images_at_once
from train.data import DataError, Row
from train.evaluation.posterior import MODEL
from train.evaluation.sets import limited
from train.images import UNLABELLED
from train.learner import Classifier
from train.progress import Progress

if TYPE_CHECKING:
    from train.evaluation.measure import Held

#: Crops of an image, and how many of all images pass through a network at once.
CROPS, BATCH = 10, 256

#: Sides that an image is brought to, over those of its crops.
AROUND = 256 / 224


@dataclass(frozen=True, kw_only=True)
class TenCrop:
    """Accuracy of ``source``, the model or a baseline, on the same images: ``single``, as served,
    and ``ten_crop``."""

    source: str
    single: Rate
    ten_crop: Rate


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Who classifies: ``predicted`` (N,) of the known images as served, and ``posterior``, uint8
    images (n, C, H, W) to (n, K)."""

    name: str
    predicted: IntArray
    posterior: Callable[[UInt8Array], FloatArray]


def ten_crop_accuracy(held: Held) -> tuple[TenCrop, ...] | None:
    """The model's and each baseline's, of the known images with a class that are larger than the
    input: in neither direction smaller, and not of its size. None where there is none."""
    labels, sources = held.known.images.labels, _sources(held)
    places: list[int] = []
    predicted: dict[str, list[IntArray]] = {source.name: [] for source in sources}
    for index, crops in _batches(held):
        places += index
        for source in sources:
            predicted[source.name].append(averaged(source.posterior, crops).argmax(axis=1))
    if not places:
        return None
    truth = labels[places]

    def rate(found: IntArray) -> Rate:
        right: BoolArray = found == truth
        return share_of(right)

    return tuple(
        TenCrop(
            source=source.name,
            single=rate(source.predicted[places]),
            ten_crop=rate(np.concatenate(predicted[source.name])),
        )
        for source in sources
    )


def ten_crops(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    """Four corners and the centre of an image (C, h, w), then each mirrored: (10, C, H, W)."""
    down, right = pixels.shape[1] - height, pixels.shape[2] - width
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = np.stack([pixels[:, y : y + height, x : x + width] for y, x in corners])
    return np.concatenate([crops, crops[..., ::-1]])


def averaged(posterior: Callable[[UInt8Array], FloatArray], crops: UInt8Array) -> FloatArray:
    """Mean posterior (n, K) over the crops (n, 10, C, H, W) of each image."""
    found = posterior(crops.reshape(-1, *crops.shape[2:]))
    mean: FloatArray = found.reshape(len(crops), CROPS, -1).mean(axis=1)
    return mean


def crops_of(data: bytes, shape: tuple[int, int, int]) -> UInt8Array | None:
    """The crops (10, C, H, W) of an encoded image; None where it is not larger than ``shape``.

    Raises ``ImageError`` for what cannot be decoded.
    """
    channels, height, width = shape
    pixels = decode_covering(data, (channels, round(AROUND * height), round(AROUND * width)))
    h, w = pixels.shape[1:]
    if h < height or w < width or (h, w) == (height, width):
        return None
    return ten_crops(pixels, height, width)


def _sources(held: Held) -> list[Source]:
    model, decided = held.model, held.known.judged.decisions
    classifier, calibrated = model.checkpoint.classifier, model.calibration.posterior
    ours = Source(
        name=MODEL,
        predicted=decided.class_index,
        posterior=lambda crops: calibrated(_logits(classifier, crops)),
    )
    return [ours, *(_baseline(b.name, b.classifier, held.logits[b.name]) for b in held.baselines)]


def _baseline(name: str, classifier: Classifier, logits: FloatArray) -> Source:
    """As trained, at temperature 1."""
    return Source(
        name=name,
        predicted=logits.argmax(axis=1),
        posterior=lambda crops: softmax(_logits(classifier, crops), 1.0),
    )


@torch.inference_mode()
def _logits(classifier: Classifier, images: UInt8Array) -> FloatArray:
    with full_convolutions():
        found = classifier.classify(torch.from_numpy(images).to(classifier.device))
    logits = found.logits if isinstance(found, ClassifierOutput) else found
    numbers: FloatArray = logits.double().cpu().numpy()
    return numbers


def _batches(held: Held) -> Iterator[tuple[list[int], UInt8Array]]:
    """Places among the known images, and their crops (n, 10, C, H, W), n >= 1."""
    shape = held.model.checkpoint.spec.shape
    many = max(1, images_at_once(int(np.prod(shape)), BATCH) // CROPS)

    def cut(placed: tuple[int, Row]) -> tuple[int, UInt8Array | None]:
        place, row = placed
        if row.error is not None:
            raise DataError(f"{held.source.spec}: {row.id}: {row.error}")
        try:
            return place, crops_of(row.image, shape)
        except ImageError as error:
            raise DataError(f"{held.source.spec}: {row.id}: {error}") from error

    labelled = int((held.known.images.labels != UNLABELLED).sum())
    with (
        Progress("ten crops, where images are larger", labelled) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for rows in _chunks(_labelled(held), many):
            found = [(place, crops) for place, crops in pool.map(cut, rows) if crops is not None]
            if found:
                yield [place for place, _ in found], np.stack([crops for _, crops in found])
            progress.advance(len(rows))


def _labelled(held: Held) -> Iterator[tuple[int, Row]]:
    """The known rows that have a class as they are stored, each by its place; ids are unique."""
    images = held.known.images
    places = {name: i for i, name in enumerate(images.ids) if images.labels[i] != UNLABELLED}
    for row in limited(held.source, held.limit):
        if row.id in places:
            yield places[row.id], row


def _chunks(rows: Iterable[tuple[int, Row]], size: int) -> Iterator[list[tuple[int, Row]]]:
    found = iter(rows)
    while chunk := list(itertools.islice(found, size)):
        yield chunk

"""Scores of distorted copies of the rows that a gate is fitted on (``train.distortions``).

A copy is made at the model's input size, brought to its grey levels and, where the rows are JPEG of
that size, stored as they are: what tells it from a row is to be the distortion alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from calibration.reference import LARGEST
from calibration.table import floats_of, logits_of, statistics_of
from model.classifier import GenerativeClassifier
from model.image import InputSpec, UInt8Array
from model.quantize import as_input, bin_centres
from train.data import ImageRows
from train.distortions import DISTORTIONS, distorted
from train.images import Images
from train.scoring import score_images
from train.storage import Storage

#: Copies of each row: one of each kind.
COPIES = len(DISTORTIONS)
#: Draws the distortions.
SEED = 0


def outlier_scores(
    classifier: GenerativeClassifier, images: Images, source: ImageRows, copies: int
) -> pa.Table:
    """The score table, split ``outlier``, of ``copies`` of each of ``images``, which are rows of
    ``source``. A copy has the id of its row; one without finite scores is left out."""
    spec = InputSpec(shape=classifier.config.input_shape, levels=classifier.config.levels)
    storage, parts = storage_of(source, spec), []
    for copy in range(copies):
        made = replace(images, pixels=outlier_images(images.pixels, storage, spec, copy))
        label = f"scoring distorted copies, {_kind(copy)}"
        parts.append(score_images(classifier, made, ["outlier"] * len(images), label=label))
    return usable(pa.concat_tables(parts))


def outlier_images(pixels: UInt8Array, storage: Storage, spec: InputSpec, copy: int) -> UInt8Array:
    """Copy number ``copy`` of each image (N, C, H, W), stored so, as the model sees it."""
    moved = distorted(pixels, _kind(copy), seed=SEED + copy // len(DISTORTIONS))
    return storage.seen(on_lattice(moved, spec.levels), spec)


def on_lattice(pixels: UInt8Array, levels: int) -> UInt8Array:
    """8-bit pixels at the nearest of so many levels."""
    every = torch.arange(256, dtype=torch.uint8)
    values: UInt8Array = as_input(bin_centres(every, levels), levels)
    return values[pixels]


def usable(table: pa.Table) -> pa.Table:
    """The rows with scores that a reference may hold."""
    columns: Sequence[np.ndarray] = [
        floats_of(table, "log_prob"),
        *statistics_of(table).values(),
        *logits_of(table).T,
    ]
    good = np.all([np.abs(column) <= LARGEST for column in columns], axis=0)
    return table.filter(pa.array(good))


def _kind(copy: int) -> str:
    return list(DISTORTIONS)[copy % len(DISTORTIONS)]


def storage_of(source: ImageRows, spec: InputSpec) -> Storage:
    """That of the rows; for larger ones, whose loss is at another scale, without loss."""
    storage = Storage.of(source)
    if storage.encoding is not None and storage.encoding.shape[1:] != spec.shape[1:]:
        return Storage(encoding=None, note="stored without loss: rows are of another size")
    return storage

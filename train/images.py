"""Images in memory: rows decoded once by the serving path, with a content hash each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from calibration.arrays import IntArray
from calibration.rows import content_digests
from model.image import ImageError, InputSpec, UInt8Array, decode
from train.data import DataError, ImageRows, Row, match_labels

#: Rows decoded side by side before the next are read.
CHUNK = 256

#: A class index that says "not known".
UNLABELLED = -1


class Watch(Protocol):
    """Something that shows how far an iteration is, such as ``train.progress.watch``."""

    def __call__(self, rows: Iterable[Row], *, total: int, label: str) -> Iterable[Row]:
        """Pass the rows through."""
        ...


@dataclass(frozen=True, kw_only=True)
class Images:
    """N decoded images: ``pixels`` uint8 (N, C, H, W), ``labels`` (N,) with -1 for unknown.

    ``digests`` (N, 32) are SHA-256 sums of shape and pixels as the model sees them, so the same
    image in another file format has the same digest.
    """

    ids: tuple[str, ...]
    pixels: UInt8Array
    labels: IntArray
    digests: UInt8Array

    def __len__(self) -> int:
        return len(self.ids)

    def drawn(self, count: int, seed: int) -> Images:
        """``count`` of the images in their order, or all where there are fewer.

        Drawn, since the first ones of a folder would be of its first classes.
        """
        chosen = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.take(np.sort(chosen))

    def take(self, index: IntArray) -> Images:
        """The images at ``index``, in that order."""
        return Images(
            ids=tuple(self.ids[i] for i in index),
            pixels=self.pixels[index],
            labels=self.labels[index],
            digests=self.digests[index],
        )


def load_images(
    rows: ImageRows, spec: InputSpec, class_labels: tuple[str, ...] | None, watch: Watch
) -> Images:
    """Decode all rows, with labels as indices into ``class_labels`` (None: labels are left out).

    Decoding releases the interpreter, so a thread a core decodes. Raises ``DataError`` naming the
    row that cannot be decoded: nothing is skipped in silence.
    """
    ids, labels = [], []
    pixels = np.empty((len(rows), *spec.shape), dtype=np.uint8)
    known = class_labels is not None and rows.class_labels is not None
    index = match_labels(rows.class_labels or (), class_labels or ()) if known else None

    def decode_row(numbered: tuple[int, Row]) -> None:
        i, row = numbered
        if row.error is not None:
            raise DataError(f"{rows.spec}: row {i}, {row.id}: {row.error}")
        try:
            pixels[i] = decode(row.image, spec, exact=row.exact)
        except ImageError as error:
            raise DataError(f"{rows.spec}: row {i}, {row.id}: {error}") from error

    numbered = enumerate(watch(rows, total=len(rows), label="decoding"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(itertools.islice(numbered, CHUNK)):
            list(pool.map(decode_row, chunk))
            for _, row in chunk:
                ids.append(row.id)
                label = known_label(row, index)
                labels.append(UNLABELLED if label is None else label)
    return Images(
        ids=tuple(ids),
        pixels=pixels,
        labels=np.array(labels, dtype=np.int64),
        digests=content_digests(pixels, spec.levels),
    )


def known_label(row: Row, index: IntArray | None) -> int | None:
    """The row's class as the model numbers it; a null or negative label is not known."""
    if index is None or row.label is None or row.label < 0:
        return None
    if row.label >= len(index):
        raise DataError(f"{row.id}: label {row.label}, but only {len(index)} classes are named")
    return int(index[row.label])

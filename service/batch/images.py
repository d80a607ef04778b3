"""Decoded images in batches: what is scored together, and what a worker is sent.

A batch is an Arrow record batch of the columns ``id``, ``label``, ``error`` and ``pixels``, the
latter null where there is an error. Batches are cut from the first row of a chunk on, so the images
of a chunk are always scored in the same company, whoever scores them and wherever a job goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

from model.image import ImageError, InputSpec, UInt8Array, decode


class ImageRow(Protocol):
    """One encoded image, or the reason why there is none."""

    @property
    def id(self) -> str:
        """What it is called."""
        ...

    @property
    def image(self) -> bytes:
        """Encoded; empty where there is an error."""
        ...

    @property
    def label(self) -> int | None:
        """Its class as the model numbers it, if known."""
        ...

    @property
    def exact(self) -> bool:
        """Whether it is a raw tensor, which has to be of the model's size and channels."""
        ...

    @property
    def error(self) -> str | None:
        """Why it could not be read."""
        ...


class Chunk(Protocol):
    """Consecutive images of a data set, which can be read again; can be pickled."""

    def read(self) -> Iterator[ImageRow]:
        """The images, each time the same."""
        ...


def batches(
    rows: Iterable[ImageRow], spec: InputSpec, size: int, skip: int = 0
) -> Iterator[pa.RecordBatch]:
    """Batches of ``size`` rows, the last with what is left; the first ``skip`` rows are not decoded
    and left out."""
    source = itertools.islice(rows, skip, None)
    while found := list(itertools.islice(source, size)):
        yield decoded(found, spec)


def decoded(rows: Iterable[ImageRow], spec: InputSpec) -> pa.RecordBatch:
    """One batch."""
    ids, labels, errors, pixels = [], [], [], []
    for row in rows:
        found = row.error or _decoded(row, spec)
        ids.append(row.id)
        labels.append(row.label)
        errors.append(found if isinstance(found, str) else None)
        pixels.append(None if isinstance(found, str) else found.tobytes())
    return pa.record_batch(
        {
            "id": pa.array(ids, pa.string()),
            "label": pa.array(labels, pa.int64()),
            "error": pa.array(errors, pa.string()),
            "pixels": pa.array(pixels, pa.binary(math.prod(spec.shape))),
        }
    )


def pixels_of(batch: pa.RecordBatch, spec: InputSpec) -> UInt8Array:
    """The images without an error as uint8 (n, C, H, W), in their order."""
    good = batch.column("pixels").drop_null()
    width = math.prod(spec.shape)
    buffer = np.frombuffer(good.buffers()[1] or b"", dtype=np.uint8)
    start = good.offset * width
    pixels: UInt8Array = buffer[start : start + len(good) * width].reshape(-1, *spec.shape)
    return pixels


def _decoded(row: ImageRow, spec: InputSpec) -> UInt8Array | str:
    """Pixels, or the text of what is wrong with the image."""
    try:
        return decode(row.image, spec, exact=row.exact)
    except ImageError as error:
        return str(error)

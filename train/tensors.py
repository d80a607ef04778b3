"""Pixels in a column of a table: uint8 tensors, turned into encoded images without loss.

So that every source yields encoded images, and a model decodes them all on one path. There a tensor
of another size than the model's is refused, as one that is sent to a service is (``Row.exact``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from model.image import UInt8Array
from train.data import png


def tensor_shape(kind: pa.DataType) -> tuple[int, ...] | None:
    """The shape of a row of pixels: [H, W], [H, W, C] or [C, H, W] with 1 or 3 channels.

    None for a type that is no fixed-size list or tensor of uint8 with such a shape.
    """
    shape = _shape(kind)
    if shape is None or 0 in shape or len(shape) not in (2, 3):
        return None
    return shape if len(shape) == 2 or {shape[0], shape[2]} & {1, 3} else None


def images_of(column: pa.Array) -> Iterator[bytes | None]:
    """The rows as PNG; None for one without pixels, or with any of them missing."""
    pixels, whole = _dense(column)
    for row, known in zip(pixels, whole.tolist(), strict=True):
        yield png(Image.fromarray(_as_hwc(row)), 0) if known else None


def _shape(kind: pa.DataType) -> tuple[int, ...] | None:
    if isinstance(kind, pa.FixedShapeTensorType):
        shape, order = list(kind.shape), kind.permutation
        if kind.value_type != pa.uint8():
            return None
        return tuple(shape if order is None else (shape[axis] for axis in order))
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes) if kind == pa.uint8() else None


def _dense(column: pa.Array) -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
    """Rows as (n, *shape) in the order of the shape, and which of them lack nothing."""
    count, kind = len(column), column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        values, whole = _flat(column.storage)
        values = values.reshape(count, *kind.shape)
        if kind.permutation is not None:
            values = values.transpose(0, *(axis + 1 for axis in kind.permutation))
        return values, whole
    values, whole = _flat(column)
    return values.reshape(count, *(_shape(kind) or ())), whole


def _flat(column: pa.Array) -> tuple[UInt8Array, npt.NDArray[np.bool_]]:
    """Values (n, D), zero where there is none, and which rows lack nothing."""
    count, kind = len(column), column.type
    whole = column.is_valid().to_numpy(zero_copy_only=False)
    if not pa.types.is_fixed_size_list(kind):
        return column.fill_null(0).to_numpy(zero_copy_only=False).reshape(count, 1), whole
    size = kind.list_size
    # the values of a null list are there too, so that rows lie at fixed distances
    inner = column.values.slice(column.offset * size, count * size)
    values, known = _flat(inner)
    width = size * math.prod(values.shape[1:])
    return values.reshape(count, width), whole & known.reshape(count, size).all(axis=1)


def _as_hwc(pixels: UInt8Array) -> UInt8Array:
    """(H, W) or (H, W, 3); where both readings are possible channels come first."""
    if pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0) if pixels.shape[0] in (1, 3) else pixels
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return np.ascontiguousarray(pixels)

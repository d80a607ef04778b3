"""What the tensors of the Open Inference Protocol mean here; the same for JSON, binary and gRPC.

In: ``image``, encoded images, or ``pixels``, raw ones of the model's exact size; out: see
``outputs``. Nothing here knows an envelope.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.ask import Ask, Wish
from service.errors import BadParameterError, BadRequestError, TooManyImagesError
from service.parameters import plain

Array = npt.NDArray[Any]

IMAGE, PIXELS = "image", "pixels"
#: Datatype of each input.
INPUTS = {IMAGE: "BYTES", PIXELS: "UINT8"}

#: Longest side of a tensor; products of larger ones are no longer numbers that can be shown.
MAX_SIZE = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class InputTensor:
    """One input as it came: ``data`` is raw (bytes) or already a list of elements."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | Sequence[Any]


def images_of(inputs: Sequence[InputTensor], max_images: int) -> Sequence[bytes] | Array:
    """The images of a request: encoded ones, or uint8 (n, ...) still to be checked by size."""
    names = [tensor.name for tensor in inputs]
    if len(inputs) != 1 or names[0] not in INPUTS:
        shown = ", ".join(repr(name[:40]) for name in names[:5]) or "none"
        raise BadRequestError(f"inputs are {shown}: expected exactly one of 'image' and 'pixels'")
    (tensor,) = inputs
    if tensor.datatype != INPUTS[tensor.name]:
        raise BadRequestError(
            f"input '{tensor.name}' has datatype {tensor.datatype[:40]!r}: expected "
            f"{INPUTS[tensor.name]}"
        )
    count = _count(tensor)
    if tensor.shape and tensor.shape[0] > max_images:
        raise TooManyImagesError(tensor.shape[0], max_images)
    return _encoded(tensor, count, max_images) if tensor.name == IMAGE else _pixels(tensor, count)


def parameters_of(given: Mapping[str, Any]) -> dict[str, float | None]:
    """``alpha`` and, from Triton's ``timeout`` in microseconds, ``timeout_s``; others are left."""
    alpha = _number("alpha", given.get("alpha"))
    timeout = _number("timeout", given.get("timeout"))
    # Triton's default of 0 means none
    return {"alpha": alpha, "timeout_s": timeout / 1e6 if timeout else None}


def refuse_shared_memory(parameters: Mapping[str, Any]) -> None:
    """Of an input or output: tensors travel in messages alone."""
    if "shared_memory_region" in parameters:
        raise BadRequestError("shared memory is not offered: tensors travel in the messages")


def _count(tensor: InputTensor) -> int:
    """Elements by the shape."""
    if not 1 <= len(tensor.shape) <= 8 or not all(1 <= n <= MAX_SIZE for n in tensor.shape):
        raise BadRequestError(
            f"input '{tensor.name}' has shape {str(list(tensor.shape[:9]))[:100]}: expected sizes "
            f"from 1 to {MAX_SIZE}, the first one counting the images"
        )
    return math.prod(tensor.shape)


def _encoded(tensor: InputTensor, count: int, max_images: int) -> list[bytes]:
    if count != tensor.shape[0]:
        raise BadRequestError(
            f"input 'image' has shape {list(tensor.shape)}: expected [n], one element an image"
        )
    if isinstance(tensor.data, bytes | memoryview):
        found: list[Any] = list(_split(memoryview(tensor.data), max_images))
    else:
        found = _flattened(tensor.data)
    if len(found) != count:
        raise BadRequestError(
            f"input 'image' has {len(found)} elements: expected {count} by its shape"
        )
    return [_element(value) for value in found]


def _split(data: memoryview, max_images: int) -> Iterator[bytes]:
    """The elements of a raw BYTES tensor."""
    at = found = 0
    while at < len(data):
        if found == max_images:
            raise TooManyImagesError(found + 1, max_images)
        if at + 4 > len(data):
            raise BadRequestError("input 'image' ends inside a length: expected 4 bytes of it")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if length > len(data) - at:
            raise BadRequestError(
                f"an element of input 'image' has length {length}: only {len(data) - at} bytes "
                "are left; expected each element behind its length, 4 bytes little-endian"
            )
        yield bytes(data[at : at + length])
        at += length
        found += 1


def _flattened(data: Sequence[Any]) -> list[Any]:
    """Nested lists of equal depth to one, level by level; the shape says how they were nested."""
    level = list(data)
    while level and isinstance(level[0], list):
        try:
            level = list(itertools.chain.from_iterable(level))
        except TypeError:
            raise BadRequestError("the data is nested unevenly: expected it as its shape") from None
    return level


def _element(value: Any) -> bytes:
    """An encoded image: bytes over gRPC, text over JSON, which can hold bytes as base64 only."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise BadRequestError(
        "an element of input 'image' is no image: expected its bytes as base64 text in JSON; "
        "better, send it as binary data"
    )


def _pixels(tensor: InputTensor, count: int) -> Array:
    data = tensor.data
    if isinstance(data, bytes | memoryview):
        pixels = np.frombuffer(data, dtype=np.uint8)
    else:
        pixels = _listed_pixels(data)
    if pixels.size != count:
        raise BadRequestError(
            f"input 'pixels' has {pixels.size} elements: expected {count} by its shape"
        )
    return pixels.reshape(tensor.shape)


def _listed_pixels(data: Sequence[Any]) -> Array:
    """Numbers of a list, flat or nested; never through an array of what else may stand there."""
    try:
        return np.frombuffer(bytes(_flattened(data)), dtype=np.uint8)
    except (ValueError, TypeError):
        raise BadRequestError(
            "input 'pixels' holds something else than whole numbers from 0 to 255, flat or nested "
            "as its shape says"
        ) from None


def _number(name: str, value: Any) -> float | None:
    """A parameter as a number; some clients can send it as text only."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(plain(value) if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        shown = str(value)[:40]
        raise BadParameterError(f"{name} is {shown!r}: expected a number") from None


def ask_of(
    inputs: Sequence[InputTensor],
    given: Mapping[str, Any],
    max_images: int,
    *,
    model: str,
    version: str,
    request_id: str,
    explain: Wish | None = None,
) -> Ask:
    """An inference request to what the engine takes."""
    parameters = parameters_of(given)
    return Ask(
        images=images_of(inputs, max_images),
        model=model,
        version=version,
        id=request_id,
        alpha=parameters["alpha"],
        timeout_s=parameters["timeout_s"],
        explain=explain,
    )

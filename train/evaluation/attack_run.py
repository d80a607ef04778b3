"""The file of an attack: images on their way from an original to what the attack made of it.

A ``.npz`` without pickle, of N images in S steps:

- ``images`` (N, S, C, H, W) float32, pixels in [0, 1]; step 0 is the original, S >= 2
- ``labels`` (N,) int64, the true classes
- ``targets`` (N,) int64, the class that each attack aims at, -1 for any other; may be left out

It holds no scores: those depend on the model that looks at it.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.arrays import IntArray
from train.data import DataError

Float32Array = npt.NDArray[np.float32]

#: The target of an attack that is content with any wrong class.
UNTARGETED = -1

_FORMAT = (
    "expected a .npz with images (N, S, C, H, W) float32, labels (N,) int64: write it anew, by "
    "write_attack_run or numpy.savez"
)

#: What numpy raises of a file that is broken, locked or not there: single bytes that flipped may
#: end in a stream, in a header, in a compression that is not known or in the mark of a password.
_UNREADABLE = (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackRun:
    """N attacked images in S steps; fields as in the file, ``targets`` always there."""

    images: Float32Array
    labels: IntArray
    targets: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        _check_images(self.images)
        count = len(self.images)
        for name in ("labels", "targets"):
            _check_integers(name, getattr(self, name), count)

    def check_fits(self, shape: tuple[int, int, int], n_classes: int) -> None:
        """Raise ``DataError`` where a model of that input and so many classes cannot look at it."""
        if self.images.shape[2:] != shape:
            raise DataError(
                f"images: found {self.images.shape[2:]} pixels, but the model takes {shape}: "
                "expected an attack on a model of the same input"
            )
        for name, values, least in (("labels", self.labels, 0), ("targets", self.targets, -1)):
            if values.min() < least or values.max() >= n_classes:
                found = values[(values < least) | (values >= n_classes)][0]
                raise DataError(f"{name}: found {found}, expected {least} to {n_classes - 1}")


def write_attack_run(path: Path, run: AttackRun) -> None:
    """The file; raises ``DataError`` for another suffix than .npz."""
    if path.suffix != ".npz":  # numpy would append it, and nobody find the file
        raise DataError(f"{path}: found suffix {path.suffix!r}, expected .npz")
    np.savez_compressed(path, images=run.images, labels=run.labels, targets=run.targets)


def read_attack_run(path: Path) -> AttackRun:
    """Read and check; raises ``DataError`` naming the file and what is wrong with it."""
    try:
        with path.open("rb") as file:  # of a broken one numpy forgets to close what it opens
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise DataError(f"found a single array, {_FORMAT}")
            return _run({name: content[name] for name in content.files})
    except _UNREADABLE as error:
        told = error.strerror if isinstance(error, OSError) else None
        said = error if isinstance(error, DataError) else f"{told or error}; {_FORMAT}"
        raise DataError(f"{path}: {said}") from error


def _run(arrays: dict[str, npt.NDArray[Any]]) -> AttackRun:
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        raise DataError(f"found {', '.join(arrays) or 'nothing'} in it, {_FORMAT}")
    labels = arrays["labels"]
    targets = arrays.get("targets", np.full(labels.shape, UNTARGETED, np.int64))
    return AttackRun(images=arrays["images"], labels=labels, targets=targets)


def _check_images(images: npt.NDArray[Any]) -> None:
    if images.dtype != np.float32 or images.ndim != 5:
        raise DataError(
            f"images: found {images.dtype} {images.shape}, expected float32 (N, S, C, H, W)"
        )
    if not images.size or images.shape[1] < 2:
        raise DataError(
            f"images: found {len(images)} in {images.shape[1]} steps, expected at least one in two "
            "steps: the original, and what became of it"
        )
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise DataError(
            f"images: found pixels from {images.min():g} to {images.max():g}, expected [0, 1]: "
            "divide 8-bit ones by 255"
        )


def _check_integers(name: str, values: npt.NDArray[Any], count: int) -> None:
    if values.dtype != np.int64 or values.shape != (count,):
        raise DataError(
            f"{name}: found {values.dtype} {values.shape}, expected int64 ({count},), one an image"
        )

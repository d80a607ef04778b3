"""How changed images are stored again, so that none is told by that alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.image import InputSpec, UInt8Array, decode
from train.data import DataError, ImageRows
from train.strangers import Encoding, encoding_of


@dataclass(frozen=True, kw_only=True)
class Storage:
    """``encoding``: how changed images are stored, None for without loss; ``note``: in words."""

    encoding: Encoding | None
    note: str

    @classmethod
    def of(cls, rows: ImageRows) -> Storage:
        """As the first of ``rows`` is, where that can be repeated."""
        try:
            encoding = encoding_of(rows)
        except DataError as error:
            return cls(
                encoding=None, note=f"stored without loss, unlike the known images ({error})"
            )
        if not encoding.lossy:
            return cls(encoding=None, note="stored without loss, as the first known image is")
        note = "stored as the first known image is, JPEG of the same quality, at the input's size"
        return cls(encoding=encoding, note=note)

    def seen(self, pixels: UInt8Array, spec: InputSpec) -> UInt8Array:
        """What the model sees of images (B, C, H, W) that are stored so."""
        if self.encoding is None:
            return pixels
        return np.stack([decode(self.encoding.encode(image), spec) for image in pixels])

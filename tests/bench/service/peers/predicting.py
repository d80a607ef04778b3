"""What every peer does with an image: the same Predictor, and the same few fields of its answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.image import UInt8Array, decode
from service.bundle import Bundle
from service.predictor import Predictor

#: Where the benchmark says which bundle to serve.
BUNDLE_VARIABLE = "OODGATE_BENCH_BUNDLE"


class Classifier:
    """The bundle's Predictor, which has seen one image and one batch."""

    def __init__(self) -> None:
        self._predictor = Predictor(Bundle.load(Path(os.environ[BUNDLE_VARIABLE])))
        for size in (1, 32):
            self.of_pixels([np.zeros(self._predictor.spec.shape, np.uint8)] * size)

    def pixels(self, image: bytes) -> UInt8Array:
        """An encoded image to uint8 (C, H, W)."""
        return decode(image, self._predictor.spec)

    def of_pixels(self, images: Sequence[UInt8Array]) -> list[dict[str, Any]]:
        """Answers of images, in one batch."""
        return [
            {
                "class": verdict.class_label,
                "posterior": list(verdict.posterior),
                "p_value": verdict.p_value,
                "decision": verdict.decision.value,
            }
            for verdict in self._predictor(np.stack(images))
        ]

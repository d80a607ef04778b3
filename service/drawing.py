"""Images that a model draws itself: what it takes its classes to look like, and nobody's photo."""

from __future__ import annotations

from dataclasses import dataclass

from model.image import UInt8Array
from service.predictor import Predictor

#: Draws of which the most typical is shown: a flow's draws scatter more than images do.
DRAWS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """``pixels`` (C, H, W) drawn for the class ``label``."""

    label: str
    pixels: UInt8Array


def drawn(predictor: Predictor, index: int, seed: int) -> Drawn:
    """Of ``DRAWS`` from p(x | y) of one class, the one with the largest p-value."""
    images = predictor.draw([index] * DRAWS, seed)
    verdicts = predictor(images)
    best = max(range(DRAWS), key=lambda i: verdicts[i].p_value)
    return Drawn(label=predictor.class_labels[index], pixels=images[best])

"""What an attack's images come to at the gate as it is served: rounded to 8 bits, decided on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import BoolArray, FloatArray, IntArray
from calibration.calibration import Calibration
from calibration.decisions import Decisions
from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from model.scoring import joined, score
from train.batch_sizes import in_parts

#: Images that are looked at together at most, where memory allows so many.
AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class ServedGate:
    """The path of serving: uint8 images (B, C, H, W) to decisions."""

    classifier: GenerativeClassifier
    calibration: Calibration

    def __call__(self, images: UInt8Array) -> Decisions:
        """At the bundle's own alpha."""
        return self.with_logits(images)[1]

    def with_logits(self, images: UInt8Array) -> tuple[FloatArray, Decisions]:
        """Logits (B, K), too, in nats."""
        parts = in_parts(len(images), self.classifier.config.dim, AT_ONCE)
        scores = joined([score(self.classifier, images[part]) for part in parts])
        decided = self.calibration.decide(scores.logits, scores.log_prob, scores.statistics)
        return scores.logits, decided


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Of B attacked images, all as served: ``predicted`` (B,), ``rejected`` (B,), ``score`` S (B,)
    and how far the image was moved: ``l2``, root of the sum of squares of pixels in [0, 1], and
    ``linf``, largest change, both of the rounded image."""

    predicted: IntArray
    rejected: BoolArray
    score: FloatArray
    l2: FloatArray
    linf: FloatArray

    def evades(self, labels: IntArray) -> BoolArray:
        """Which are of another class and let in: the attack's success, (B,)."""
        evaded: BoolArray = (self.predicted != labels) & ~self.rejected
        return evaded


def outcome(served: ServedGate, attacked: Tensor, clean: UInt8Array) -> Outcome:
    """Of attacked images (B, C, H, W) in [0, 1], which were ``clean``."""
    images = rounded(attacked)
    decided = served(images)
    l2, linf = distances(images, clean)
    return Outcome(
        predicted=decided.class_index,
        rejected=decided.rejected,
        score=decided.score,
        l2=l2,
        linf=linf,
    )


def distances(images: UInt8Array, clean: UInt8Array) -> tuple[FloatArray, FloatArray]:
    """l2 and largest change of each image, pixels in [0, 1]."""
    change = (images.astype(np.float64) - clean).reshape(len(images), -1) / 255
    return np.sqrt((change**2).sum(axis=1)), np.abs(change).max(axis=1)


def pixels(images: UInt8Array) -> Tensor:
    """Images as attacks take them, in [0, 1]; ``rounded`` is the way back."""
    return torch.from_numpy(images).float() / 255


def rounded(x: Tensor) -> UInt8Array:
    """Images in [0, 1] as they are sent."""
    found: UInt8Array = (255 * x).round().clamp(0, 255).byte().numpy()
    return found

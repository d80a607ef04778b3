"""A gate as an attacker sees it and what it costs: a bundle's own, and one that is smoothed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.arrays import FloatArray
from calibration.calibration import Calibration
from calibration.conformal import pac_rank
from model.image import UInt8Array
from service.bundle import Bundle
from train.attacks.gate import SmoothGate
from train.attacks.served import pixels
from train.progress import Progress

#: Images that are looked at together.
BATCH = 100
#: Of smoothing: draws, and their standard deviation in 8-bit levels.
DRAWS, SIGMA = 4, 8.0
#: Draws the noise.
SEED = 0


class Seen(NamedTuple):
    """``logits`` (B, K) and ``score`` S (B,), float64; as attacks take it."""

    logits: Tensor
    score: Tensor


#: Pixels (B, C, H, W) in [0, 1], of which k / 255 is the 8-bit level k, to what a gate sees.
Gate = Callable[[Tensor], Seen]


@dataclass(frozen=True, kw_only=True)
class Lever:
    """``passes`` of an image through a network, in units of the bundle's one."""

    name: str
    gate: Gate
    limit: float
    classes: int
    passes: float


def as_it_is(name: str, bundle: Bundle) -> Lever:
    """A bundle's gate; its limit is that of its own reference."""
    smooth = SmoothGate(bundle.checkpoint.classifier, bundle.calibration)

    def gate(x: Tensor) -> Seen:
        judged = smooth(x)
        return Seen(judged.logits, judged.score)

    reference = bundle.calibration.scores(*bundle.calibration.held_out())
    return lever_of(name, gate, reference, bundle, passes=1)


def smoothed(bundle: Bundle, cal: UInt8Array) -> Lever:
    """S averaged over ``DRAWS`` patterns of noise, the same for every image."""
    plain = as_it_is("smoothing", bundle).gate
    generator = torch.Generator().manual_seed(SEED)
    noise = SIGMA / 255 * torch.randn(DRAWS, *cal.shape[1:], generator=generator)

    def gate(x: Tensor) -> Seen:
        scores = [plain((x + one).clamp(0, 1)).score for one in noise]
        return Seen(plain(x).logits, torch.stack(scores).mean(0))

    reference = scores_of(gate, cal, "smoothing")
    return lever_of("smoothing", gate, reference, bundle, passes=1 + DRAWS)


def lever_of(name: str, gate: Gate, reference: FloatArray, bundle: Bundle, passes: float) -> Lever:
    """With the limit that S of the ``reference`` rows gives."""
    calibration = bundle.calibration
    limit = limit_of(reference, calibration)
    return Lever(name=name, gate=gate, limit=limit, classes=calibration.classes, passes=passes)


def limit_of(reference: FloatArray, calibration: Calibration) -> float:
    """S above which an image is rejected, by the bundle's alpha and delta, whatever its class."""
    rank = pac_rank(len(reference), calibration.alpha, calibration.delta)
    return float(np.sort(reference)[len(reference) - rank])


def scores_of(gate: Gate, images: UInt8Array, label: str) -> FloatArray:
    """S (N,) of 8-bit images."""
    return np.concatenate([found.score.numpy() for found in seen(gate, images, label)])


def seen(gate: Gate, images: UInt8Array, label: str) -> list[Seen]:
    """Batch by batch."""
    parts = []
    with torch.no_grad(), Progress(label, len(images)) as progress:
        for start in range(0, len(images), BATCH):
            parts.append(gate(pixels(images[start : start + BATCH])))
            progress.advance(len(parts[-1].score))
    return parts

"""The gate as served, with gradients: what an attacker who has the whole bundle would build.

Roundings of pixels and of statistics are seen through (``train.attacks.attacked``), pieces of the
normal scores' maps are those that a value lies on; nothing else stands in for anything. Whether an
attack succeeds is always asked of the served gate (``train.attacks.served``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.calibration import Calibration
from calibration.class_gaussians import ClassGaussians
from calibration.combined_score import LOG_PROB, CombinedScore
from calibration.normal_scores import NEVER_SEEN, NormalScores
from calibration.outlier_exposure import FARTHEST, OutlierNet
from calibration.views import ENTROPY
from model.classifier import ClassifierOutput, GenerativeClassifier
from model.statistics import DEFAULT_RESOLUTION, RESOLUTION, statistics
from train.attacks.attacked import seen, sent, straight_through
from train.attacks.input_statistics import input_statistics
from train.config import WHITE


class Judged(NamedTuple):
    """``logits`` (B, K) and the gate's score S (B,), float64, larger = stranger."""

    logits: Tensor
    score: Tensor
    output: ClassifierOutput


@dataclass(frozen=True, eq=False)
class SmoothGate:
    """A classifier and its calibration as one function of pixels.

    ``rounds`` False: of continuous pixels, which no service sees and whose differences can be held
    against gradients.
    """

    classifier: GenerativeClassifier
    calibration: Calibration
    rounds: bool = True

    def __call__(self, x: Tensor) -> Judged:
        """Pixels (B, C, H, W) in [0, 1], of which k / 255 is the 8-bit level k."""
        named, output = self.statistics(x)
        predicted = output.logits.argmax(1).cpu()
        return Judged(
            output.logits.cpu(), self.score(self.calibration.combined, named, predicted), output
        )

    def statistics(self, x: Tensor) -> tuple[dict[str, Tensor], ClassifierOutput]:
        """``log_prob`` and all statistics by name, (B,) each, and what they were read off."""
        x = self._sent(x)
        output = self.classifier(self._seen(x), traced=True)
        names, columns = statistics(output, self.classifier)
        named = dict(zip(names, columns.cpu().unbind(1), strict=True))
        named |= input_statistics(WHITE * x.double().cpu())
        named[LOG_PROB] = output.log_prob.cpu()
        return named, output

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and log p(x) (B,)."""
        output = self.classifier(self._seen(self._sent(x)))
        return output.logits.cpu(), output.log_prob.cpu()

    def _sent(self, x: Tensor) -> Tensor:
        return sent(x) if self.rounds else x

    def _seen(self, x: Tensor) -> Tensor:
        found = seen(x, self.classifier.config.levels, rounds=self.rounds)
        return found.to(self.classifier.device)

    def score(self, combined: CombinedScore, named: dict[str, Tensor], predicted: Tensor) -> Tensor:
        """S (B,) of statistics by name and predicted classes (B,)."""
        x = torch.stack([named[name] for name in combined.names], dim=1)
        if self.rounds:
            steps = torch.tensor([RESOLUTION.get(n, DEFAULT_RESOLUTION) for n in combined.names])
            x = straight_through(x / steps.double()) * steps.double()
        shared = _mapped(combined.over_all, x, torch.zeros_like(predicted))
        if combined.views is None or combined.tails is None:
            distance: Tensor = shared[:, combined.names.index(LOG_PROB)].abs()
            return distance
        group = torch.from_numpy(combined.group_of)[predicted]
        own = _mapped(combined.views.by_group, x, group)
        views = [
            _surprise(combined.views.joint, shared, group),
            _surprise(combined.views.within, own, group),
        ]
        if ENTROPY in combined.names:
            views.append(x[:, combined.names.index(ENTROPY)])
        if combined.views.outliers is not None:
            views.append(_log_odds(combined.views.outliers, shared))
        found = torch.stack(views, dim=1)
        t = _mapped(combined.tails, found, torch.zeros_like(predicted))
        score: Tensor = (t + torch.from_numpy(combined.weights)).logsumexp(1)
        return score


def _mapped(maps: NormalScores, x: Tensor, group: Tensor) -> Tensor:
    """Normal scores (B, S): on the piece that each value lies on, a line."""
    values, which = x.detach().numpy(), group.numpy()
    piece = (maps.knots[which] <= values[:, :, None]).sum(axis=2)
    place = maps._pieces[:, which[:, None], np.arange(x.shape[1]), piece]
    start, score, slope = torch.from_numpy(place)
    found: Tensor = score + slope * (x - start)
    constant = torch.from_numpy(maps._never_varied[which] & (values != start.numpy()))
    return torch.where(constant, NEVER_SEEN * (x - start).detach().sign(), found)


def _log_odds(net: OutlierNet, normal: Tensor) -> Tensor:
    at = normal.clamp(-FARTHEST, FARTHEST)
    for layer, (weights, biases) in enumerate(zip(net.weights, net.biases, strict=True)):
        at = (at.relu() if layer else at) @ torch.from_numpy(weights) + torch.from_numpy(biases)
    return at[:, 0]


def _surprise(gaussians: ClassGaussians, x: Tensor, group: Tensor) -> Tensor:
    means, whitening, log_det = (
        torch.from_numpy(array)[group]
        for array in (gaussians.means, gaussians.whitening, gaussians.log_det)
    )
    white = torch.einsum("bi,bij->bj", x - means, whitening)
    return 0.5 * white.square().sum(1) + log_det

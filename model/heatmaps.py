"""Posterior heatmaps: which places of an image speak for a class, exactly and without a parameter.

The last resolution's DCT is orthonormal, so with s and m^y the latent code and a class mean brought
back into space, each place (k, l) adds its part to the logit of class y,

    a_kl^y = s_kl . m_kl^y - |m_kl^y|^2 / 2 + w_y / (H W),       sum_kl a_kl^y = logit_y

(|s|^2 is the same for all classes and cancels). With the posterior r and its entropy H(r)

    Q_kl(y) = a_kl^y - sum_y' r_y' a_kl^y' - H(r) / (H W),       sum_kl Q_kl(y) = log q(y | x)

after Mackowiak et al., CVPR 2021, Sec. 4. Positive places speak for y more than for what the model
expects on average, negative ones against it. Means of low rank are never materialised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from model.classifier import GenerativeClassifier
from model.transforms import DctPool


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Vector scaling of tempered log posteriors: ``weights`` and ``offsets`` (K,), see
    ``calibration.vector_scaling``."""

    weights: Tensor
    offsets: Tensor


def posterior_heatmaps(
    logits: Tensor,
    evidence: Tensor,
    *,
    temperature: float = 1.0,
    scaling: Scaling | None = None,
    contrast: float = 1.0,
) -> Tensor:
    """Q (B, K, H, W) in nats, float64, at the last resolution; its sum over space is log q(y | x).

    ``logits`` (B, K) and ``evidence`` (B, K, H, W) of ``class_evidence``. ``temperature`` and
    ``scaling``: those of the posterior, 1 and None for the model's own; q is then
    softmax(w log softmax(logits / T) + b), without the floor of ``calibration.vector_scaling``.
    ``contrast`` > 0: how sharply the average that a class
    is held against follows the posterior; 1 as above, towards 0 all classes count alike, above 1
    the most probable ones alone. It moves evidence between places and leaves the sums. Raises
    ``ValueError`` for numbers that are not above 0.
    """
    _check(temperature=temperature, contrast=contrast)
    # in float64: the map of a sure class is a small difference of numbers that are nearly equal
    logits, evidence = logits.double() / temperature, evidence.double() / temperature
    if scaling is not None:
        logits, evidence = _scaled(logits, _against_average(logits, evidence, 1.0), scaling)
    return _against_average(logits, evidence, contrast)


def class_evidence(field: Tensor, classifier: GenerativeClassifier) -> Tensor:
    """a (B, K, H, W) in nats: what each place adds to each logit.

    ``field`` (B, C, H, W): the latent code brought back into space by the flow's last transform.
    """
    pool, means = pool_of(classifier), classifier.class_means
    inner, square_norm = means.inner_by_place(field, pool), means.square_norm_by_place(pool)
    prior = classifier.log_prior[:, None, None] / _places(field)
    return inner - 0.5 * square_norm + prior


def _against_average(logits: Tensor, evidence: Tensor, contrast: float) -> Tensor:
    weights = (contrast * logits).softmax(1)
    average = (weights[:, :, None, None] * evidence).sum(1, keepdim=True)
    # what the sum still lacks of the log posterior; at contrast 1 it is -H(r) for every class
    lacking = (weights * logits).sum(1) - logits.logsumexp(1)
    return evidence - average + lacking[:, None, None, None] / _places(evidence)


def _scaled(logits: Tensor, heatmaps: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
    """Both after vector scaling, which acts on the log posterior that ``heatmaps`` sum to."""
    weights, offsets = scaling.weights.double(), scaling.offsets.double()
    spread = offsets[:, None, None] / _places(heatmaps)
    evidence = weights[:, None, None] * heatmaps + spread
    return weights * logits.log_softmax(1) + offsets, evidence


def _places(maps: Tensor) -> int:
    return maps.shape[2] * maps.shape[3]


def pool_of(classifier: GenerativeClassifier) -> DctPool:
    """The flow's last transform, which knows where in space a latent entry is."""
    pool = classifier.flow.steps[-1]
    if not isinstance(pool, DctPool):
        raise ValueError(f"the flow ends in {type(pool).__name__}: expected a DctPool")
    return pool


def _check(**numbers: float) -> None:
    for name, found in numbers.items():
        if not 0 < found < math.inf:
            raise ValueError(f"{name} is {found}: expected a number above 0")

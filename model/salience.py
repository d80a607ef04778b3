"""Salience: what each place of an image adds to its log density, exactly.

    log q(x) = sum_kl [ log of the mixture at (k, l) - |s_kl|^2 / 2 - (C / 2) ln 2 pi + ladj_kl ]

with s the latent code brought back into space (C channels), the mixture's part
sum_y r_y a_kl^y + H(r) / (H W) (``model.heatmaps``; r the posterior, H its entropy) and ladj the
log-determinant by place: the log-scales of all couplings, each added up to the last resolution.
Low places are those that the model finds improbable.
"""

from __future__ import annotations

import math

from torch import Tensor

from model.classifier import GenerativeClassifier
from model.heatmaps import pool_of


def salience(field: Tensor, logits: Tensor, evidence: Tensor, ladj_by_place: Tensor) -> Tensor:
    """(B, H, W) in nats, float64, at the last resolution; its sum over space is log q(x).

    ``field`` (B, C, H, W): the latent code brought back into space; ``logits`` (B, K);
    ``evidence`` (B, K, H, W): of ``model.heatmaps``; ``ladj_by_place`` (B, H, W): of
    ``classifier.flow.by_place`` for the same images.
    """
    channels, height, width = field.shape[1:]
    logits, evidence = logits.double(), evidence.double()
    posterior = logits.softmax(1)
    mixture = (posterior[:, :, None, None] * evidence).sum(1)
    entropy = logits.logsumexp(1) - (posterior * logits).sum(1)
    spread = (entropy / (height * width))[:, None, None]
    gaussian = 0.5 * field.double().square().sum(1) + 0.5 * channels * math.log(2 * math.pi)
    return mixture + spread - gaussian + ladj_by_place


def energy(field: Tensor, predicted: Tensor, classifier: GenerativeClassifier) -> Tensor:
    """(B, H, W): mean square of the latent code about its predicted class's mean, by place.

    ``predicted`` (B,): class indices. 1 under the model; higher = farther from what the class looks
    like there.
    """
    means = pool_of(classifier).inverse(classifier.class_means.of(predicted))[0]
    return (field - means).square().mean(1)

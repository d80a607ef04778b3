"""Figures of a classifier on held-out rows, through the path that serving uses."""

from __future__ import annotations

import numpy as np
import torch

from calibration.arrays import FloatArray
from calibration.metrics import accuracy, nll
from calibration.temperature import softmax
from model.classifier import GenerativeClassifier, bits_per_dim
from model.scoring import score
from train.batch_sizes import in_parts
from train.images import Images
from train.learner import Classifier

#: Rows looked at after each epoch: a standard error of accuracy below 1.2 points.
VALIDATION_ROWS = 2000
BATCH = 256


def validate(classifier: Classifier, images: Images) -> dict[str, float]:
    """``accuracy``, ``nll`` (nats, uncalibrated) and a flow's ``bits_per_dim`` on ``images``.

    They are rows that are held out to *fit* the gate, so a recipe may be chosen by them; neither
    the calibration rows nor any test split is ever looked at.
    """
    logits, log_prob = outputs(classifier, images)
    posterior = softmax(logits, 1.0)
    figures = {
        "accuracy": accuracy(posterior, images.labels),
        "nll": nll(posterior, images.labels),
    }
    if isinstance(classifier, GenerativeClassifier):
        figures["bits_per_dim"] = bits_per_dim(float(log_prob.mean()), classifier.config)
    return figures


@torch.no_grad()
def outputs(classifier: Classifier, images: Images) -> tuple[FloatArray, FloatArray]:
    """Logits (N, K) and log p(x) (N,) in nats of N >= 1 images; the latter (0,) without a density.

    Leaves the classifier in evaluation mode.
    """
    classifier.eval()
    logits, log_prob = [], [np.empty(0)]
    for part in in_parts(len(images), classifier.config.dim, BATCH):
        pixels = images.pixels[part]
        if isinstance(classifier, GenerativeClassifier):
            scores = score(classifier, pixels)
            logits.append(scores.logits)
            log_prob.append(scores.log_prob)
        else:
            found = classifier.classify(torch.from_numpy(pixels).to(classifier.device))
            logits.append(found.double().cpu().numpy())
    return np.concatenate(logits), np.concatenate(log_prob)

"""What levers are measured by: the place of rejection is the gate's, and an attacker knows all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.image import UInt8Array
from service.bundle import Bundle
from tests.bench.lever import DRAWS, as_it_is, limit_of, seen, smoothed
from tests.bench.lever_ensemble import Ensemble
from train.attacks.gate import SmoothGate
from train.attacks.served import pixels
from train.data import open_data
from train.images import load_images
from train.progress import watch


@pytest.fixture(scope="module")
def images(bundle: Bundle) -> UInt8Array:
    return load_images(open_data("digits"), bundle.spec, bundle.class_labels, watch).pixels[:60]


def test_the_limit_is_the_gate_s(bundle: Bundle) -> None:
    """What is above it is rejected by the calibration itself, and nothing else is."""
    calibration = bundle.calibration
    logits, log_prob, statistics = calibration.held_out()
    scores = calibration.scores(logits, log_prob, statistics)
    decided = calibration.decide(logits, log_prob, statistics)
    assert (decided.rejected == (scores > limit_of(scores, calibration))).all()
    assert decided.rejected.any()


@torch.no_grad()
def test_smoothing_is_a_mean_of_draws(bundle: Bundle, images: UInt8Array) -> None:
    """Of the same noise for every image, so that neither order nor batch matters."""
    lever = smoothed(bundle, images)
    assert lever.passes == 1 + DRAWS
    whole, alone = lever.gate(pixels(images[:8])), lever.gate(pixels(images[3:4]))
    torch.testing.assert_close(whole.score[3:4], alone.score, atol=0.05, rtol=0)
    plain = as_it_is("x", bundle).gate(pixels(images[:8]))
    assert torch.equal(plain.logits, whole.logits)
    assert (plain.score - whole.score).abs().max() > 0.01


@torch.no_grad()
def test_an_ensemble_of_one_model_twice_has_its_classes(bundle: Bundle, images: UInt8Array) -> None:
    gate = SmoothGate(bundle.checkpoint.classifier, bundle.calibration)
    twice = Ensemble([gate, gate], [0, 1])
    named, logits = twice.columns(pixels(images[:8]))
    assert (logits.argmax(1) == gate(pixels(images[:8])).logits.argmax(1)).all()
    inputs = [name for name in named if name.startswith("input_")]
    assert len(named) == 2 * len(bundle.calibration.combined.names) - len(inputs)
    assert torch.equal(named["log_prob"], named["log_prob.1"])
    with pytest.raises(ValueError, match="no S yet"):
        twice(pixels(images[:2]))
    rows = np.arange(60)
    fitted = twice.fitted(images, images[::-1].copy(), rows)
    (found,) = seen(fitted, images, "x")
    assert found.score.shape == (60,)
    assert torch.isfinite(found.score).all()

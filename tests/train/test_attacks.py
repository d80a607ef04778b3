"""Attacks: the gate they climb is the served one, and they do what they are named for."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.score_histogram import score_histogram
from model.image import UInt8Array, decode
from model.input_statistics import input_statistics as exact_statistics
from service.bundle import Bundle
from train.attacks.apgd import _checkpoints, apgd
from train.attacks.ball import Ball, lengths
from train.attacks.carlini_wagner import (
    Density,
    Settings,
    carlini_wagner,
    looks_anyhow,
    looks_let_in,
    looks_usual,
)
from train.attacks.gate import SmoothGate
from train.attacks.input_statistics import input_statistics
from train.attacks.losses import cross_entropy, gradient, margin
from train.attacks.pgd import Steps, _way, ood_to_id, pgd, selective_pgd
from train.attacks.served import ServedGate, distances, outcome, rounded
from train.attacks.square import square
from train.data import open_data

COUNT = 24
NORMS = ("linf", "l2")


class Scene:
    """Digits that the served gate knows and lets in, and the gate with gradients."""

    def __init__(self, bundle: Bundle) -> None:
        classifier, calibration = bundle.checkpoint.classifier, bundle.calibration
        self.served = ServedGate(classifier, calibration)
        self.gate = SmoothGate(classifier, calibration)
        rows = list(open_data("digits"))[: 3 * COUNT]
        images = np.stack([decode(row.image, bundle.spec) for row in rows])
        labels = np.array([int(str(row.label)) for row in rows])
        decided = self.served(images)
        good = np.flatnonzero((decided.class_index == labels) & ~decided.rejected)[:COUNT]
        self.images, self.labels = images[good], labels[good]
        self.x = torch.from_numpy(self.images).float() / 255
        self.y = torch.from_numpy(self.labels)
        ranking = calibration.ranking
        limits = [
            score_histogram(ranking, k, float(t)).rejected_above
            for k, t in enumerate(ranking.thresholds(calibration.alpha))
        ]
        self.limit = torch.tensor(limits, dtype=torch.float64)


@pytest.fixture(scope="module")
def scene(bundle: Bundle) -> Scene:
    return Scene(bundle)


def noise(shape: tuple[int, ...], seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12), (1, 1, 7), (1, 28, 28)])
def test_statistics_of_whole_grey_levels_are_the_gates_own(shape: tuple[int, ...]) -> None:
    images = np.concatenate([noise((5, *shape)), noise((5, *shape)) // 64 * 64])
    smooth = input_statistics(torch.from_numpy(images).double())
    exact = exact_statistics(images)
    assert list(smooth) == list(exact)
    for name, values in exact.items():
        np.testing.assert_allclose(smooth[name].numpy(), values, rtol=1e-9, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("name", exact_statistics(noise((1, 3, 12, 12))))
def test_every_statistic_has_the_gradient_of_its_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (255 * torch.rand(2, 3, 12, 12, generator=generator)).double().requires_grad_()
    way = gradient(input_statistics(x)[name], x)
    assert way.abs().max() > 0
    move = 1e-5 * torch.randn(x.shape, generator=generator).double()
    with torch.no_grad():
        after, before = (input_statistics(x + step * move)[name] for step in (1, -1))
    expected = (way * move).flatten(1).sum(1)
    torch.testing.assert_close((after - before) / 2, expected, rtol=1e-3, atol=1e-9)


def test_the_smooth_score_is_the_served_one_but_for_its_steps(scene: Scene) -> None:
    images = np.concatenate([scene.images, noise(scene.images.shape)])
    served = scene.served(images)
    with torch.no_grad():
        judged = scene.gate(torch.from_numpy(images).float() / 255)
    away = np.abs(judged.score.numpy() - served.score) / (1 + np.abs(served.score))
    assert away.max() < 1e-3
    assert (judged.logits.argmax(1).numpy() == served.class_index).all()


def test_the_score_has_the_gradient_of_its_differences(scene: Scene) -> None:
    """In float64, of pixels that are all apart: few steps this small meet a corner."""
    classifier = scene.gate.classifier
    try:
        classifier.double()
        torch.set_default_dtype(torch.float64)
        apart = torch.rand(scene.x[:8].shape, generator=torch.Generator().manual_seed(1))
        x = (0.8 * scene.x[:8].double() + 0.1 * apart).requires_grad_()
        smooth = SmoothGate(classifier, scene.gate.calibration, rounds=False)
        way = gradient(smooth(x).score, x)
        move = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            after, before = (smooth(x + step * move).score for step in (1, -1))
    finally:
        classifier.float()
        torch.set_default_dtype(torch.float32)
    expected = (way * move).flatten(1).sum(1)
    close = ((after - before) / 2 - expected).abs() <= 1e-3 * expected.abs() + 1e-9
    assert close.float().mean() >= 0.8


@pytest.mark.parametrize("norm", NORMS)
def test_balls_hold_what_is_projected(norm: str) -> None:
    ball = Ball(norm, 0.3)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(6, 1, 5, 5, generator=generator)
    far = centre + torch.randn(centre.shape, generator=generator)
    for found in (ball.project(far, centre), ball.somewhere(centre, generator)):
        assert found.min() >= 0
        assert found.max() <= 1
        change = found - centre
        size = change.abs().amax((1, 2, 3)) if norm == "linf" else lengths(change).flatten()
        assert (size <= 0.3 + 1e-6).all()
    inside = centre + 1e-4
    torch.testing.assert_close(ball.project(inside.clamp(0, 1), centre), inside.clamp(0, 1))


def test_losses_are_what_they_say() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 5.0, 2.0]])
    labels = torch.tensor([0, 2])
    torch.testing.assert_close(margin(logits, labels), torch.tensor([-2.0, 3.0]))
    torch.testing.assert_close(
        cross_entropy(logits, labels), -logits.log_softmax(1)[torch.arange(2), labels]
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_large_ball_reaches_every_image(scene: Scene, norm: str) -> None:
    ball = Ball(norm, 0.5 if norm == "linf" else 4.0)  # type: ignore[arg-type]
    steps = Steps(count=30, size=ball.eps / 4)
    for found in (
        pgd(scene.gate, scene.x, scene.y, ball, steps, 0),
        apgd(scene.gate, scene.x, scene.y, ball, 30, 0),
    ):
        assert (outcome(scene.served, found, scene.images).predicted != scene.labels).all()


def test_attacks_stay_in_their_ball_and_follow_their_seed(scene: Scene) -> None:
    ball, steps = Ball("linf", 8 / 255), Steps(count=4, size=2 / 255)

    def attacks(seed: int) -> list[Tensor]:
        return [
            pgd(scene.gate, scene.x, scene.y, ball, steps, seed),
            apgd(scene.gate, scene.x, scene.y, ball, 4, seed),
            selective_pgd(scene.gate, scene.x, scene.y, ball, steps, seed, limit=scene.limit),
        ]

    for first, again, other in zip(attacks(0), attacks(0), attacks(1), strict=True):
        assert outcome(scene.served, first, scene.images).linf.max() <= 8 / 255 + 1e-9
        torch.testing.assert_close(first, again)
        assert (first - other).abs().max() > 0


def test_who_watches_is_told_each_point_and_changes_nothing(scene: Scene) -> None:
    ball, steps = Ball("linf", 8 / 255), Steps(count=4, size=2 / 255)
    told: list[Tensor] = []
    watched = pgd(scene.gate, scene.x, scene.y, ball, steps, 0, watch=told.append)
    torch.testing.assert_close(watched, pgd(scene.gate, scene.x, scene.y, ball, steps, 0))
    assert len(told) == 4
    start = ball.somewhere(scene.x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(told[0], start)
    assert all((after - before).abs().max() > 0 for before, after in pairwise(told))
    assert (watched - told[-1]).abs().max() <= steps.size * 0.1 + 1e-6


def of_other_classes(scene: Scene) -> Tensor:
    """For each image another one, of another class, that the gate lets in."""
    differs = scene.labels != scene.labels[:, None]
    return scene.x[torch.from_numpy(differs.argmax(axis=1))]


@pytest.mark.parametrize("orthogonal", [False, True])
def test_an_attack_that_knows_the_gate_gets_past_it_more_often(
    scene: Scene, orthogonal: bool
) -> None:
    """From an image of another class; and of all where the ball reaches that image."""
    others, evaded = of_other_classes(scene), []
    for eps in (0.6, 1.0):
        ball, steps = Ball("linf", eps), Steps(count=40, size=eps / 4)
        found = selective_pgd(
            scene.gate,
            scene.x,
            scene.y,
            ball,
            steps,
            0,
            limit=scene.limit,
            orthogonal=orthogonal,
            start=others,
        )
        evaded.append(outcome(scene.served, found, scene.images).evades(scene.labels).mean())
        plain = pgd(scene.gate, scene.x, scene.y, ball, steps, 0)
        blind = outcome(scene.served, plain, scene.images).evades(scene.labels).mean()
        assert evaded[-1] > blind
    assert evaded[1] == 1
    assert evaded[0] < 1


def test_an_image_that_is_let_in_goes_no_further(scene: Scene) -> None:
    told: list[Tensor] = []
    found = selective_pgd(
        scene.gate,
        scene.x,
        scene.y,
        Ball("linf", 1.0),
        Steps(count=5, size=0.1),
        0,
        limit=scene.limit,
        watch=told.append,
        start=of_other_classes(scene),
    )
    assert len(told) == 5
    assert outcome(scene.served, found, scene.images).evades(scene.labels).all()
    for at in told[1:]:
        moved = (at - told[1]).abs().amax((1, 2, 3)) > 0
        assert not moved[(told[1] - told[0]).abs().amax((1, 2, 3)) == 0].any()


def test_an_orthogonal_step_leaves_the_other_loss_alone(scene: Scene) -> None:
    x = scene.x[:6].clone().requires_grad_()
    judged = scene.gate(x)
    wrong = torch.tensor([True, False] * 3)
    way = _way(judged.logits, judged.score, scene.y[:6], wrong, x, orthogonal=True)
    again = scene.gate(x)
    loss = gradient(margin(again.logits, scene.y[:6]).double(), x, again=True)
    typical = gradient(again.score, x)
    other = torch.where(wrong[:, None, None, None], loss, typical)
    along = (way * other).flatten(1).sum(1) / (lengths(way) * lengths(other)).flatten()
    assert along.abs().max() < 1e-3


def test_checkpoints_of_auto_pgd_are_the_papers() -> None:
    assert sorted(_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def settings(kappa: float, detection: float = 0.0, searches: int = 6) -> Settings:
    return Settings(kappa=kappa, detection=detection, searches=searches, steps=40, rate=0.1)


def test_carlini_wagner_hits_its_targets_nearby_and_farther_with_more_margin(scene: Scene) -> None:
    """Without a bound on the margin the farthest, by the largest."""
    x, targets = scene.x[:6], (scene.y[:6] + 1) % 10
    sizes, leads = [], []
    for kappa in (0.01, 3.0, math.inf):
        found = carlini_wagner(looks_anyhow(scene.gate), x, targets, settings(kappa))
        assert found.value.isfinite().all()
        logits, _ = scene.gate.look(found.images)
        leads.append(-margin(logits, targets))
        assert (leads[-1] >= min(kappa, 1.0)).all()
        sizes.append(lengths(found.images - x).mean())
    assert sizes[0] < sizes[1] < sizes[2]
    assert leads[2].mean() > leads[1].mean()
    assert sizes[0] < 1


def test_more_searches_find_nearer_images(scene: Scene) -> None:
    x, targets = scene.x[:6], (scene.y[:6] + 1) % 10
    found = [
        carlini_wagner(looks_anyhow(scene.gate), x, targets, settings(1.0, searches=n)).value
        for n in (2, 4, 8)
    ]
    assert (found[1] <= found[0]).all()
    assert (found[2] <= found[1]).all()
    assert found[2].mean() < found[0].mean()


def test_a_black_pixel_may_be_moved(scene: Scene) -> None:
    x = torch.zeros_like(scene.x[:1])
    (label,) = scene.gate.look(x)[0].argmax(1)
    target = ((label + 1) % 10)[None]
    found = carlini_wagner(looks_anyhow(scene.gate), x, target, settings(1.0))
    assert found.value.isfinite().all()
    assert found.images.max() > 1 / 255


def test_what_cannot_be_hit_stays_as_it_was(scene: Scene) -> None:
    def nothing(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([[1.0, 0.0]]).repeat(len(x), 1) + 0 * x.sum(), torch.zeros(len(x))

    x = scene.x[:2]
    found = carlini_wagner(nothing, x, torch.tensor([1, 1]), settings(1.0, searches=2))
    assert found.value.isinf().all()
    torch.testing.assert_close(found.images, x)


def test_a_detection_weight_brings_the_density_nearer(scene: Scene) -> None:
    targets = (scene.y[:6] + 1) % 10
    density = Density.of(scene.gate.calibration, 64)
    away = []
    for weight in (0.0, 1000.0):
        found = carlini_wagner(
            looks_usual(scene.gate), scene.x[:6], targets, settings(math.inf, weight)
        )
        away.append((scene.gate.look(found.images)[1] - density.middle).abs().mean())
    assert away[1] < away[0]


def test_one_who_minds_the_gate_is_found_less_often(scene: Scene) -> None:
    targets = (scene.y[:8] + 1) % 10
    above = []
    for look in (looks_anyhow(scene.gate), looks_let_in(scene.gate, scene.limit)):
        found = carlini_wagner(look, scene.x[:8], targets, settings(1.0, 10.0, searches=8))
        assert found.value.isfinite().all()
        judged = scene.gate(found.images)
        above.append((judged.score - scene.limit[targets]).clamp_min(0).mean())
    assert above[1] < above[0]


def test_square_asks_only_for_answers_and_stays_in_its_ball(scene: Scene) -> None:
    asked: list[int] = []

    def ask(images: UInt8Array) -> object:
        asked.append(len(images))
        return scene.served(images)

    found = square(ask, scene.images, scene.labels, 60, 40, 0)  # type: ignore[arg-type]
    assert len(asked) <= 40
    assert distances(found, scene.images)[1].max() <= 60 / 255
    np.testing.assert_array_equal(
        square(scene.served, scene.images, scene.labels, 60, 40, 0), found
    )
    few = square(scene.served, scene.images, scene.labels, 60, 1, 0)
    wrong = [(scene.served(x).class_index != scene.labels).mean() for x in (few, found)]
    assert wrong[1] >= wrong[0]


def test_strangers_come_nearer_to_what_is_let_in(scene: Scene) -> None:
    images = noise((8, *scene.images.shape[1:]))
    x = torch.from_numpy(images).float() / 255
    found = ood_to_id(
        scene.gate, x, Ball("linf", 0.5), Steps(count=60, size=0.1), 0, limit=scene.limit
    )
    after, before = scene.served(rounded(found)).score, scene.served(images).score
    assert np.median(after) < 0.75 * np.median(before)

"""Explanations against their identities, closed forms and Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from calibration.vector_scaling import VectorScaling
from model import decision_plane as plane
from model.class_similarity import expected_confidence, mean_distances
from model.classifier import ClassifierOutput, GenerativeClassifier
from model.config import FlowConfig, StageConfig
from model.counterfactuals import counterfactuals, prototypes
from model.decision_plane import decision_plane, trajectory
from model.explain import explain
from model.heatmaps import Scaling, class_evidence, pool_of, posterior_heatmaps
from model.precision import full_convolutions
from model.quantize import bin_centres
from service.bundle import Bundle

HAAR = StageConfig(downsample="haar", blocks=2, width=4)
CONFIGS = {
    "full means": FlowConfig(input_shape=(1, 8, 8), n_classes=10, stages=(HAAR,), levels=17),
    "one place, two classes": FlowConfig(
        input_shape=(1, 2, 2),
        n_classes=2,
        stages=(StageConfig(downsample="haar", blocks=1, width=4),),
    ),
    "one class": FlowConfig(input_shape=(1, 4, 4), n_classes=1, stages=(HAAR,)),
    "no couplings": FlowConfig(input_shape=(1, 1, 7), n_classes=3, stages=()),
    "colour, every transform, low-rank means": FlowConfig(
        input_shape=(3, 16, 24),
        n_classes=7,
        stages=(
            StageConfig(downsample="coupling", subnet="entry", blocks=1, width=4),
            StageConfig(downsample="haar", subnet="bottleneck", blocks=2, width=4),
        ),
        means="low-rank",
        means_rank=3,
    ),
}


@pytest.fixture(params=list(CONFIGS.values()), ids=list(CONFIGS))
def classifier(request: pytest.FixtureRequest, float64: None) -> GenerativeClassifier:
    return perturbed(request.param)


def perturbed(config: FlowConfig) -> GenerativeClassifier:
    torch.manual_seed(0)
    classifier = GenerativeClassifier(config)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        classifier.log_prior.copy_(torch.randn(config.n_classes).log_softmax(0))
    return classifier.eval()


def evidence_of(output: ClassifierOutput, classifier: GenerativeClassifier) -> torch.Tensor:
    field = pool_of(classifier).inverse(output.z)[0]
    return class_evidence(field, classifier)


def heatmaps_of(
    output: ClassifierOutput, classifier: GenerativeClassifier, **options: Any
) -> torch.Tensor:
    return posterior_heatmaps(output.logits, evidence_of(output, classifier), **options)


def images(config: FlowConfig, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, *config.input_shape)
    return torch.randint(0, config.levels, shape, generator=generator).to(torch.uint8)


@pytest.mark.parametrize("contrast", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_heatmaps_sum_to_the_log_posterior(
    classifier: GenerativeClassifier, contrast: float, temperature: float
) -> None:
    output = classifier.classify(images(classifier.config))
    found = heatmaps_of(output, classifier, temperature=temperature, contrast=contrast)
    expected = (output.logits / temperature).log_softmax(1)
    torch.testing.assert_close(found.sum((2, 3)), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("contrast", [0.1, 1.0])
def test_heatmaps_sum_to_the_log_of_a_vector_scaled_posterior(
    classifier: GenerativeClassifier, contrast: float
) -> None:
    classes = classifier.config.n_classes
    generator = torch.Generator().manual_seed(0)
    scaling = VectorScaling(
        temperature=3.0,
        weights=(0.5 + torch.rand(classes, generator=generator)).numpy(),
        offsets=torch.randn(classes, generator=generator).numpy(),
    )
    ours = Scaling(
        weights=torch.from_numpy(scaling.weights), offsets=torch.from_numpy(scaling.offsets)
    )
    output = classifier.classify(images(classifier.config))
    scale = output.logits.abs().amax().clamp_min(1)  # keeps log posteriors above their floor
    near = replace(output, logits=10 * output.logits / scale)
    found = posterior_heatmaps(
        near.logits,
        10 * evidence_of(output, classifier) / scale,
        temperature=3.0,
        scaling=ours,
        contrast=contrast,
    )
    expected = np.log(scaling(near.logits.numpy()))
    np.testing.assert_allclose(found.sum((2, 3)).numpy(), expected, rtol=1e-8, atol=1e-8)


def test_evidence_by_place_is_that_of_means_brought_back_into_space(
    classifier: GenerativeClassifier,
) -> None:
    output = classifier.classify(images(classifier.config))
    pool = classifier.flow.steps[-1]
    means = classifier.class_means.of(torch.arange(classifier.config.n_classes))
    m, s = pool.inverse(means)[0], pool.inverse(output.z)[0]
    places = s.shape[2] * s.shape[3]
    direct = -0.5 * (s[:, None] - m[None]).square().sum(2)
    direct += 0.5 * s.square().sum(1, keepdim=True)
    direct += classifier.log_prior[:, None, None] / places
    torch.testing.assert_close(evidence_of(output, classifier), direct, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_map_of_a_sure_class_is_not_lost_in_rounding() -> None:
    """In float32 its places would differ by less than the last bits of what they are made of."""
    classifier = perturbed(CONFIGS["full means"])
    output = classifier.classify(images(classifier.config))
    sure = replace(output, logits=output.logits.clone())
    sure.logits[:, 3] = output.logits.amax(1) + 20
    found = heatmaps_of(sure, classifier)[:, 3].flatten(1)
    others = evidence_of(output, classifier).double()
    weights = sure.logits.double().softmax(1)
    lead = (weights[:, :, None, None] * (others[:, 3:4] - others)).sum(1).flatten(1)
    for ours, exact in zip(found, lead, strict=True):
        assert np.corrcoef(ours, exact)[0, 1] > 0.999


def test_less_contrast_holds_a_class_against_all_and_more_against_the_best() -> None:
    classifier = perturbed(CONFIGS["full means"])
    output = classifier.classify(images(classifier.config))
    evidence = evidence_of(output, classifier)
    top = output.logits.argmax(1)
    for contrast, average in (
        (1e-9, evidence.mean(1)),
        (1e9, evidence[torch.arange(len(top)), top]),
    ):
        found = heatmaps_of(output, classifier, contrast=contrast)
        away = found - (evidence - average[:, None])  # the same number everywhere
        torch.testing.assert_close(away, away[..., :1, :1].expand_as(away), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["temperature", "contrast"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_that_are_no_temperature_are_refused(name: str, value: float) -> None:
    classifier = perturbed(CONFIGS["one class"])
    output = classifier.classify(images(classifier.config))
    with pytest.raises(ValueError, match=f"{name} is {value}: expected a number above 0"):
        heatmaps_of(output, classifier, **{name: value})


def test_salience_sums_to_the_log_density(classifier: GenerativeClassifier) -> None:
    found = explain(classifier, images(classifier.config))
    expected = classifier.classify(images(classifier.config)).log_prob
    torch.testing.assert_close(found.salience.sum((1, 2)), expected, rtol=1e-10, atol=1e-10)


def test_log_determinants_by_place_sum_to_those_of_each_transform(
    classifier: GenerativeClassifier,
) -> None:
    x = bin_centres(images(classifier.config), classifier.config.levels).double()
    for step in classifier.flow.steps:
        z, ladj = step(x)
        again, by_place = step.by_place(x)
        torch.testing.assert_close(again, z)
        torch.testing.assert_close(by_place.sum((1, 2)), ladj, rtol=1e-12, atol=1e-12)
        x = z


def test_a_log_determinant_is_where_its_pixels_are() -> None:
    """A change of one corner changes the log-determinants of couplings near it alone."""
    config = FlowConfig(input_shape=(3, 32, 32), n_classes=2, stages=(HAAR,))
    classifier = perturbed(config)
    x = torch.rand(1, 3, 32, 32)
    moved = x.clone()
    moved[..., :4, :4] += 1
    change = (classifier.flow.by_place(moved)[1] - classifier.flow.by_place(x)[1])[0].abs()
    assert change[:8, :8].sum() > 0
    assert change[8:].max() == change[:, 8:].max() == 0


def test_energy_is_the_mean_square_about_the_predicted_class(
    classifier: GenerativeClassifier,
) -> None:
    found = explain(classifier, images(classifier.config))
    z, top = found.output.z, found.output.logits.argmax(1)
    squares = (z - classifier.class_means.of(top)).square().mean(1)
    torch.testing.assert_close(found.energy.mean((1, 2)), squares)


def test_plane_keeps_distances_to_the_axis_and_between_the_two_first_means(
    classifier: GenerativeClassifier,
) -> None:
    output = classifier.classify(images(classifier.config))
    found = decision_plane(output, classifier)
    classes = min(classifier.config.n_classes, plane.CLASSES)
    assert found.classes.shape == (4, classes)
    assert torch.equal(found.classes, output.logits.topk(classes).indices)
    for i, top in enumerate(found.classes):
        means = classifier.class_means.of(top)
        assert found.means[i, 0].abs().max() == 0
        if classes == 1:
            continue
        axis = (means[1] - means[0]) / (means[1] - means[0]).norm()
        torch.testing.assert_close(found.points[i, 0], (output.z[i] - means[0]) @ axis)
        torch.testing.assert_close(found.means[i, :, 0], (means - means[0]) @ axis)
        away = (means - means[0]) - ((means - means[0]) @ axis)[:, None] * axis
        torch.testing.assert_close(found.means[i, :, 1], away.norm(dim=1), atol=1e-9, rtol=0)


def test_points_of_the_span_keep_their_distance_from_the_axis() -> None:
    classifier = perturbed(CONFIGS["full means"])
    output = classifier.classify(images(classifier.config, 1))
    found = decision_plane(output, classifier)
    means = classifier.class_means.of(found.classes[0]).double()
    z = means.mean(0, keepdim=True)
    (h, rho) = trajectory(z, found.classes[0], classifier)[0]
    expected = (z[0] - means[0]).square().sum()
    torch.testing.assert_close(h**2 + rho**2, expected)


def test_means_on_one_line_leave_nothing_beside_it(float64: None) -> None:
    classifier = perturbed(CONFIGS["full means"])
    with torch.no_grad():
        steps = torch.arange(10.0)[:, None]
        weight = classifier.class_means.get_parameter("weight")
        weight.copy_(steps * weight[1])
    found = decision_plane(classifier.classify(images(classifier.config)), classifier)
    assert found.means[..., 1].abs().max() < 1e-6
    assert found.points[:, 1].abs().max() < 1e-6


def test_logits_meet_at_the_boundary(classifier: GenerativeClassifier) -> None:
    output = classifier.classify(images(classifier.config))
    found = decision_plane(output, classifier)
    if found.classes.shape[1] == 1:
        assert found.boundaries.isinf().all()
        return
    for i, top in enumerate(found.classes):
        means = classifier.class_means.of(top)
        axis = (means[1] - means[0]) / (means[1] - means[0]).norm()
        z = output.z[i] + (found.boundaries[i] - found.points[i, 0]) * axis
        logits = classifier.of_latent(z[None], z.new_zeros(1)).logits[0, top[:2]]
        torch.testing.assert_close(logits[0], logits[1])


def test_radii_hold_their_share() -> None:
    for freedom, radius in enumerate(plane._RADII):
        assert radius**2 == pytest.approx(chi2.ppf(plane.MASS, freedom) if freedom else 0, rel=1e-6)


def test_distances_are_those_of_the_means(classifier: GenerativeClassifier) -> None:
    means = classifier.class_means.of(torch.arange(classifier.config.n_classes))
    torch.testing.assert_close(
        mean_distances(classifier), torch.cdist(means, means), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("distance", [0.5, 1.683, 3.5])
def test_expected_confidence_agrees_with_monte_carlo(distance: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000) + distance * rng.integers(0, 2, 200_000)  # along the means
    odds = distance * x - distance**2 / 2  # of the class at `distance` over that at 0
    loser = np.minimum(1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(odds)))
    found = float(expected_confidence(torch.tensor(distance)))
    assert loser.mean() == pytest.approx(found, abs=5 * loser.std() / np.sqrt(len(x)))


def test_prototypes_are_where_the_class_means_are(classifier: GenerativeClassifier) -> None:
    labels = torch.arange(classifier.config.n_classes)
    z = classifier.flow(prototypes(classifier, labels))[0]
    torch.testing.assert_close(z, classifier.class_means.of(labels), rtol=1e-6, atol=1e-6)


def test_counterfactuals_have_the_odds_that_were_asked_for_and_keep_the_rest() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        classifier = perturbed(CONFIGS["full means"])
    finally:
        torch.set_default_dtype(torch.float32)
    z = classifier.classify(images(classifier.config, 1)).z[0]
    odds = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    moved = classifier.flow(counterfactuals(classifier, z, 3, 7, odds))[0]
    logits = classifier.of_latent(moved, moved.new_zeros(3)).logits
    torch.testing.assert_close(logits[:, 7] - logits[:, 3], odds)
    means = classifier.class_means.of(torch.tensor([3, 7]))
    axis = (means[1] - means[0]) / (means[1] - means[0]).norm()
    rest = moved - z
    torch.testing.assert_close(rest, (rest @ axis)[:, None] * axis, atol=1e-9, rtol=0)


def test_a_class_against_itself_is_refused() -> None:
    classifier = perturbed(CONFIGS["full means"])
    z = classifier.classify(images(classifier.config, 1)).z[0]
    with pytest.raises(ValueError, match="source and target are both class 3"):
        counterfactuals(classifier, z, 3, 3, torch.zeros(1))


def test_identities_hold_for_a_trained_bundle_in_float32() -> None:
    bundle = Bundle.load(Path("bundles/fashion-mnist-4ac1e1"))
    classifier = bundle.checkpoint.classifier
    labels = torch.arange(10)
    drawn = classifier.sample(labels, torch.Generator().manual_seed(0)).clamp(0, 1)
    pixels = (drawn * 255).round().to(torch.uint8)
    found = explain(classifier, pixels)
    logits = found.output.logits
    allowed = 1e-4 * logits.abs().amax().clamp_min(1)
    assert (found.heatmaps.sum((2, 3)) - logits.log_softmax(1)).abs().max() <= allowed
    density = classifier.classify(pixels).log_prob
    torch.testing.assert_close(found.salience.sum((1, 2)), density, rtol=1e-5, atol=1e-2)


def test_what_low_rank_means_remember_follows_their_weights() -> None:
    classifier = perturbed(CONFIGS["colour, every transform, low-rank means"])
    means, pool = classifier.class_means, pool_of(classifier)
    with torch.no_grad():
        before = means.square_norm_by_place(pool)
        assert means.square_norm_by_place(pool) is before
        means.get_parameter("coordinates").mul_(2)
        after = means.square_norm_by_place(pool)
        torch.testing.assert_close(after.sum((1, 2)), means.square_norm())
    assert (after - before).abs().max() > 0


def test_tf32_is_off_while_anybody_is_inside() -> None:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        first, second = full_convolutions(), full_convolutions()
        with first:
            second.__enter__()
            assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        second.__exit__(None, None, None)
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before

"""The classifier's formulas, held against distributions of torch and against brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from model.classifier import GenerativeClassifier, bits_per_dim
from model.config import FlowConfig, StageConfig

K = 3
CONFIG = FlowConfig(
    input_shape=(1, 4, 4),
    n_classes=K,
    stages=(StageConfig(downsample="haar", blocks=2, width=4),),
    levels=17,
)


@pytest.fixture
def model(float64: None) -> GenerativeClassifier:
    """Double precision, with parameters and prior away from their start."""
    torch.manual_seed(0)
    classifier = GenerativeClassifier(CONFIG).eval()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        classifier.log_prior.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    return classifier


@pytest.fixture
def images(model: GenerativeClassifier) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(5, 1, 4, 4)


def all_means(model: GenerativeClassifier) -> Tensor:
    return model.class_means.of(torch.arange(model.config.n_classes))


def log_joint(model: GenerativeClassifier, x: Tensor) -> Tensor:
    """log p(x, y) (B, K) term by term: a Gaussian a class, the Jacobian, the prior."""
    z, ladj = model.flow(x)
    columns = [
        Normal(mean, 1.0).log_prob(z).sum(1) + ladj + prior
        for mean, prior in zip(all_means(model), model.log_prior, strict=True)
    ]
    return torch.stack(columns, dim=1)


def test_log_prob_is_the_mixture(model: GenerativeClassifier, images: Tensor) -> None:
    expected = log_joint(model, images).logsumexp(1)
    torch.testing.assert_close(model(images).log_prob, expected)


def test_posterior_is_bayes_rule(model: GenerativeClassifier, images: Tensor) -> None:
    joint = log_joint(model, images).exp()
    expected = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(model(images).logits.softmax(1), expected)


def test_logits_differ_from_log_joint_by_a_constant(
    model: GenerativeClassifier, images: Tensor
) -> None:
    difference = model(images).logits - log_joint(model, images)
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, K))


def test_the_density_integrates_to_one(float64: None) -> None:
    """Two pixels on a grid wide enough to hold all the mass."""
    torch.manual_seed(0)
    config = FlowConfig(input_shape=(1, 1, 2), n_classes=2, stages=(), mu_init=3.0)
    classifier = GenerativeClassifier(config)
    step = 0.05
    axis = torch.arange(-8, 8, step) + step / 2
    grid = torch.cartesian_prod(axis, axis).reshape(-1, 1, 1, 2)
    total = classifier(grid).log_prob.exp().sum() * step**2
    torch.testing.assert_close(total, torch.tensor(1.0), atol=1e-6, rtol=0)


def test_the_density_follows_a_change_of_variables(float64: None) -> None:
    """Pixels ten times as small are ten times as dense, in each dimension."""
    config = FlowConfig(input_shape=(1, 2, 2), n_classes=2, stages=())
    classifier = GenerativeClassifier(config)
    x = torch.rand(3, 1, 2, 2)
    plain = classifier(x).log_prob
    classifier.flow.get_buffer("transforms.0.std").fill_(0.1)
    torch.testing.assert_close(classifier(x / 10).log_prob, plain + 4 * math.log(10))


def test_gradients_reach_every_parameter(model: GenerativeClassifier, images: Tensor) -> None:
    model(images).log_prob.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("shape", "classes"), [((1, 4, 4), 3), ((3, 8, 8), 10), ((1, 2, 2), 4)])
@pytest.mark.parametrize("mu_init", [3.5, 5.0])
def test_class_means_are_equidistant(
    float64: None, shape: tuple[int, int, int], classes: int, mu_init: float
) -> None:
    config = FlowConfig(input_shape=shape, n_classes=classes, stages=(), mu_init=mu_init)
    means = all_means(GenerativeClassifier(config)).detach()
    distances = torch.cdist(means, means)
    expected = mu_init * (1 - torch.eye(classes))
    torch.testing.assert_close(distances, expected, atol=1e-6, rtol=0)


def test_bits_per_dim_of_the_contract() -> None:
    """D = 784, 256 levels: 4.19 bits/dim is a log_prob of 2070 nats."""
    config = FlowConfig(input_shape=(1, 28, 28), n_classes=10, stages=())
    assert bits_per_dim(2070, config) == pytest.approx(4.19, abs=0.005)
    assert bits_per_dim(0, config) == 8


def test_bits_per_dim_is_the_code_length_of_a_bin() -> None:
    """A uniform density on [0, 1]^D costs log2(levels) bits a pixel; half the volume, one less."""
    assert bits_per_dim(0.0, CONFIG) == math.log2(17)
    assert bits_per_dim(16 * math.log(2), CONFIG) == pytest.approx(math.log2(17) - 1)


def test_samples_follow_their_seed(model: GenerativeClassifier) -> None:
    labels = torch.tensor([0, 1, 2, 2])
    first, again = (model.sample(labels, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (4, 1, 4, 4)
    assert torch.equal(first, again)
    z, _ = model.flow(first)
    noise = z - all_means(model)[labels]
    drawn = torch.randn(noise.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(noise, drawn)

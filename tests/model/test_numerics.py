"""Float32 at D = 150,528 against float64, and what autocast must leave alone.

At this size log-densities are some 2e5 nats, where neighbouring float32 numbers are 0.016 apart,
while a verdict turns on hundredths. So sums are in float64, and distances never subtracted.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from model.class_means import FullMeans, LowRankMeans
from model.classifier import GenerativeClassifier, bits_per_dim
from model.config import FlowConfig, StageConfig
from model.couplings import AffineCoupling
from model.transforms import Compose

K, D = 1000, 150_528
#: Downsampling alone, which is orthonormal: the head of the ImageNet network without its body.
HEAD = FlowConfig(
    input_shape=(3, 224, 224),
    n_classes=K,
    stages=(StageConfig(downsample="haar", blocks=0, width=1),) * 5,
    means="low-rank",
    mu_init=3.5,
)
TINY = FlowConfig(
    input_shape=(3, 8, 8),
    n_classes=5,
    stages=(StageConfig(downsample="haar", blocks=2, width=4),),
    means="low-rank",
    means_rank=3,
)


@pytest.fixture(scope="module")
def head() -> GenerativeClassifier:
    """With class means as far apart as trained ones: |mu| about 34."""
    classifier = GenerativeClassifier(HEAD).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        low_rank_means(classifier).coordinates.normal_(0, 3, generator=generator)
    return classifier


@pytest.fixture(scope="module")
def exact(head: GenerativeClassifier) -> GenerativeClassifier:
    """The same in float64."""
    return copy.deepcopy(head).double()


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.tensor([3, 500, 999])


@pytest.fixture(scope="module")
def z(head: GenerativeClassifier, labels: Tensor) -> Tensor:
    """Latent codes as the model has them: N(mu_y, 1)."""
    noise = torch.randn((len(labels), D), generator=torch.Generator().manual_seed(1))
    return (head.class_means.of(labels) + noise).detach()


def low_rank_means(classifier: GenerativeClassifier) -> LowRankMeans:
    means = classifier.class_means
    assert isinstance(means, LowRankMeans)
    return means


def tiny(seed: int = 0) -> GenerativeClassifier:
    """All weights away from their start."""
    classifier = GenerativeClassifier(TINY)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return classifier


def log_posterior_error(found: Tensor, exact: Tensor) -> float:
    """Largest difference of log p(y | x), nats."""
    return (found.double().log_softmax(1) - exact.log_softmax(1)).abs().max().item()


@torch.no_grad()
def test_logits_are_exact_to_a_thousandth(
    head: GenerativeClassifier, exact: GenerativeClassifier, z: Tensor
) -> None:
    found, expected = (
        m.class_means.inner(v) - 0.5 * m.class_means.square_norm()
        for m, v in ((head, z), (exact, z.double()))
    )
    assert found.dtype == torch.float32
    assert log_posterior_error(found, expected) < 1e-3


@torch.no_grad()
def test_distances_would_not_be(
    head: GenerativeClassifier, exact: GenerativeClassifier, z: Tensor, labels: Tensor
) -> None:
    """Why logits are not -|z - mu_y|^2 / 2: hundredths of a nat are lost in float32."""
    classes = torch.cat([labels, torch.arange(40, 80)])
    means = head.class_means.of(classes)
    naive = torch.stack([-0.5 * (z - mean).square().sum(1) for mean in means], dim=1)
    exact_logits = exact.class_means.inner(z.double()) - 0.5 * exact.class_means.square_norm()
    assert log_posterior_error(naive, exact_logits[:, classes]) > 1e-2


@torch.no_grad()
def test_log_prob_is_exact_to_a_hundredth_of_a_nat(
    head: GenerativeClassifier, exact: GenerativeClassifier, z: Tensor
) -> None:
    """Of 2e5 nats: a relative error of 5e-8, below one float32 step."""
    x = head.flow.inverse(z)[0]
    found, expected = head(x), exact(x.double())
    assert found.log_prob.dtype == torch.float64
    assert expected.log_prob.abs().min() > 2e5
    torch.testing.assert_close(found.log_prob, expected.log_prob, rtol=0, atol=1e-2)


class Given(nn.Module):
    """A network inside a coupling whose answer is known."""

    def __init__(self, raw: Tensor) -> None:
        super().__init__()
        self.register_buffer("raw", raw)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_buffer("raw").expand(len(x), -1, -1, -1)


@torch.no_grad()
def test_log_determinants_add_up() -> None:
    """1e5 nats from 18 couplings of 48@56: float32 within one, float64 across."""
    generator = torch.Generator().manual_seed(2)
    couplings = [
        AffineCoupling(
            48, Given(0.1 + 0.3 * torch.randn((1, 48, 56, 56), generator=generator)), clamp=0.7
        )
        for _ in range(18)
    ]
    x = torch.randn((2, 48, 56, 56), generator=generator)
    _, ladj = Compose(couplings)(x)
    scales = [coupling.conditioner(x[:, :24])[0] for coupling in couplings]
    expected = torch.stack([scale.double().sum((1, 2, 3)) for scale in scales]).sum(0)
    assert ladj.dtype == torch.float64
    assert expected.min() > 1e5
    torch.testing.assert_close(ladj, expected, rtol=0, atol=0.02)


@torch.no_grad()
def test_the_fixed_scaling_of_imagenet(
    head: GenerativeClassifier, exact: GenerativeClassifier, z: Tensor
) -> None:
    """One number, 2.2e5 nats, that each image's log-determinant contains."""
    std = torch.tensor([0.229, 0.224, 0.225])
    scaled = copy.deepcopy(head.flow.steps[0])
    scaled.get_buffer("std").copy_(std)
    ladj = scaled(torch.zeros(1, 3, 224, 224))[1]
    expected = -224 * 224 * std.double().log().sum()
    assert expected > 2.2e5
    assert ladj.item() == pytest.approx(expected.item(), abs=0.02)


@torch.no_grad()
def test_bits_per_dim_of_a_gaussian() -> None:
    """x ~ N(0, 1) under the identity: log2(256) + log2(2 pi e) / 2 bits, and exactly by sample."""
    config = FlowConfig(input_shape=(3, 224, 224), n_classes=1, stages=HEAD.stages)
    classifier = GenerativeClassifier(config)
    next(classifier.class_means.parameters()).zero_()
    x = torch.randn((1, 3, 224, 224), generator=torch.Generator().manual_seed(3))
    found = bits_per_dim(classifier(x).log_prob.item(), config)
    energy = x.double().square().mean().item()
    nats = 0.5 * math.log(2 * math.pi) + 0.5 * energy
    assert found == pytest.approx(8 + nats / math.log(2), abs=1e-7)
    assert found == pytest.approx(8 + 0.5 * math.log2(2 * math.pi * math.e), abs=0.02)


@pytest.mark.parametrize("grad", [False, True])
def test_autocast_leaves_the_head_alone(head: GenerativeClassifier, z: Tensor, grad: bool) -> None:
    """Pooling, inner products, |mu|^2 and sums: the same bits, also where |mu|^2 is not cached."""
    with torch.set_grad_enabled(grad):
        x = head.flow.inverse(z)[0]
        plain = copy.deepcopy(head)(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = copy.deepcopy(head)(x)
            back = head.flow.inverse(z)[0]
    for name in ("z", "logits", "log_prob", "ladj"):
        assert torch.equal(getattr(plain, name), getattr(cast, name)), name
    assert torch.equal(back, x)


@torch.no_grad()
def test_autocast_lowers_the_networks_inside_couplings_alone() -> None:
    classifier = tiny()
    x = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(4))
    plain = classifier(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = classifier(x)
    assert (cast.z.dtype, cast.logits.dtype) == (torch.float32, torch.float32)
    assert (cast.ladj.dtype, cast.log_prob.dtype) == (torch.float64, torch.float64)
    assert not torch.equal(plain.z, cast.z), "bfloat16 was not in use"
    torch.testing.assert_close(plain.z, cast.z, rtol=0, atol=0.1)
    means = classifier.class_means
    expected = means.inner(cast.z) - 0.5 * means.square_norm() + classifier.log_prior
    assert torch.equal(cast.logits, expected)


@torch.no_grad()
def test_low_rank_means_are_the_means_they_stand_for(float64: None) -> None:
    low_rank = low_rank_means(tiny())
    mu = low_rank.of(torch.arange(TINY.n_classes))
    full = FullMeans(TINY)
    full.weight.copy_(mu)
    z = torch.randn((4, TINY.dim), generator=torch.Generator().manual_seed(5))
    assert mu.shape == (TINY.n_classes, TINY.dim)
    torch.testing.assert_close(low_rank.inner(z), full.inner(z))
    torch.testing.assert_close(low_rank.square_norm(), full.square_norm())
    torch.testing.assert_close(mu[:, 12:], low_rank.coordinates @ low_rank.basis)
    assert torch.linalg.matrix_rank(mu[:, 12:]) == TINY.means_rank


def materialised(means: LowRankMeans) -> Tensor:
    return means.of(torch.arange(TINY.n_classes)).square().sum(1)


@pytest.mark.parametrize("name", ["pooled", "coordinates", "basis"])
@torch.no_grad()
def test_a_known_square_norm_follows_each_weight(name: str) -> None:
    means = low_rank_means(tiny())
    before = means.square_norm()
    assert means.square_norm() is before
    means.get_parameter(name).mul_(1.5)
    after = means.square_norm()
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, materialised(means))


@torch.no_grad()
def test_a_known_square_norm_follows_other_weights() -> None:
    means, other = low_rank_means(tiny()), low_rank_means(tiny(seed=1))
    means.square_norm()
    means.load_state_dict(other.state_dict())
    torch.testing.assert_close(means.square_norm(), other.square_norm())
    means.load_state_dict(low_rank_means(tiny(seed=2)).state_dict(), assign=True)
    torch.testing.assert_close(means.square_norm(), materialised(means))
    means.double()
    assert means.square_norm().dtype == torch.float64
    torch.testing.assert_close(means.square_norm(), materialised(means))


def test_a_known_square_norm_follows_the_optimiser() -> None:
    means = low_rank_means(tiny())
    optimizer = torch.optim.AdamW(means.parameters(), lr=0.1)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(means.square_norm(), materialised(means))
        optimizer.zero_grad()
        means.square_norm().sum().backward()
        assert all(p.grad is not None for p in means.parameters())
        optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(means.square_norm(), materialised(means))

"""What single transforms promise beyond the laws of all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import FlowConfig, StageConfig
from model.couplings import AffineCoupling
from model.dct import dct_matrix
from model.flow import build_flow
from model.transforms import (
    ActNorm,
    DctPool,
    HaarDownsample,
    Normalize,
    Permutation,
)

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8])
def test_dct_matrix_is_orthonormal(n: int) -> None:
    matrix = torch.from_numpy(dct_matrix(n))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n))


@pytest.mark.parametrize("transform", [HaarDownsample(), DctPool(3, 4, 6).double()])
def test_orthonormal_transforms_keep_lengths(transform: HaarDownsample | DctPool) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 6)
    z, ladj = transform.double()(x)
    torch.testing.assert_close(z.square().flatten(1).sum(1), x.square().flatten(1).sum(1))
    assert torch.equal(ladj, torch.zeros(5))


def test_dct_puts_the_channel_means_first() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6)
    z, _ = DctPool(3, 4, 6)(x)
    torch.testing.assert_close(z[:, :3], math.sqrt(4 * 6) * x.mean(dim=(2, 3)))


def test_dct_is_frequency_major() -> None:
    """A pure cosine of frequency (u, v) in channel c fills entry (u W + v) C + c alone."""
    channels, height, width, u, v, c = 2, 4, 3, 2, 1, 1
    x = torch.zeros(1, channels, height, width)
    x[0, c] = torch.from_numpy(np.outer(dct_matrix(height)[u], dct_matrix(width)[v]))
    z, _ = DctPool(channels, height, width)(x)
    expected = torch.zeros(1, x.numel())
    expected[0, (u * width + v) * channels + c] = 1
    torch.testing.assert_close(z, expected)


def test_haar_orders_average_then_differences() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    z, _ = HaarDownsample()(x)
    torch.testing.assert_close(z.flatten(), torch.tensor([5.5, -1.5, -2.5, 0.5]))


def test_permutation_has_nothing_to_learn() -> None:
    permutation = Permutation(torch.tensor([1, 0]))
    assert not list(permutation.parameters())
    assert permutation.state_dict()["index"].dtype == torch.int64


@pytest.mark.parametrize("index", [[0, 0], [1, 2], [0, -1]])
def test_permutation_refuses_what_is_none(index: list[int]) -> None:
    with pytest.raises(ValueError, match="not a permutation"):
        Permutation(torch.tensor(index))


@pytest.mark.parametrize("transform", [ActNorm(3), Normalize(3)])
def test_initialise_standardises_the_batch(transform: ActNorm | Normalize) -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 3, 4, 4) * torch.tensor([1.0, 5.0, 0.1])[:, None, None] + 7
    z = transform.double().initialise(x)
    std, mean = torch.std_mean(z, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-9, rtol=0)
    torch.testing.assert_close(std, torch.ones(3))
    torch.testing.assert_close(transform.inverse(z)[0], x)


@pytest.mark.parametrize("transform", [ActNorm(1), Normalize(1)])
def test_initialise_survives_a_constant_channel(transform: ActNorm | Normalize) -> None:
    x = torch.full((4, 1, 2, 2), 0.5)
    z = transform.double().initialise(x)
    assert z.isfinite().all()
    torch.testing.assert_close(transform.inverse(z)[0], x)


def test_the_scale_of_a_coupling_is_clamped() -> None:
    def enormous(x1: Tensor) -> Tensor:
        return torch.full((len(x1), 2, *x1.shape[2:]), 1e6)

    subnet = torch.nn.Module()
    subnet.forward = enormous
    coupling = AffineCoupling(2, subnet, clamp=0.7)
    _, ladj = coupling(torch.rand(1, 2, 3, 3))
    torch.testing.assert_close(ladj, torch.tensor([0.7 * 9]))


def test_a_new_flow_is_the_identity_up_to_an_orthonormal_map() -> None:
    """Zero-initialised couplings: invertible from the first step."""
    stage = StageConfig(downsample="haar", blocks=3, width=4)
    flow = build_flow(FlowConfig(input_shape=(1, 8, 8), n_classes=2, stages=(stage, stage)))
    torch.manual_seed(0)
    x = torch.rand(2, 1, 8, 8)
    z, ladj = flow(x)
    torch.testing.assert_close(z.square().sum(1), x.square().flatten(1).sum(1))
    torch.testing.assert_close(ladj, torch.zeros(2))


def test_a_seed_decides_weights_and_permutations() -> None:
    def state(seed: int) -> dict[str, Tensor]:
        stage = StageConfig(downsample="haar", blocks=4, width=4)
        config = FlowConfig(input_shape=(3, 4, 4), n_classes=2, stages=(stage,), seed=seed)
        return build_flow(config).state_dict()

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = state(0), state(0), state(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_grey_images_need_a_haar_stage_first() -> None:
    haar = StageConfig(blocks=1, width=4, downsample="haar")
    assert FlowConfig(input_shape=(1, 4, 4), n_classes=2, stages=(haar,)).pooled_channels == 4
    for stage in (
        StageConfig(blocks=1, width=4),
        StageConfig(blocks=0, width=4, downsample="coupling"),
    ):
        with pytest.raises(ValueError, match="put a 'haar' stage"):
            FlowConfig(input_shape=(1, 4, 4), n_classes=2, stages=(stage, haar))

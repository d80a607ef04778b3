"""Laws that every transform keeps, in double precision on tiny images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.config import FlowConfig, StageConfig, Subnet
from model.couplings import AffineCoupling, DownsamplingCoupling
from model.flow import build_flow
from model.subnets import build_subnet
from model.transforms import (
    ActNorm,
    Compose,
    DctPool,
    HaarDownsample,
    Normalize,
    Permutation,
    Transform,
)

Shape = tuple[int, int, int]
HAAR = StageConfig(downsample="haar", blocks=2, width=4)
PLAIN = StageConfig(blocks=2, width=4)

pytestmark = pytest.mark.usefixtures("float64")


def coupling(channels: int) -> AffineCoupling:
    active = channels - channels // 2
    subnet = build_subnet("conv", channels // 2, 2 * active, 4, dropout=0.0)
    return AffineCoupling(channels, subnet, clamp=0.7)


def downsampling(channels: int, kind: Subnet) -> DownsamplingCoupling:
    passive, active = channels // 2, channels - channels // 2
    down = build_subnet(kind, passive, 8 * active, 4, dropout=0.0, stride=2)
    low = build_subnet(kind, 4 * active, 8 * passive, 4, dropout=0.0)
    return DownsamplingCoupling(channels, down, low, clamp=0.7)


def composed() -> Compose:
    rotation = Permutation(torch.tensor([2, 0, 3, 1]))
    return Compose([HaarDownsample(), coupling(4), ActNorm(4), rotation, coupling(4)])


def flow(shape: Shape, *stages: StageConfig) -> Callable[[], Transform]:
    return lambda: build_flow(FlowConfig(input_shape=shape, n_classes=2, stages=stages))


#: name -> (how to build it, the shape of one image)
TRANSFORMS: dict[str, tuple[Callable[[], Transform], Shape]] = {
    "normalize": (lambda: Normalize(3), (3, 4, 2)),
    "actnorm": (lambda: ActNorm(3), (3, 4, 2)),
    "coupling": (lambda: coupling(4), (4, 4, 2)),
    "coupling, odd channels": (lambda: coupling(3), (3, 2, 4)),
    "downsampling coupling": (lambda: downsampling(2, "conv"), (2, 4, 4)),
    "downsampling coupling, odd channels": (lambda: downsampling(3, "bottleneck"), (3, 4, 2)),
    "permutation": (lambda: Permutation(torch.tensor([2, 0, 1])), (3, 2, 4)),
    "haar": (HaarDownsample, (1, 4, 6)),
    "haar, RGB": (HaarDownsample, (3, 4, 2)),
    "dct": (lambda: DctPool(2, 3, 5), (2, 3, 5)),
    "compose": (composed, (1, 4, 8)),
    "flow, grey": (flow((1, 8, 8), HAAR, HAAR), (1, 8, 8)),
    "flow, RGB": (flow((3, 4, 4), PLAIN, HAAR), (3, 4, 4)),
    "flow, every subnet": (
        flow(
            (3, 8, 8),
            StageConfig(downsample="coupling", subnet="entry", blocks=0, width=4),
            StageConfig(downsample="haar", subnet="pointwise", blocks=1, width=4),
            StageConfig(downsample="coupling", subnet="bottleneck", blocks=1, width=4),
        ),
        (3, 8, 8),
    ),
    "flow, not square": (flow((1, 8, 4), HAAR), (1, 8, 4)),
    "flow, no blocks": (flow((1, 3, 5)), (1, 3, 5)),
}


@pytest.fixture(params=TRANSFORMS)
def case(request: pytest.FixtureRequest) -> tuple[Transform, Tensor]:
    """A transform with parameters away from their zero start, and a batch for it."""
    build, shape = TRANSFORMS[request.param]
    torch.manual_seed(0)
    transform = build().eval()
    perturb(transform)
    return transform, torch.rand(3, *shape)


def perturb(transform: nn.Module) -> None:
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in transform.named_buffers():
            if name.endswith(("mean", "std")):
                buffer.add_(torch.rand_like(buffer))


def test_inverse_undoes_forward(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    z, ladj = transform(x)
    back, inverse_ladj = transform.inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_ladj, -ladj)


def test_forward_undoes_inverse(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    z = torch.randn_like(transform(x)[0])
    torch.testing.assert_close(transform(transform.inverse(z)[0])[0], z)


def test_shapes_and_size_are_kept(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    z, ladj = transform(x)
    assert z.numel() == x.numel()
    assert ladj.shape == (3,)
    assert z.dtype == ladj.dtype == torch.float64


def jacobian(direction: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """d direction(at) / d at, of one sample, as a square matrix."""
    rows = torch.autograd.functional.jacobian(lambda v: direction(v[None])[0], at)
    return torch.as_tensor(rows).reshape(at.numel(), at.numel())


def test_claimed_ladj_is_that_of_the_jacobian(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    _, ladj = transform(x)
    for i in range(len(x)):
        matrix = jacobian(lambda v: transform(v)[0], x[i])
        torch.testing.assert_close(ladj[i], torch.linalg.slogdet(matrix).logabsdet)


def test_claimed_ladj_of_the_inverse(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    z = torch.randn_like(transform(x)[0])
    _, ladj = transform.inverse(z)
    matrix = jacobian(lambda v: transform.inverse(v)[0], z[0])
    torch.testing.assert_close(ladj[0], torch.linalg.slogdet(matrix).logabsdet)


def test_gradients_reach_input_and_every_parameter(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    z, ladj = transform(x.requires_grad_())
    (z.pow(3).sum() + ladj.sum()).backward()
    assert x.grad is not None
    for name, parameter in transform.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_input_is_left_alone(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    before = x.clone()
    z, _ = transform(x)
    latent = z.detach().clone()
    transform.inverse(z)
    assert torch.equal(x, before)
    assert torch.equal(z, latent)


def test_a_sample_does_not_see_its_batch(case: tuple[Transform, Tensor]) -> None:
    transform, x = case
    z, ladj = transform(x)
    extreme = torch.cat([x[1:2], torch.full_like(x[:1], 1e6), torch.zeros_like(x[:1])])
    again, ladj_again = transform(extreme)
    torch.testing.assert_close(again[0], z[1])
    torch.testing.assert_close(ladj_again[0], ladj[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_state_dict_round_trip(name: str) -> None:
    build, shape = TRANSFORMS[name]
    torch.manual_seed(1)
    saved, fresh = build().eval(), build().eval()
    perturb(saved)
    fresh.load_state_dict(saved.state_dict())
    x = torch.rand(2, *shape)
    for one, other in zip(saved(x), fresh(x), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(saved.inverse(saved(x)[0]), fresh.inverse(saved(x)[0]), strict=True):
        assert torch.equal(one, other)

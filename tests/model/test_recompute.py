"""Backpropagation by inversion gives what the ordinary one gives, in memory that depth leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from model.config import FlowConfig, StageConfig
from model.flow import build_flow
from model.transforms import Compose, Transform, Transformed
from tests.bench.memory import LiveBytes, activation_memory, growth

Loss = Callable[[Tensor, Tensor], Tensor]

STAGES: dict[str, tuple[StageConfig, ...]] = {
    "conv": (StageConfig(downsample="haar", blocks=2, width=4),),
    "no downsampling": (StageConfig(blocks=2, width=4),),
    "downsampling couplings": (
        StageConfig(downsample="coupling", subnet="entry", blocks=1, width=4),
        StageConfig(downsample="haar", subnet="pointwise", blocks=1, width=4),
        StageConfig(downsample="coupling", subnet="bottleneck", blocks=1, width=4),
    ),
    "fixed transforms only": (StageConfig(downsample="haar", blocks=0, width=4),),
}

LOSSES: dict[str, Loss] = {
    "z": lambda z, _: z.pow(3).sum(),
    "ladj": lambda _, ladj: ladj.pow(2).sum(),
    "both": lambda z, ladj: z.pow(3).sum() + ladj.pow(2).sum(),
}


def flow(kind: str = "conv", dropout: float = 0.0) -> Compose:
    """Training mode, parameters away from their zero start."""
    config = FlowConfig(input_shape=(3, 8, 8), n_classes=2, dropout=dropout, stages=STAGES[kind])
    built = build_flow(config).train()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def images() -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def results(flow: Compose, x: Tensor, recompute: bool, loss: Loss = LOSSES["both"]) -> list[Tensor]:
    """z, ladj, the next random numbers, then the gradients that there are (NaN where none)."""
    flow.recompute = recompute
    flow.zero_grad(set_to_none=True)
    x = x.detach().clone().requires_grad_(x.requires_grad)
    torch.manual_seed(2)
    z, ladj = flow(x)
    value = loss(z, ladj)
    if value.requires_grad:
        value.backward()
    sources = [x, *flow.parameters()]
    none = torch.tensor(torch.nan)
    gradients = [none if s.grad is None else s.grad.clone() for s in sources]
    return [z, ladj, torch.rand(3), *gradients]


def assert_agreement(flow: Compose, x: Tensor, rtol: float, loss: Loss = LOSSES["both"]) -> None:
    """Values and random stream to the bit, each gradient to ``rtol`` of its largest entry."""
    ordinary, recomputed = (results(flow, x, recompute, loss) for recompute in (False, True))
    for one, other in zip(ordinary[:3], recomputed[:3], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(ordinary[3:], recomputed[3:], strict=True):
        largest = one.nan_to_num().abs().max().item()
        torch.testing.assert_close(other, one, rtol=0, atol=rtol * largest, equal_nan=True)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", STAGES)
def test_gradients_agree(kind: str, loss: str, dropout: float) -> None:
    assert_agreement(flow(kind, dropout), images().requires_grad_(), 1e-9, LOSSES[loss])


@pytest.mark.usefixtures("float64")
def test_gradients_agree_where_the_input_needs_none() -> None:
    assert_agreement(flow("downsampling couplings", dropout=0.5), images(), 1e-9)


@pytest.mark.parametrize("kind", STAGES)
def test_gradients_are_close_in_single_precision(kind: str) -> None:
    assert_agreement(flow(kind, dropout=0.5), images().requires_grad_(), 1e-4)


def test_gradients_are_close_under_autocast() -> None:
    def in_bfloat16(recompute: bool) -> list[Tensor]:
        tested.recompute = recompute
        tested.zero_grad(set_to_none=True)
        torch.manual_seed(2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z, ladj = tested(images())
        LOSSES["both"](z, ladj).backward()
        return [z, ladj, *(p.grad for p in tested.parameters() if p.grad is not None)]

    tested = flow(dropout=0.5)
    ordinary, recomputed = in_bfloat16(False), in_bfloat16(True)
    full_precision = results(tested, images(), recompute=False)
    assert torch.equal(ordinary[0], recomputed[0])
    assert not torch.equal(ordinary[0], full_precision[0])  # autocast was at work
    for one, other in zip(ordinary[1:], recomputed[1:], strict=True):
        assert other.dtype == one.dtype
        torch.testing.assert_close(other, one, rtol=0, atol=0.02 * one.abs().max().item())


def test_backward_inside_autocast() -> None:
    tested = flow()
    tested.recompute = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        LOSSES["both"](*tested(images())).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tested.parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("frozen", ["first half", "last half", "weights", "all"])
def test_frozen_parameters(frozen: str) -> None:
    tested = flow("downsampling couplings")
    named = list(tested.named_parameters())
    for i, (name, parameter) in enumerate(named):
        first = 2 * i < len(named)
        left_out = {"first half": first, "last half": not first, "all": True}
        parameter.requires_grad_(not left_out.get(frozen, name.endswith("weight")))
    assert_agreement(tested, images(), 1e-9)
    assert_agreement(tested, images().requires_grad_(), 1e-9)


@pytest.mark.usefixtures("float64")
def test_hooks_of_parameters_run_once() -> None:
    tested = flow()
    for parameter in tested.parameters():
        parameter.register_hook(lambda gradient: 3 * gradient)
    assert_agreement(tested, images(), 1e-9)


@pytest.mark.usefixtures("float64")
def test_gradients_accumulate() -> None:
    tested = flow()
    once = results(tested, images(), recompute=True)[4:]
    z, ladj = tested(images())
    LOSSES["both"](z, ladj).backward()
    for gradient, parameter in zip(once, tested.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


@pytest.mark.usefixtures("float64")
def test_a_retained_graph_gives_the_same_again() -> None:
    tested = flow()
    tested.recompute = True
    loss = LOSSES["both"](*tested(images()))
    parameters = list(tested.parameters())
    first = torch.autograd.grad(loss, parameters[-2:], retain_graph=True)  # leaves half way
    every = torch.autograd.grad(loss, parameters, retain_graph=True)
    again = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(every, again, rtol=0, atol=0)
    torch.testing.assert_close(first, every[-2:], rtol=0, atol=0)


@pytest.mark.usefixtures("float64")
def test_a_recomputing_flow_inside_another() -> None:
    inner = flow(dropout=0.5)
    inner.recompute = True
    assert_agreement(Compose([inner]).train(), images().requires_grad_(), 1e-9)


def test_second_derivatives_are_refused() -> None:
    tested = flow()
    tested.recompute = True
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES["both"](*tested(x)), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@contextmanager
def changed_between(tensor: Tensor) -> Iterator[None]:
    with torch.no_grad():
        tensor.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        yield


def test_changes_in_place_are_noticed() -> None:
    tested = flow()
    tested.recompute = True
    z, ladj = tested(images())
    with changed_between(next(tested.parameters())):
        (z.sum() + ladj.sum()).backward()
    z, ladj = tested(images())
    with changed_between(z):
        (z.sum() + ladj.sum()).backward()


class Passes(Transform):
    """The identity, counting."""

    def __init__(self) -> None:
        super().__init__()
        self.inversions = 0

    def forward(self, x: Tensor) -> Transformed:
        return x * 1, x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Transformed:
        self.inversions += 1
        return z * 1, z.new_zeros(len(z))


def inversions(flow: Compose, x: Tensor) -> int:
    passes = Passes()
    composed = Compose([passes, flow]).train(flow.training)
    composed.recompute = True
    z, _ = composed(x)
    if z.requires_grad:
        z.sum().backward()
    return passes.inversions


def test_only_training_with_gradients_recomputes() -> None:
    x = images().requires_grad_()
    assert inversions(flow(), x) == 1
    assert inversions(flow().eval(), x) == 0
    with torch.no_grad():
        assert inversions(flow(), x) == 0


def test_dropout_off_draws_nothing() -> None:
    tested = flow(dropout=0.5)
    for module in tested.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()
    assert_agreement(tested, images(), 1e-4)


def test_the_meter_counts_storages_not_views() -> None:
    before, meter = torch.ones(50), LiveBytes()
    with meter:
        before.add_(1)
        first = before.view(5, 10) + 1
        second = first * 2
        assert meter.live == 400
        del first
        second = second.T
    assert meter.live == 200
    assert meter.peak == 400


def test_activations_do_not_grow_with_depth() -> None:
    rows = activation_memory(torch.device("cpu"), depths=(4, 16), batch=4)
    assert growth(rows, recompute=True) <= 1.1
    assert growth(rows, recompute=False) > 2

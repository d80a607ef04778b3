"""The ImageNet recipe's network: its shapes, its size, its price, and what it must not compute.

Mackowiak et al., CVPR 2021, Table 1: 18 coupling blocks that mirror a ResNet-50.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from calibration.calibration import Bound, Calibration
from calibration.table import score_table
from model.classifier import ClassifierOutput, GenerativeClassifier
from model.couplings import AffineCoupling, DownsamplingCoupling
from model.scoring import Scores, score
from model.transforms import HaarDownsample, Permutation
from train.objective import ib_loss
from train.recipes import RECIPES

K, D = 1000, 150_528


class Watch(TorchDispatchMode):
    """Records which operations ran and the largest tensor that one of them made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.add(func.overloadpacket.__name__)
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
        return out


@pytest.fixture(scope="module")
def model() -> GenerativeClassifier:
    """One for all tests here: 310 MB of weights."""
    return GenerativeClassifier(RECIPES["imagenet"].flow_config(K, seed=0))


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(0))


@contextmanager
def outputs_of(model: nn.Module, *kinds: type[nn.Module]) -> Iterator[list[tuple[int, ...]]]:
    """The (C, H, W) of what modules of these kinds give, in the order they run."""
    shapes: list[tuple[int, ...]] = []
    handles = [
        module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out[0].shape[1:])))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    yield shapes
    for handle in handles:
        handle.remove()


def test_dimensions(model: GenerativeClassifier) -> None:
    config = model.config
    assert (config.dim, config.halvings, config.pooled_channels) == (D, 5, 3072)
    assert sum(stage.couplings for stage in config.stages) == 18
    kinds = (AffineCoupling, DownsamplingCoupling)
    assert sum(isinstance(module, kinds) for module in model.modules()) == 18


@torch.no_grad()
def test_channels_and_resolutions(model: GenerativeClassifier, image: Tensor) -> None:
    with outputs_of(model, AffineCoupling, DownsamplingCoupling, HaarDownsample) as shapes:
        z, ladj = model.flow(image)
    assert [shape for i, shape in enumerate(shapes) if shape not in shapes[:i]] == [
        (12, 112, 112),
        (48, 56, 56),
        (192, 28, 28),
        (768, 14, 14),
        (3072, 7, 7),
    ]
    assert len(shapes) == 18 + 1
    assert z.shape == (1, D)
    assert ladj.dtype == torch.float64


def test_parameters(model: GenerativeClassifier) -> None:
    flow = sum(p.numel() for p in model.flow.parameters())
    assert flow == pytest.approx(55.4e6, rel=0.05)
    rest, rank = D - 3072, 128
    means = sum(p.numel() for p in model.class_means.parameters())
    assert means == K * 3072 + K * rank + rank * rest == pytest.approx(22.1e6, rel=0.005)


@torch.no_grad()
def test_multiply_adds_of_an_image(model: GenerativeClassifier, image: Tensor) -> None:
    """Once |mu|^2 is known, which changes only with the weights."""
    model(image)
    with FlopCounterMode(display=False) as counter:
        model(image)
    assert 6.5e9 < counter.get_total_flops() / 2 <= 7.0e9


def test_class_means_are_never_materialised(model: GenerativeClassifier, image: Tensor) -> None:
    """Forward and backward at one image: no tensor comes near K * D entries."""
    model.zero_grad(set_to_none=True)
    with Watch() as watch:
        loss(model(image)).backward()
    model.zero_grad(set_to_none=True)
    assert {"mm", "convolution", "convolution_backward"} <= watch.operations
    basis = 128 * (D - 3072)
    assert watch.largest == basis < K * D / 7


@torch.no_grad()
def test_the_watch_would_see_them(model: GenerativeClassifier) -> None:
    with Watch() as watch:
        model.class_means.of(torch.arange(150))
    assert watch.largest == 150 * D


@torch.no_grad()
def test_permutations_are_free(model: GenerativeClassifier) -> None:
    """Moved by index: no dense matrix, stored or multiplied."""
    permutations = [module for module in model.modules() if isinstance(module, Permutation)]
    assert len(permutations) == 18
    for permutation in permutations:
        assert [value.dtype for value in permutation.state_dict().values()] == [torch.int64]
        x = torch.zeros(1, len(permutation.index), 2, 2)
        with Watch() as watch:
            permutation(x)
        assert watch.operations <= {"index_select", "new_zeros"}


def loss(output: ClassifierOutput) -> Tensor:
    return ib_loss(output, torch.tensor([7]), beta=1.0).total


def test_a_training_step_and_a_verdict(model: GenerativeClassifier, image: Tensor) -> None:
    """Last of this file: it changes the weights that the others share."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=False)
    before = loss(model(image))
    optimizer.zero_grad(set_to_none=True)
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    pixels = (image.numpy() * 255).astype(np.uint8)
    scores = score(model.eval(), pixels)
    assert scores.logits.shape == (1, K)
    assert np.isfinite(scores.logits).all()
    assert np.isfinite(scores.log_prob).all()
    with torch.no_grad():
        assert loss(model(image)) < before
    around = reference(scores)
    typical, strange = (
        around.decide(scores.logits, scores.log_prob + shift, scores.statistics)
        for shift in (0.0, -1e5)
    )
    assert typical.posterior.shape == (1, K)
    np.testing.assert_allclose(typical.posterior.sum(1), 1)
    assert typical.p_value > 0.05
    assert not typical.rejected.any()
    assert strange.rejected.all()


def reference(scores: Scores, rows: int = 400) -> Calibration:
    """Drawn scores around those of one image, as a gate's reference."""
    rng = np.random.default_rng(0)
    table = score_table(
        ids=[str(i) for i in range(rows)],
        labels=rng.integers(0, K, rows).tolist(),
        splits=["fit", "cal"] * (rows // 2),
        logits=scores.logits + rng.normal(0, 1, (rows, K)),
        log_prob=scores.log_prob + rng.normal(0, 1e3, rows),
        statistics={name: np.repeat(value, rows) for name, value in scores.statistics.items()},
    )
    bound = Bound(weights_sha256="0" * 64, preprocessing_sha256="0" * 64, dtype="float32")
    return Calibration.fit(table, bound=bound)

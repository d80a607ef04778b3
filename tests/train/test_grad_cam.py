"""Grad-CAM of the ResNet baseline: its closed form, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from model.quantize import bin_centres
from train.baselines import ResNetClassifier, ResNetConfig, ResNetStage
from train.grad_cam import grad_cam

CONFIG = ResNetConfig(
    input_shape=(3, 8, 8),
    n_classes=3,
    stages=(
        ResNetStage(blocks=1, width=4, stride=1),
        ResNetStage(blocks=2, width=6, stride=2),
    ),
)


@pytest.fixture
def images() -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 8, 8), generator=drawn, dtype=torch.uint8)


@pytest.fixture
def classes() -> Tensor:
    return torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture
def network(images: Tensor) -> ResNetClassifier:
    net = ResNetClassifier(CONFIG).double()
    net.initialise(bin_centres(images, 256).double())
    _running_statistics(net, images)
    return net.eval()


def test_closed_form_of_average_pool_and_linear(
    network: ResNetClassifier, images: Tensor, classes: Tensor
) -> None:
    found = grad_cam(network, images, classes)
    linear = network.net[-1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        x = bin_centres(images, CONFIG.levels).double()
        features = network.net[:-3](network.normalize(x)[0])
        weights = linear.weight[classes] / (4 * 4)
        expected = torch.einsum("bc,bchw->bhw", weights, features).relu()
    assert found.shape == (5, 4, 4)
    assert (found > 0).any()
    torch.testing.assert_close(found, expected)


def test_one_image_as_in_a_batch(
    network: ResNetClassifier, images: Tensor, classes: Tensor
) -> None:
    alone = [grad_cam(network, images[i : i + 1], classes[i : i + 1]) for i in range(len(images))]
    torch.testing.assert_close(torch.cat(alone), grad_cam(network, images, classes))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_same_in_any_grad_mode(
    mode: Callable[[], AbstractContextManager[None]],
    network: ResNetClassifier,
    images: Tensor,
    classes: Tensor,
) -> None:
    expected = grad_cam(network, images, classes)
    with mode():
        found = grad_cam(network, images.clone(), classes.clone())
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_nothing_is_left_behind(network: ResNetClassifier, images: Tensor, classes: Tensor) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = grad_cam(network, images, classes)
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())
    torch.testing.assert_close(grad_cam(network, images, classes), first, rtol=0, atol=0)


def test_training_mode_is_refused(
    network: ResNetClassifier, images: Tensor, classes: Tensor
) -> None:
    with pytest.raises(ValueError, match="training mode"):
        grad_cam(network.train(), images, classes)


def _running_statistics(network: ResNetClassifier, images: Tensor) -> None:
    """Batch normalisation of these images, so that activations are neither zero nor alike."""
    with torch.no_grad():
        for _ in range(20):
            network.train()(bin_centres(images, CONFIG.levels).double())

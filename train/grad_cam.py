"""Grad-CAM of the discriminative baseline, to hold posterior heatmaps against.

With the activations A (C, h, w) of the last convolutional stage and the logit y_k of the class that
is explained

    weight_c = mean_ij dy_k / dA_cij,       L = ReLU(sum_c weight_c A_c)

after Selvaraju et al., "Grad-CAM", ICCV 2017. It says where the class is seen; unlike a posterior
heatmap it has no unit, sums to nothing and never speaks against a class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.quantize import bin_centres
from train.baselines import ResNetClassifier


def grad_cam(network: ResNetClassifier, images: Tensor, classes: Tensor) -> Tensor:
    """L (B, h, w) at the resolution of the last stage, >= 0, higher = speaks more for the class.

    ``images``: uint8 (B, C, H, W); ``classes``: int64 (B,), the class explained of each. Raises
    ``ValueError`` for a network in training mode. The network is left as it was, and the caller may
    be in any grad mode.
    """
    if network.training:
        raise ValueError("the network is in training mode: expected eval(), as it classifies")
    stages, head = _split(network.net)
    with torch.inference_mode(False):
        with torch.no_grad():
            x = bin_centres(images.clone(), network.config.levels).to(network.normalize.mean)
            features = stages(network.normalize(x)[0])
        with torch.enable_grad():
            features.requires_grad_()
            explained = head(features).gather(1, classes.clone()[:, None]).sum()
            # of the activations alone: parameters keep whatever gradients they have
            (slopes,) = torch.autograd.grad(explained, features)
        weights = slopes.mean((2, 3), keepdim=True)
        heatmaps: Tensor = (weights * features.detach()).sum(1).relu()
        return heatmaps


def _split(net: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """The convolutional stages, and what makes logits of the last one's activations."""
    kinds = [type(layer) for layer in net]
    pool = kinds.index(nn.AdaptiveAvgPool2d)
    return net[:pool], net[pool:]

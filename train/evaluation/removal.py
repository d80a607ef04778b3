"""Deletion and insertion: whether what a heatmap points at is what the classifier goes by.

Pixels are exchanged between an image and another one that says nothing, those first that the
heatmap holds for most important, and the posterior of the explained class is followed
(Petsiuk et al., "RISE", BMVC 2018):

    deletion   from the image to one without anything (``blank``): area small where the map is good
    insertion  from the image out of focus (``blurred``) to the image: area large where it is good

The area is that under posterior over share of pixels exchanged, in [0, 1], by the trapezoidal rule.
Changed images are like nothing a model was trained on, so areas compare maps on one classifier and
not classifiers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from calibration.arrays import FloatArray

#: uint8 images (B, C, H, W) to p(y|x) (B, K).
Probability = Callable[[Tensor], FloatArray]


def deletion(
    heatmaps: Tensor, images: Tensor, classes: Tensor, probability: Probability, steps: int
) -> Tensor:
    """Areas (B,), lower = better: the heatmap's pixels go black one after the other.

    ``heatmaps`` (B, h, w), higher = more important; ``images`` uint8 (B, C, H, W); ``classes``
    int64 (B,), those explained; ``steps``: the pixels are exchanged in as many equal shares.
    """
    order = pixel_order(heatmaps, images.shape[2:])
    return area(curves(images, blank(images), order, classes, probability, steps))


def insertion(
    heatmaps: Tensor, images: Tensor, classes: Tensor, probability: Probability, steps: int
) -> Tensor:
    """Areas (B,), higher = better: the blurred image gets its pixels back; see ``deletion``."""
    order = pixel_order(heatmaps, images.shape[2:])
    return area(curves(blurred(images), images, order, classes, probability, steps))


def blank(images: Tensor) -> Tensor:
    """Black: where garments and digits lie on black it is the ground without the thing."""
    return torch.zeros_like(images)


def blurred(images: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation of an eighth of the shorter side, its kernel reaching
    three of them: roughly where the thing is, without what it is."""
    sigma = min(images.shape[2:]) / 8
    reach = min(round(3 * sigma), min(images.shape[2:]) - 1)  # what reflection has pixels for
    found: Tensor = gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)
    return found


def pixel_order(heatmaps: Tensor, size: torch.Size) -> Tensor:
    """The rank of each pixel (B, H W), 0 = the most important, of maps (B, h, w).

    Maps are brought to the image's size by bilinear interpolation. Pixels that are alike come in an
    order drawn once: in that of the rows a map of a few places would sweep the rest from the top.
    """
    fine = interpolate(heatmaps[:, None].double(), tuple(size), mode="bilinear")[:, 0].flatten(1)
    drawn = torch.randperm(fine.shape[1], generator=torch.Generator().manual_seed(0))
    places = drawn[fine[:, drawn].argsort(dim=1, descending=True, stable=True)]
    return places.argsort(dim=1)


def curves(
    start: Tensor,
    end: Tensor,
    order: Tensor,
    classes: Tensor,
    probability: Probability,
    steps: int,
) -> Tensor:
    """The posterior of ``classes`` (B, steps + 1) on the way from ``start`` to ``end``, both uint8
    (B, C, H, W), by the ``order`` of ``pixel_order``; all images take a step together."""
    ranks = order.view(len(order), 1, *start.shape[2:])
    followed = []
    for step in range(steps + 1):
        exchanged = ranks < round(step * order.shape[1] / steps)
        posterior = torch.as_tensor(probability(torch.where(exchanged, end, start)))
        followed.append(posterior.gather(1, classes[:, None])[:, 0])
    return torch.stack(followed, dim=1)


def area(followed: Tensor) -> Tensor:
    """Under curves (B, steps + 1) over [0, 1]: (B,)."""
    return torch.trapezoid(followed.double(), dim=1) / (followed.shape[1] - 1)

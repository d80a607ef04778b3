"""The decision plane: an image among the means of its most probable classes, in two coordinates.

Horizontal: position along the line from the mean of the most probable class, at 0, to that of the
second. Vertical: distance from that line within the span of the means of the top five. Both in
standard deviations of a class in the latent space (Mackowiak et al., CVPR 2021, Fig. 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.classifier import ClassifierOutput, GenerativeClassifier

#: Classes whose means span the plane, at most.
CLASSES = 5

#: Share of a class's mass that its circle holds.
MASS = 0.9

#: What is shorter, beside the longest of the directions, is rounding.
_NOTHING = 1e-9

#: Square root of the ``MASS`` quantile of chi-square with 1 to 4 degrees of freedom: a class is a
#: unit Gaussian in the span, too. Both coordinates move at most as far as a point does, so about a
#: mean off the line the circle holds ``MASS`` at least, about one on it exactly.
_RADII = (0.0, 1.6448536, 2.1459660, 2.5002777, 2.7891648)


@dataclass(frozen=True, kw_only=True)
class DecisionPlane:
    """B images among n = min(K, ``CLASSES``) classes, float64.

    ``classes`` (B, n): the most probable first. ``points`` (B, 2): horizontal and vertical place of
    each image. ``means`` (B, n, 2): of each class. ``boundaries`` (B,): where on the horizontal
    axis the two first classes are equally probable; inf with a single class. ``radius``: of the
    circle about a mean that holds ``MASS`` of its class.
    """

    classes: Tensor
    points: Tensor
    means: Tensor
    boundaries: Tensor
    radius: float


def decision_plane(output: ClassifierOutput, classifier: GenerativeClassifier) -> DecisionPlane:
    """Of each image by itself: the axes are those of its own top classes."""
    count = min(output.logits.shape[1], CLASSES)
    classes = output.logits.topk(count, dim=1).indices
    placed = [
        _placed(z.double(), classifier.class_means.of(top).double())
        for z, top in zip(output.z, classes, strict=True)
    ]
    return DecisionPlane(
        classes=classes,
        points=torch.stack([point for point, _ in placed]),
        means=torch.stack([means for _, means in placed]),
        boundaries=_boundaries(output, classes, placed),
        radius=_RADII[count - 1],
    )


def trajectory(z: Tensor, top: Tensor, classifier: GenerativeClassifier) -> Tensor:
    """Latent codes (S, D) in the plane of the classes ``top`` (n,): (S, 2), float64."""
    means = classifier.class_means.of(top).double()
    return torch.stack([_placed(point.double(), means)[0] for point in z])


def _placed(z: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """(2,) and (n, 2): a code (D,) and means (n, D), the first of which is the origin."""
    axes = _axes(means[1:] - means[0])
    along = torch.cat([(z - means[0])[None], means - means[0]]) @ axes
    if not axes.shape[1]:
        return z.new_zeros(2), z.new_zeros(1, 2)
    flat = torch.stack([along[:, 0], along[:, 1:].norm(dim=1)], dim=1)
    return flat[0], flat[1:]


def _axes(directions: Tensor) -> Tensor:
    """Orthonormal (D, n) that span the directions (n, D), the first along the first of them."""
    axes, weights = torch.linalg.qr(directions.T)
    lengths = weights.diagonal()
    # a direction that those before it span already has no axis of its own
    own = lengths.abs() > _NOTHING * directions.norm(dim=1).amax() if len(lengths) else lengths
    turned: Tensor = axes * torch.where(lengths < 0, -1.0, 1.0).to(axes) * own
    return turned


def _boundaries(
    output: ClassifierOutput, classes: Tensor, placed: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """Where the logits of the two first classes meet: their difference falls by the distance of
    the means for each step along the axis."""
    if classes.shape[1] < 2:
        return torch.full((len(classes),), math.inf, dtype=torch.float64)
    two = output.logits.double().gather(1, classes[:, :2])
    found = [
        point[0] + (first - second) / means[1, 0]
        for (first, second), (point, means) in zip(two, placed, strict=True)
    ]
    return torch.stack(found)

"""What others have published of such classifiers on ImageNet, to be shown beside ours.

R. Mackowiak, L. Ardizzone, U. Köthe, C. Rother: Generative classifiers as a basis for trustworthy
image classification, CVPR 2021, Tables 2 and 3. Other images, other networks and photographed
frost: the order of sizes compares, the numbers do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "published by others on ImageNet (Mackowiak et al., CVPR 2021)"

#: What marks numbers that are not of this model, in a heading or a row's name.
OTHERS = "published, ImageNet"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of their Table 3; ``accuracy`` (10 crops) and mCE in percent, mCE over AlexNet's.

    ``auroc``: mean over the 15 corruptions, by the two-sided test of log p(x), in [0, 1].
    """

    name: str
    accuracy: float | None = None
    oce: float | None = None
    mce: float | None = None
    relative_mce: float | None = None
    delta_entropy: float | None = None
    auroc: float | None = None


def _row(name: str, *numbers: float | None) -> Published:
    fields = ("accuracy", "oce", "mce", "relative_mce", "delta_entropy", "auroc")
    return Published(name=name, **dict(zip(fields, numbers, strict=True)))


#: By beta, then the network that they are held against. The mean AUROC at beta 1 is printed as
#: .679, which contradicts its own row of fifteen.
TABLE: tuple[Published, ...] = (
    _row("β = 0", None, None, None, None, None, 0.775),
    _row("β = 1", 67.30, 3.87, 98.5, 116, 1.62, 0.7565),
    _row("β = 2", 71.73, 4.13, 92.5, 119, 1.75, 0.736),
    _row("β = 4", 73.69, 4.31, 88.2, 117, 1.72, 0.708),
    _row("β = 8", 74.59, 4.73, 86.8, 117, 1.81, 0.659),
    _row("β = 16", 75.54, 4.15, 84.9, 115, 1.79, 0.624),
    _row("β = 32", 76.18, 4.94, 83.1, 113, 1.71, 0.558),
    _row("β = inf", 76.27, 5.12, 83.4, 114, 1.58, 0.442),
    _row("ResNet-50", 77.40, 6.75, 78.2, 109, 1.51, None),
)

#: AUROC of the two-sided test of log p(x) at beta 2, by corruption, mean over severities.
AUROC_BETA_2: Mapping[str, float] = {
    "gaussian_noise": 0.948,
    "shot_noise": 0.952,
    "impulse_noise": 0.985,
    "defocus_blur": 0.878,
    "glass_blur": 0.826,
    "motion_blur": 0.813,
    "zoom_blur": 0.849,
    "snow": 0.309,
    "frost": 0.432,
    "fog": 0.965,
    "brightness": 0.441,
    "contrast": 0.952,
    "elastic_transform": 0.566,
    "pixelate": 0.610,
    "jpeg_compression": 0.512,
}

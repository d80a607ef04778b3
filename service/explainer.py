"""An image's verdict with its reasons: what the service, the command and the page all show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.evidence import Evidence, evidence
from calibration.score_histogram import ScoreHistogram, score_histogram
from model.explain import Explanation
from model.image import UInt8Array
from service.predictor import Predictor
from service.verdict import Verdict

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One image among its top classes (n of them), see ``model.decision_plane``; x, y each."""

    classes: tuple[int, ...]
    point: tuple[float, float]
    means: tuple[tuple[float, float], ...]
    boundary: float
    radius: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """Of one image: K classes, H x W places of the last resolution.

    ``pixels`` (C, h, w): the image as the model saw it. ``heatmaps`` (K, H, W): nats, each sums to
    the log posterior of its class. ``salience`` (H, W): nats, sums to log p(x). ``energy`` (H, W):
    1 under the model, higher = stranger there. ``reference``: what S was ranked among.
    """

    verdict: Verdict
    pixels: UInt8Array
    heatmaps: Float64Array
    salience: Float64Array
    energy: Float64Array
    plane: Plane
    evidence: Evidence
    reference: ScoreHistogram


def explained(
    predictor: Predictor, images: UInt8Array, alpha: float | None = None, contrast: float = 1.0
) -> list[Explained]:
    """Of uint8 images (B, C, H, W), at one alpha (None: the bundle's).

    Verdicts are the very ones that the predictor gives. Two passes through the network: statistics
    of the gate and figures by place are never needed together elsewhere.
    """
    calibration = predictor.bundle.calibration
    scores = predictor.score(images)
    verdicts = predictor.verdicts(scores, [alpha] * len(images))
    reasons = evidence(calibration, scores.logits, scores.log_prob, scores.statistics)
    found = predictor.explain(images, contrast)
    heatmaps, salience, energy = (
        tensor.double().cpu().numpy() for tensor in (found.heatmaps, found.salience, found.energy)
    )
    return [
        Explained(
            verdict=verdict,
            pixels=images[i],
            heatmaps=heatmaps[i],
            salience=salience[i],
            energy=energy[i],
            plane=_plane(found, i),
            evidence=reasons[i],
            reference=score_histogram(calibration.ranking, verdict.class_index, verdict.threshold),
        )
        for i, verdict in enumerate(verdicts)
    ]


def _plane(found: Explanation, i: int) -> Plane:
    plane = found.plane
    x, y = plane.points[i].tolist()
    return Plane(
        classes=tuple(plane.classes[i].tolist()),
        point=(x, y),
        means=tuple((x, y) for x, y in plane.means[i].tolist()),
        boundary=float(plane.boundaries[i]),
        radius=plane.radius,
    )

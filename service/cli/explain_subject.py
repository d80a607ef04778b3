"""What ``oodgate explain`` draws of one image: all numbers and pictures, as arrays, none drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq

from calibration.arrays import FloatArray
from calibration.temperature import softmax
from model.image import UInt8Array
from service.cli.explain_way import Way, way_to
from service.explainer import Explained, explained
from service.predictor import Predictor
from train.baselines import BaselineCheckpoint
from train.grad_cam import grad_cam

#: Classes whose heatmaps are drawn where none is asked for.
TOP = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineMap:
    """Grad-CAM (h, w) >= 0 of a baseline for a class to which it gives ``probability``."""

    places: FloatArray
    probability: float


#: No probability is taken for less: it has a logarithm.
_LEAST = 1e-300


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One image explained.

    ``labels``: of all K classes. ``shown``: those whose heatmaps are drawn, in that order.
    ``way``: None with a single class, and where the latent code is not finite. ``baseline``: of the
    first class shown, None unless asked for.
    """

    name: str
    labels: tuple[str, ...]
    found: Explained
    shown: tuple[int, ...]
    contrast: float
    way: Way | None
    baseline: BaselineMap | None


class Explainer:
    """A bundle and what is asked of it: ``explainer(name, pixels)`` explains an image.

    ``asked``: the class to be explained, None for the most probable ones. ``contrast``: that of
    the heatmaps, None for ``even_contrast`` of each image.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        asked: int | None = None,
        contrast: float | None = None,
        baseline: BaselineCheckpoint | None = None,
    ) -> None:
        self._predictor = predictor
        self._asked, self._contrast, self._baseline = asked, contrast, baseline
        self._classifier = predictor.bundle.checkpoint.classifier
        self._posterior = predictor.bundle.calibration.posterior

    def __call__(self, name: str, pixels: UInt8Array) -> Subject:
        """Of uint8 pixels (C, H, W)."""
        images = torch.from_numpy(pixels[None]).to(self._classifier.device)
        with torch.inference_mode():
            seen = self._classifier.classify(images)
        logits = seen.logits[0].double().cpu().numpy()
        posterior = self._posterior(logits[None])[0]
        contrast = self._contrast or even_contrast(np.log(np.maximum(posterior, _LEAST)))
        (found,) = explained(self._predictor, pixels[None], contrast=contrast)
        ranked = ranked_classes(logits, found.verdict.class_index)
        shown, other = chosen(ranked, self._asked)
        return Subject(
            name=name,
            labels=self._predictor.class_labels,
            found=found,
            shown=shown,
            contrast=contrast,
            way=self._way(seen.z[0], ranked[0], other),
            baseline=self._baseline_map(images, shown[0]),
        )

    def _way(self, z: torch.Tensor, source: int, target: int | None) -> Way | None:
        if target is None or not z.isfinite().all():
            return None
        return way_to(self._predictor, z, source, target)

    def _baseline_map(self, images: torch.Tensor, k: int) -> BaselineMap | None:
        if self._baseline is None:
            return None
        network = self._baseline.classifier
        places = grad_cam(network, images, torch.tensor([k], device=images.device))
        with torch.inference_mode():
            probability = network.classify(images).double().softmax(1)[0, k]
        return BaselineMap(places=places[0].double().cpu().numpy(), probability=float(probability))


def chosen(ranked: list[int], asked: int | None) -> tuple[tuple[int, ...], int | None]:
    """Of classes by rank: those whose heatmaps are drawn, and the one that the way leads to.

    A class asked for comes first, beside the predicted one. None where there is no other class.
    """
    shown = ranked[:TOP] if asked is None else [asked, ranked[0]]
    other = next((k for k in (asked, *ranked) if k not in (None, ranked[0])), None)
    return tuple(dict.fromkeys(shown)), other


def even_contrast(logits: FloatArray) -> float:
    """The contrast, at most 1, that leaves the top class of tempered logits (K,) about half the
    weight: (1 + 1 / K) / 2. A sure posterior holds the class against itself alone, and its map is
    empty."""
    wanted = 0.5 + 0.5 / len(logits)

    def above(log_contrast: float) -> float:
        return float(softmax(logits[None], float(np.exp(-log_contrast))).max()) - wanted

    low = float(np.log(1e-9))
    if len(logits) == 1 or above(0.0) <= 0 or above(low) >= 0:
        return 1.0
    return float(np.exp(brentq(above, low, 0.0, xtol=1e-6)))


def ranked_classes(logits: FloatArray, predicted: int) -> list[int]:
    """The predicted class, which vector scaling may have moved, then the others by their logits."""
    ranked: list[int] = np.argsort(-np.nan_to_num(logits), kind="stable").tolist()
    return list(dict.fromkeys([predicted, *ranked]))

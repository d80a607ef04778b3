"""The one way from images to verdicts: online, in batch jobs and in tests; no Ray in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from calibration.decisions import Decisions
from calibration.posterior import Posterior
from model.classifier import bits_per_dim
from model.compiling import check_compiler
from model.explain import Explanation, explain
from model.heatmaps import Scaling
from model.image import InputSpec, UInt8Array
from model.quantize import as_input
from model.scoring import Scores, default_device, score
from service.bundle import Bundle
from service.verdict import Decision, Unusual, Verdict


class Predictor:
    """A bundle on a device: ``predictor(images)`` answers each image, alone or in a batch.

    Deterministic, free of noise, and safe to call from several threads: nothing is kept between
    calls. ``compiled``: by ``torch.compile``, which needs a C++ compiler and takes about a minute
    at the first image and again at the first batch, and then answers single images about twice as
    fast; densities differ in their last bits, far below what scores are rounded to. Raises
    ``CompilerError`` where there is no compiler.
    """

    def __init__(
        self, bundle: Bundle, device: str | None = None, *, compiled: bool = False
    ) -> None:
        self.bundle = bundle
        chosen = default_device() if device is None else torch.device(device)
        self._classifier = bundle.checkpoint.classifier.to(chosen).eval()
        if compiled:
            check_compiler(chosen)
            self._classifier.compile(dynamic=True, fullgraph=True)
        self._calibration = bundle.calibration

    @property
    def spec(self) -> InputSpec:
        """How an encoded image becomes an input."""
        return self.bundle.spec

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.bundle.class_labels

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of the last resolution, which explanations are of."""
        config = self._classifier.config
        _, height, width = config.input_shape
        return height >> config.halvings, width >> config.halvings

    @property
    def threshold(self) -> float:
        """What p-values are held against at the bundle's own alpha, the smallest over classes."""
        return self._calibration.threshold()

    @property
    def reference_size(self) -> int:
        """Calibration images that p-values rank among."""
        return self._calibration.reference_size

    def check_alpha(self, alpha: float | None) -> None:
        """Raise ``UnsupportedAlphaError`` for an alpha the reference is too small for."""
        if alpha is not None:
            self._calibration.check_alpha(alpha)

    def __call__(
        self, images: UInt8Array, alphas: Sequence[float | None] | None = None
    ) -> list[Verdict]:
        """Verdicts of uint8 images (B, C, H, W), each at its own alpha (None: the bundle's)."""
        return self.verdicts(self.score(images), alphas)

    def score(self, images: UInt8Array) -> Scores:
        """Scores of uint8 images (B, C, H, W)."""
        return score(self._classifier, images)

    def explain(self, images: UInt8Array, contrast: float = 1.0) -> Explanation:
        """Why, of uint8 images (B, C, H, W); see ``model.explain``.

        Heatmaps are of the posterior that verdicts give: they sum to its log. The other figures go
        by the network's own logits, whose best class vector scaling may not share.
        """
        posterior, device = self._calibration.posterior, self._classifier.device
        return explain(
            self._classifier,
            torch.from_numpy(images).to(device),
            temperature=posterior.temperature,
            scaling=_scaling(posterior, device),
            contrast=contrast,
        )

    def draw(self, labels: Sequence[int], seed: int) -> UInt8Array:
        """Images (B, C, H, W) from p(x | y) of each class index, as 8-bit pixels."""
        generator = torch.Generator().manual_seed(seed)
        classes = torch.tensor(labels, device=self._classifier.device)
        return as_input(self._classifier.sample(classes, generator), self.spec.levels)

    def verdicts(
        self, scores: Scores, alphas: Sequence[float | None] | None = None
    ) -> list[Verdict]:
        """Decide on scores."""
        decisions = self.decide(scores, alphas)
        return [self._verdict(decisions, scores, i) for i in range(len(decisions.p_value))]

    def decide(self, scores: Scores, alphas: Sequence[float | None] | None = None) -> Decisions:
        """The same as arrays, for tables."""
        default = self._calibration.alpha
        wanted = [None] * len(scores.log_prob) if alphas is None else alphas
        levels = np.array([default if a is None else a for a in wanted], dtype=np.float64)
        return self._calibration.decide(scores.logits, scores.log_prob, scores.statistics, levels)

    def _verdict(self, decisions: Decisions, scores: Scores, i: int) -> Verdict:
        index = int(decisions.class_index[i])
        rejected, abstained = bool(decisions.rejected[i]), bool(decisions.abstained[i])
        members = np.flatnonzero(decisions.prediction_set[i])
        log_prob = float(scores.log_prob[i])
        return Verdict(
            class_index=index,
            class_label=self.class_labels[index],
            posterior=tuple(decisions.posterior[i].tolist()),
            prediction_set=tuple(self.class_labels[k] for k in members),
            p_value=float(decisions.p_value[i]),
            p_typicality=float(decisions.p_typicality[i]),
            p_train=float(decisions.p_train[i]),
            alpha=float(decisions.alpha[i]),
            delta=self._calibration.delta,
            mode=self._calibration.mode,
            threshold=float(decisions.threshold[i]),
            reference_size=int(decisions.reference_size[i]),
            decision=_decision(rejected, abstained),
            rejected=rejected,
            reason="atypical_input" if rejected else "ambiguous" if abstained else None,
            score=float(decisions.score[i]),
            log_prob=log_prob,
            bits_per_dim=bits_per_dim(log_prob, self._classifier.config),
            unusual=tuple(
                Unusual(statistic=name, p_value=float(p)) for name, p in decisions.unusual[i]
            ),
        )


def _scaling(posterior: Posterior, device: torch.device) -> Scaling | None:
    if posterior.scaling is None:
        return None
    weights, offsets = (
        torch.from_numpy(array).to(device)
        for array in (posterior.scaling.weights, posterior.scaling.offsets)
    )
    return Scaling(weights=weights, offsets=offsets)


def _decision(rejected: bool, abstained: bool) -> Decision:
    if rejected:
        return Decision.REJECT
    return Decision.ABSTAIN if abstained else Decision.ACCEPT

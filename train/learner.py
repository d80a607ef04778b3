"""What the loop trains: a module that turns a batch into a loss, whatever the classifier is.

The flow of any beta (0: a plain flow, inf: a feed-forward classifier) and the ResNet baseline pass
through the same loop, data, augmentation and schedule; they differ here alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as nnf

from model.classifier import GenerativeClassifier
from train.baselines import ResNetClassifier
from train.config import TrainConfig
from train.objective import ib_loss

Classifier = GenerativeClassifier | ResNetClassifier


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """``total``: the mean loss of a batch, to be minimised. ``logits`` (B, K) for the figures, and
    ``log_prob`` of the images that no attacker has moved, None where there is no density."""

    total: Tensor
    logits: Tensor
    log_prob: Tensor | None


class Learner(nn.Module, ABC):
    """A classifier with its objective; ``classifier`` is what a run leaves behind."""

    classifier: Classifier

    @abstractmethod
    def forward(self, pixels: Tensor, labels: Tensor, moved: int = 0) -> BatchResult:
        """The loss of pixels (B, C, H, W) in [0, 1] with class indices (B,).

        The first ``moved`` images are an attacker's (``train.adversarial``).
        """

    def logits(self, pixels: Tensor) -> Tensor:
        """Of the classes alone, (B, K)."""
        output = self.classifier(pixels)
        found: Tensor = output if isinstance(output, Tensor) else output.logits
        return found

    @abstractmethod
    def initialise(self, pixels: Tensor) -> None:
        """Set what depends on data from one batch, before the first step."""


class FlowLearner(Learner):
    """A generative classifier under the information-bottleneck objective."""

    classifier: GenerativeClassifier

    def __init__(self, classifier: GenerativeClassifier, config: TrainConfig) -> None:
        super().__init__()
        self.classifier = classifier
        classifier.flow.recompute = config.recompute
        self._beta, self._smoothing = config.beta, config.label_smoothing

    def forward(self, pixels: Tensor, labels: Tensor, moved: int = 0) -> BatchResult:
        """See ``Learner``."""
        output = self.classifier(pixels)
        losses = ib_loss(output, labels, self._beta, self._smoothing, moved)
        density = output.log_prob[moved:]
        return BatchResult(total=losses.total, logits=output.logits, log_prob=density)

    def initialise(self, pixels: Tensor) -> None:
        """See ``Learner``."""
        self.classifier.flow.initialise(pixels)


class ResNetLearner(Learner):
    """The baseline under cross-entropy."""

    classifier: ResNetClassifier

    def __init__(self, classifier: ResNetClassifier, config: TrainConfig) -> None:
        super().__init__()
        self.classifier = classifier
        self._smoothing = config.label_smoothing

    def forward(self, pixels: Tensor, labels: Tensor, moved: int = 0) -> BatchResult:
        """See ``Learner``; without a density all images count alike."""
        logits = self.classifier(pixels)
        total = nnf.cross_entropy(logits.float(), labels, label_smoothing=self._smoothing)
        return BatchResult(total=total, logits=logits, log_prob=None)

    def initialise(self, pixels: Tensor) -> None:
        """See ``Learner``."""
        self.classifier.initialise(pixels)


def build_learner(classifier: Classifier, config: TrainConfig) -> Learner:
    """The learner of a classifier."""
    if isinstance(classifier, ResNetClassifier):
        return ResNetLearner(classifier, config)
    return FlowLearner(classifier, config)

"""Fine-tuning: the flow of a trained model under class means of other classes.

What the flow knows of images is kept; class means begin equidistant, since other classes say
nothing of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.checkpoint import CheckpointError, load_model
from model.classifier import GenerativeClassifier
from model.config import FlowConfig


def fine_tuned(source: Path, flow: FlowConfig) -> GenerativeClassifier:
    """A classifier of ``flow``'s classes and dropout on the trained flow found in ``source``.

    ``source`` is a bundle or a checkpoint; the architecture is its own. Raises
    ``CheckpointError`` where it is none or its images are of another shape.
    """
    trained = load_model(source / "model" if (source / "model").is_dir() else source).classifier
    known = trained.config
    if (known.input_shape, known.levels) != (flow.input_shape, flow.levels):
        raise CheckpointError(
            f"{source} is a model of {known.input_shape} images of {known.levels} levels, the "
            f"recipe's are {flow.input_shape} of {flow.levels}: choose the recipe it was trained by"
        )
    config = replace(
        known,
        n_classes=flow.n_classes,
        dropout=flow.dropout,
        mu_init=flow.mu_init,
        means=flow.means,
        means_rank=flow.means_rank,
    )
    classifier = GenerativeClassifier(config)
    classifier.flow.load_state_dict(trained.flow.state_dict())
    return classifier

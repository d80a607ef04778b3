"""What a run records of itself in ``run.json`` beside its progress: enough to repeat it."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from calibration.rows import RowRecord
from model.classifier import GenerativeClassifier
from model.scoring import default_device
from train.config import TrainConfig
from train.cost import device_name
from train.finetune import provenance
from train.learner import Classifier
from train.run_file import SCHEMA_VERSION, git_commit


def origin(config: TrainConfig) -> dict[str, Any]:
    """``init``: what the run starts from, as it is now; nothing for a run from the beginning."""
    return {} if config.init is None else {"init": provenance(Path(config.init))}


def facts(
    config: TrainConfig, classifier: Classifier, class_labels: Sequence[str], record: RowRecord
) -> dict[str, Any]:
    """Of a run that begins; ``resumed`` will have the surroundings of each time that it goes on."""
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_dict(),
        "architecture": classifier.config.to_dict(),
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "classes": list(class_labels),
        "rows": record.counts(),
        **_weight(config, classifier),
        **surroundings(),
    }


def _weight(config: TrainConfig, classifier: Classifier) -> dict[str, Any]:
    """``beta_times_dim``: nats per image against nats per image; a ResNet has no such weight."""
    if not isinstance(classifier, GenerativeClassifier):
        return {}
    dim = classifier.config.dim
    return {"beta_times_dim": "inf" if math.isinf(config.beta) else config.beta * dim}


def surroundings() -> dict[str, Any]:
    """Where and by which code a run is trained."""
    return {
        "device": device_name(default_device()),
        "git_commit": git_commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
    }

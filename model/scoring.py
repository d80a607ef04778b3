"""uint8 images to scores as arrays: the one path that training, calibration and serving share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from model.input_statistics import input_statistics
from model.precision import full_convolutions
from model.quantize import bin_centres
from model.statistics import DEFAULT_RESOLUTION, RESOLUTION, statistics

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of N images: ``logits`` (N, K), ``log_prob`` (N,), nats, and each statistic (N,).

    The statistics are those of ``model.statistics`` and ``model.input_statistics``. They and
    ``log_prob`` are rounded to ``model.statistics.RESOLUTION``.
    """

    logits: Float64Array
    log_prob: Float64Array
    statistics: dict[str, Float64Array]


def default_device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of one or more batches, in their order, as of one."""
    return Scores(
        logits=np.concatenate([part.logits for part in parts]),
        log_prob=np.concatenate([part.log_prob for part in parts]),
        statistics={
            name: np.concatenate([part.statistics[name] for part in parts])
            for name in parts[0].statistics
        },
    )


@torch.inference_mode()
def score(classifier: GenerativeClassifier, images: UInt8Array) -> Scores:
    """Score uint8 images (N, C, H, W) in one batch, without noise, in float32.

    Raises ``ValueError`` for another shape or type: raw pixels must match the model exactly.
    """
    expected = classifier.config.input_shape
    if images.dtype != np.uint8 or images.shape[1:] != expected:
        raise ValueError(f"pixels of {images.dtype} {images.shape[1:]}: expected uint8 {expected}")
    device = classifier.device
    with full_convolutions():  # a GPU must find what the CPU found that it was calibrated on
        output = classifier.classify(torch.from_numpy(images).to(device), traced=True)
        names, values = statistics(output, classifier)
        of_flow = torch.cat([output.log_prob[:, None], values], dim=1).cpu().numpy()
    of_input = input_statistics(images)
    columns = np.concatenate([of_flow.T, list(of_input.values())])
    rounded = _rounded(("log_prob", *names, *of_input), columns)
    return Scores(
        logits=output.logits.double().cpu().numpy(),
        log_prob=rounded.pop("log_prob"),
        statistics=rounded,
    )


@torch.inference_mode()
def round_trip_errors(classifier: GenerativeClassifier, images: UInt8Array) -> Float64Array:
    """Largest |x - f^-1(f(x))| over the pixels x of each image, in [0, 1]: (N,).

    Of uint8 images (N, C, H, W) in one batch, in float32. How well the inverse undoes the flow says
    how far its density can be trusted as one.
    """
    flow, levels = classifier.flow, classifier.config.levels
    with full_convolutions():
        x = bin_centres(torch.from_numpy(images).to(classifier.device), levels)
        errors = (flow.inverse(flow(x)[0])[0] - x).abs().flatten(1).amax(1)
    return errors.double().cpu().numpy()


def _rounded(names: tuple[str, ...], columns: Float64Array) -> dict[str, Float64Array]:
    """The rows of ``columns`` (names, N), each rounded to its step."""
    steps = _steps(names)
    return dict(zip(names, np.rint(columns / steps) * steps, strict=True))


@lru_cache(maxsize=8)
def _steps(names: tuple[str, ...]) -> Float64Array:
    return np.array([[RESOLUTION.get(name, DEFAULT_RESOLUTION)] for name in names])

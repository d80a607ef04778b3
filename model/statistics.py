"""Named statistics that the one forward pass gives the gate: no second pass, no gradient.

Write v = z - mu of the predicted class, D numbers that are N(0, 1) under a perfect model: for each
frequency of the last resolution's DCT one number a channel (``model.transforms.DctPool``). The
statistics, each (B,) in float64; "log of a mean square" is a natural logarithm, 0 where the model
fits, larger = more energy than it expects:

- ``ladj``: log|det J| of the flow, nats
- ``ladj_1`` ...: the same of consecutive couplings, in up to six groups, nats
- ``mean_square_1`` ...: log of the mean square after up to four of the ActNorms, evenly apart
- ``class_distance``: |v|^2 / D, 1 under the model; higher = further from its class
- ``margin``: difference of the two largest logits, nats; lower = more ambiguous, 0 with one class
- ``entropy``: of the uncalibrated posterior, nats; higher = more ambiguous
- ``band_1`` ...: log of the mean square of v in up to four bands of frequency u + v, low to high
- ``band_rows``, ``band_columns``: the same of frequencies along one axis alone: what changes from
  row to row, and from column to column
- ``kurtosis``: mean v^4 / (mean v^2)^2, 3 under the model; higher = heavier tails
- ``place_11`` ...: log of the mean square of v in space, on a grid of up to 3 x 3 places

Either direction of each can mean a stranger; ``calibration.combined_score`` learns which does.
Statistics of the pixels themselves are in ``model.input_statistics``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.classifier import ClassifierOutput, GenerativeClassifier
from model.transforms import DctPool, Traced, full_precision

#: Groups of couplings, ActNorms looked at, bands of frequency, and places a side: at most so many.
LADJ_GROUPS, MEAN_SQUARES, BANDS, PLACES = 6, 4, 4, 3

#: Steps to which scores are rounded, in their own units, ``DEFAULT_RESOLUTION`` for the others.
#: Float32 sums differ in their last bits with the size of the batch; so that a rank among stored
#: scores does not, even for an image that is itself among them, the steps are far above such
#: differences and far below any score's spread. A score at the edge of a step may still move by
#: one of them.
RESOLUTION = {
    "log_prob": 1e-2,
    "ladj": 1e-2,
    **{f"ladj_{group + 1}": 1e-2 for group in range(LADJ_GROUPS)},
    "margin": 1e-2,
}
DEFAULT_RESOLUTION = 1e-3

Weights = tuple[tuple[str, ...], npt.NDArray[np.float32]]

#: The least mean square that a logarithm is taken of.
_FLOOR = 1e-12


def statistics(output: ClassifierOutput, classifier: GenerativeClassifier) -> dict[str, Tensor]:
    """The statistics of a batch by name; ``output`` must have been traced."""
    if output.trace is None:
        raise ValueError("the output has no trace: expected that of classify(..., traced=True)")
    pool = classifier.flow.steps[-1]
    if not isinstance(pool, DctPool):
        raise ValueError(f"the flow ends in {type(pool).__name__}: expected a DctPool")
    v = output.z - classifier.class_means.of(output.logits.argmax(1))
    squares = v.square()
    return {
        **_of_trace(output.trace),
        **_of_class(output.logits.double()),
        **_of_latent(squares),
        **_of_bands(squares, pool),
        **_of_places(v, pool),
    }


def _of_trace(trace: Traced) -> dict[str, Tensor]:
    groups = _chunks(trace.ladjs.shape[1], LADJ_GROUPS)
    ladjs = trace.ladjs.double()
    named = {"ladj": trace.ladj}
    named |= {f"ladj_{i + 1}": ladjs[:, group].sum(1) for i, group in enumerate(groups)}
    last = trace.mean_squares.shape[1] - 1
    chosen = (
        sorted(set(np.linspace(0, last, MEAN_SQUARES).round().astype(int))) if last >= 0 else ()
    )
    squares = _log(trace.mean_squares)
    return named | {f"mean_square_{i + 1}": squares[:, j] for i, j in enumerate(chosen)}


def _of_class(logits: Tensor) -> dict[str, Tensor]:
    top = logits.topk(min(2, logits.shape[1]), dim=1).values
    log_posterior = logits.log_softmax(1)
    return {
        "margin": top[:, 0] - top[:, -1],
        "entropy": -(log_posterior.exp() * log_posterior).sum(1),
    }


def _of_latent(squares: Tensor) -> dict[str, Tensor]:
    second = squares.mean(1).double()
    fourth = squares.square().mean(1).double()
    kurtosis = fourth / second.square().clamp_min(_FLOOR)
    return {"class_distance": second, "kurtosis": kurtosis}


def _of_bands(squares: Tensor, pool: DctPool) -> dict[str, Tensor]:
    """Mean squares over frequencies: one product with a (bands, H W) matrix of weights."""
    channels, height, width = pool.shape
    energy = squares.unflatten(1, (height * width, channels)).mean(2)
    return _averaged(energy, _band_weights(height, width))


@lru_cache(maxsize=8)
def _band_weights(height: int, width: int) -> Weights:
    rows, columns = np.divmod(np.arange(height * width), width)
    order = np.argsort(rows + columns, kind="stable")
    members = {f"band_{i + 1}": order[g] for i, g in enumerate(_chunks(len(order), BANDS))}
    members["band_rows"] = np.flatnonzero((rows > 0) & (columns == 0))
    members["band_columns"] = np.flatnonzero((rows == 0) & (columns > 0))
    return _averages({name: index for name, index in members.items() if len(index)}, len(order))


def _of_places(v: Tensor, pool: DctPool) -> dict[str, Tensor]:
    """Mean squares of v over regions of space: the DCT undone, then one product as for bands."""
    _, height, width = pool.shape
    energy = pool.inverse(v)[0].square().mean(1).flatten(1)
    return _averaged(energy, _place_weights(height, width))


@lru_cache(maxsize=8)
def _place_weights(height: int, width: int) -> Weights:
    cells = np.arange(height * width).reshape(height, width)
    members = {
        f"place_{i + 1}{j + 1}": cells[rows][:, columns].ravel()
        for i, rows in enumerate(_chunks(height, PLACES))
        for j, columns in enumerate(_chunks(width, PLACES))
    }
    return _averages(members, height * width)


def _averages(members: dict[str, npt.NDArray[np.intp]], size: int) -> Weights:
    """Names, and a matrix (names, size) that averages over each name's members."""
    weights = np.zeros((len(members), size), dtype=np.float32)
    for row, index in zip(weights, members.values(), strict=True):
        row[index] = 1 / len(index)
    return tuple(members), weights


def _averaged(energy: Tensor, weights: Weights) -> dict[str, Tensor]:
    names, matrix = weights
    with full_precision(energy):
        means = _log(energy @ torch.from_numpy(matrix).to(energy).T)
    return dict(zip(names, means.unbind(1), strict=True))


def _chunks(size: int, most: int) -> list[npt.NDArray[np.intp]]:
    """0..size-1 in up to ``most`` consecutive chunks, none empty."""
    return np.array_split(np.arange(size), min(size, most)) if size else []


def _log(mean_square: Tensor) -> Tensor:
    return mean_square.double().clamp_min(_FLOOR).log()

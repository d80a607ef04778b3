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
from model.transforms import DctPool, full_precision

#: Groups of couplings, bands of frequency, and places a side: at most so many.
LADJ_GROUPS, BANDS, PLACES = 6, 4, 3

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

Float32Array = npt.NDArray[np.float32]
Members = dict[str, npt.NDArray[np.intp]]

#: The least mean square that a logarithm is taken of.
_FLOOR = 1e-12


def statistics(
    output: ClassifierOutput, classifier: GenerativeClassifier
) -> tuple[tuple[str, ...], Tensor]:
    """Names, and the statistics of a batch as columns (B, names), float64.

    ``output`` must have been traced. The names depend on the classifier's configuration alone.
    """
    trace = output.trace
    if trace is None:
        raise ValueError("the output has no trace: expected that of classify(..., traced=True)")
    pool = classifier.flow.steps[-1]
    if not isinstance(pool, DctPool):
        raise ValueError(f"the flow ends in {type(pool).__name__}: expected a DctPool")
    v = output.z - classifier.class_means.of(output.logits.argmax(1))
    squares = v.square()
    _, height, width = pool.shape
    means = torch.cat([trace.mean_squares, _energies(v, squares, pool)], dim=1)
    logs = means.double().clamp_min(_FLOOR).log()
    count = trace.mean_squares.shape[1]
    groups = torch.from_numpy(_ladj_groups(trace.ladjs.shape[1])).to(trace.ladjs.device)
    values = [
        trace.ladj[:, None],
        trace.ladjs.double() @ groups,
        logs[:, :count],
        *_of_class(output.logits.double()),
        *_of_latent(squares),
        logs[:, count:],
    ]
    names = _names(trace.ladjs.shape[1], count, height, width)
    return names, torch.cat(values, dim=1)


def _of_class(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Margin and entropy, (B, 1) each."""
    top = logits.topk(min(2, logits.shape[1]), dim=1).values
    log_posterior = logits.log_softmax(1)
    entropy = -(log_posterior.exp() * log_posterior).sum(1, keepdim=True)
    return top[:, :1] - top[:, -1:], entropy


def _of_latent(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Class distance and kurtosis, (B, 1) each."""
    second = squares.mean(1, keepdim=True).double()
    fourth = squares.square().mean(1, keepdim=True).double()
    return second, fourth / second.square().clamp_min(_FLOOR)


def _energies(v: Tensor, squares: Tensor, pool: DctPool) -> Tensor:
    """Mean squares of v over bands of frequency and, its DCT undone, over places: one product."""
    channels, height, width = pool.shape
    energy = torch.cat(
        [
            squares.unflatten(1, (height * width, channels)).mean(2),
            pool.inverse(v)[0].square().mean(1).flatten(1),
        ],
        dim=1,
    )
    with full_precision(energy):
        return energy @ torch.from_numpy(_weights(height, width)).to(energy)


@lru_cache(maxsize=8)
def _names(couplings: int, mean_squares: int, height: int, width: int) -> tuple[str, ...]:
    groups = range(1, min(couplings, LADJ_GROUPS) + 1)
    return (
        "ladj",
        *(f"ladj_{i}" for i in groups),
        *(f"mean_square_{i + 1}" for i in range(mean_squares)),
        "margin",
        "entropy",
        "class_distance",
        "kurtosis",
        *_bands(height, width),
        *_places(height, width),
    )


@lru_cache(maxsize=8)
def _weights(height: int, width: int) -> Float32Array:
    """(2 H W, bands + places): averages over the frequencies of each band and cells of each place.

    The first H W rows are of frequencies, the others of space.
    """
    size = height * width
    bands, places = list(_bands(height, width).values()), list(_places(height, width).values())
    weights = np.zeros((2 * size, len(bands) + len(places)), dtype=np.float32)
    for column, index in enumerate([*bands, *(size + index for index in places)]):
        weights[index, column] = 1 / len(index)
    return weights


@lru_cache(maxsize=8)
def _ladj_groups(couplings: int) -> npt.NDArray[np.float64]:
    """(couplings, groups): sums over each group of consecutive couplings."""
    chunks = _chunks(couplings, LADJ_GROUPS)
    groups = np.zeros((couplings, len(chunks)))
    for column, index in enumerate(chunks):
        groups[index, column] = 1
    return groups


def _bands(height: int, width: int) -> Members:
    """The frequencies u W + v of each band."""
    rows, columns = np.divmod(np.arange(height * width), width)
    order = np.argsort(rows + columns, kind="stable")
    members = {f"band_{i + 1}": order[g] for i, g in enumerate(_chunks(len(order), BANDS))}
    members["band_rows"] = np.flatnonzero((rows > 0) & (columns == 0))
    members["band_columns"] = np.flatnonzero((rows == 0) & (columns > 0))
    return {name: index for name, index in members.items() if len(index)}


def _places(height: int, width: int) -> Members:
    """The cells i W + j of each place."""
    cells = np.arange(height * width).reshape(height, width)
    return {
        f"place_{i + 1}{j + 1}": cells[rows][:, columns].ravel()
        for i, rows in enumerate(_chunks(height, PLACES))
        for j, columns in enumerate(_chunks(width, PLACES))
    }


def _chunks(size: int, most: int) -> list[npt.NDArray[np.intp]]:
    """0..size-1 in up to ``most`` consecutive chunks, none empty."""
    return np.array_split(np.arange(size), min(size, most)) if size else []

"""How alike the classes are, as a matrix with like ones side by side, after Fig. 4 of Mackowiak et
al., CVPR 2021."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from calibration.arrays import FloatArray, IntArray
from model.class_similarity import expected_confidence, mean_distances
from model.classifier import GenerativeClassifier
from service.cli.explain_drawing import CAPTION, caption_under, padded, short
from train.evaluation.style import blank

#: Classes up to which each cell has its number, and each row its label; beyond, so many labels.
NUMBERED, LABELLED, LABELS = 20, 60, 40

#: Inches of the matrix's side, at least and at most.
LEAST, MOST = 4.5, 9.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Similarity:
    """Of K classes, like ones side by side: ``labels``, ``distances`` (K, K) of their means in
    standard deviations and ``confidences`` (K, K), the other's where one of two wins."""

    labels: tuple[str, ...]
    distances: FloatArray
    confidences: FloatArray


def similarity(classifier: GenerativeClassifier, labels: Sequence[str]) -> Similarity:
    """Of a model, in the order of ``clustered``."""
    distances = mean_distances(classifier).cpu().numpy()
    order = clustered(distances)
    ordered = distances[order][:, order]
    return Similarity(
        labels=tuple(labels[k] for k in order),
        distances=ordered,
        confidences=expected_confidence(torch.from_numpy(ordered)).numpy(),
    )


def clustered(distances: FloatArray) -> IntArray:
    """An order (K,) by average linkage with the best order of leaves: neighbours are alike."""
    if len(distances) < 3:
        return np.arange(len(distances))
    joined = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(joined), dtype=np.int64)


def draw_similarity(found: Similarity) -> Figure:
    """The figure, to be called under ``style.styled``."""
    count = len(found.labels)
    side = float(np.clip(0.62 * count if count <= NUMBERED else 0.16 * count, LEAST, MOST))
    figure = blank(side + 2.6, side + 1.7)
    padded(figure)
    axes = figure.add_subplot()
    off = found.distances[~np.eye(count, dtype=np.bool_)]
    low, high = (float(off.min()), float(off.max())) if len(off) else (0.0, 1.0)
    shown = np.ma.masked_where(np.eye(count, dtype=np.bool_), found.distances)
    drawn = axes.imshow(shown, cmap="cividis", vmin=low, vmax=max(high, low + 1e-9))
    _labels(axes, found.labels)
    if count <= NUMBERED:
        _numbers(axes, found, (low + high) / 2)
    _bar(figure, axes, drawn, (low, high))
    axes.set_title("how alike the classes are to the model")
    caption_under(axes, "", _words(count), side + 1.2)
    return figure


def _bar(figure: Figure, axes: Axes, drawn: AxesImage, ends: tuple[float, float]) -> None:
    """The scale, in distances and in expected confidences."""
    ticks = np.linspace(*ends, 6)
    shares = expected_confidence(torch.from_numpy(ticks)).tolist()
    words = [f"{d:.2f}  ({_share(share)})" for d, share in zip(ticks, shares, strict=True)]
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.03)
    bar.set_ticks(ticks.tolist(), labels=words)
    bar.set_label("distance of means, std  (expected confidence)", size=CAPTION)


def _labels(axes: Axes, labels: tuple[str, ...]) -> None:
    step = 1 if len(labels) <= LABELLED else -(-len(labels) // LABELS)
    places = range(0, len(labels), step)
    words = [short(labels[i], 20) for i in places]
    size = CAPTION if len(labels) <= NUMBERED else 6
    axes.set_yticks(places, words, size=size)
    axes.set_xticks(places, words, size=size, rotation=90 if len(labels) > NUMBERED else 40)
    if len(labels) <= NUMBERED:
        for word in axes.get_xticklabels():
            word.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0 if step == 1 else 2)
    axes.grid(visible=False)


def _numbers(axes: Axes, found: Similarity, middle: float) -> None:
    """Below the diagonal the distance, above it the expected confidence."""
    for (i, j), distance in np.ndenumerate(found.distances):
        if i == j:
            continue
        word = f"{distance:.2f}" if i > j else _share(float(found.confidences[i, j]))
        color = "#ffffff" if distance < middle else "#101010"
        axes.text(j, i, word, ha="center", va="center", size=7, color=color)


def _share(confidence: float) -> str:
    if confidence >= 0.0005:
        return f"{confidence:.1%}"
    return f"{confidence:.0e}" if confidence >= 1e-9 else "<1e-09"


def _words(count: int) -> str:
    words = (
        "Dark: alike. Where one of two classes wins, the other is right in the share of cases that "
        "is the expected confidence, 50% for equal classes. Classes are in the order of a "
        "hierarchical clustering, so that like ones make dark blocks along the diagonal."
    )
    if count <= NUMBERED:
        return f"{words} Below the diagonal: distance; above it: expected confidence."
    return words if count <= LABELLED else f"{words} Not every label is written."

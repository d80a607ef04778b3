"""The answer of ``POST /v1/explain``, typed, validated, and never with a NaN in it."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from service.answer import ClassifyResponse, ModelName, answer, finite
from service.ask import Ask, Reply, Wish
from service.drawing import Drawn
from service.explainer import Explained, Plane
from service.heatmap_png import heatmap_png, image_png

Grid = list[list[float | None]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class SeenImage(_Part):
    """The image as the model saw it."""

    png: str = Field(description="base64 of a PNG of the model's own size")
    height: int
    width: int


class Heatmap(_Part):
    """Which places speak for a class (above 0) and which against it."""

    label: str
    log_posterior: float | None = Field(description="nats; the sum of `values`")
    values: Grid = Field(description="rows of the last resolution, nats")
    png: str | None = Field(
        description="base64 of a PNG: over the grey image, orange for and blue against the class, "
        "all classes on one scale; null beyond those that were asked for"
    )


class Salience(_Part):
    """What each place adds to the log density; low places are improbable."""

    log_prob: float | None = Field(description="nats; the sum of `values`")
    values: Grid


class Energy(_Part):
    """How far each place is from what the predicted class looks like there."""

    values: Grid = Field(description="mean squares: 1 under the model, higher = stranger")


class PlaneClass(_Part):
    """Where a class's mean lies."""

    label: str
    x: float | None
    y: float | None


class PlanePoint(_Part):
    """Where the image lies."""

    x: float | None
    y: float | None


class DecisionPlane(_Part):
    """The image among its most probable classes, in standard deviations of a class."""

    classes: list[PlaneClass] = Field(description="most probable first, up to five")
    image: PlanePoint
    boundary: float | None = Field(
        description="the x at which the two first classes are equally probable"
    )
    radius: float = Field(
        description="of the circle about a mean that holds at least 90% of the class"
    )


class StatisticEvidence(_Part):
    """One statistic of the gate."""

    name: str
    value: float | None
    p_value: float | None = Field(description="two-sided, exact on its own; small = unusual")
    normal_score: float | None = Field(description="its rank as a quantile of N(0, 1)")
    contribution: float | None = Field(
        description="what it adds to the surprise behind the score, nats, the others considered"
    )


class Evidence(_Part):
    """What made the score what it is."""

    statistics: list[StatisticEvidence] = Field(description="largest contribution first")
    views: dict[str, float] = Field(description="share of each view in the score")


class Reference(_Part):
    """The reference's scores as a histogram; a higher score is stranger."""

    edges: list[float]
    counts: list[int]
    score: float | None
    rejected_above: float | None = Field(
        description="an image with a higher score is rejected; null: each is"
    )


class ExplainResponse(_Part):
    """A verdict with its reasons."""

    verdict: ClassifyResponse
    image: SeenImage
    heatmaps: list[Heatmap] = Field(description="most probable class first")
    salience: Salience
    energy: Energy
    decision_plane: DecisionPlane
    evidence: Evidence
    reference: Reference


class Sample(_Part):
    """An image that the model has drawn for a class."""

    label: str
    png: str


class SamplesResponse(_Part):
    """Images of nobody's: the model's own."""

    model: ModelName
    samples: list[Sample]


def explanation(ask: Ask, reply: Reply) -> ExplainResponse:
    """The one image's answer."""
    (found,) = reply.explanations
    wish = ask.explain or Wish()
    return ExplainResponse(
        verdict=answer(found.verdict, reply.labels, reply.model, reply.id, ask.top_k),
        image=SeenImage(
            png=_text(image_png(found.pixels)),
            height=found.pixels.shape[1],
            width=found.pixels.shape[2],
        ),
        heatmaps=_heatmaps(found, reply.labels, wish),
        salience=Salience(log_prob=finite(found.verdict.log_prob), values=_grid(found.salience)),
        energy=Energy(values=_grid(found.energy)),
        decision_plane=_plane(found.plane, reply.labels),
        evidence=_evidence(found),
        reference=_reference(found),
    )


def samples(model: ModelName, drawn: list[Drawn]) -> SamplesResponse:
    """Drawn images as an answer."""
    return SamplesResponse(
        model=model,
        samples=[Sample(label=one.label, png=_text(image_png(one.pixels))) for one in drawn],
    )


def _heatmaps(found: Explained, labels: tuple[str, ...], wish: Wish) -> list[Heatmap]:
    posterior = found.verdict.posterior
    order = sorted(range(len(labels)), key=lambda k: (-posterior[k], k))
    order = order[: wish.heatmaps]
    values = found.heatmaps[order]
    scale = float(np.nan_to_num(np.abs(values)).max()) or 1.0
    return [
        Heatmap(
            label=labels[k],
            log_posterior=finite(float(found.heatmaps[k].sum())),
            values=_grid(found.heatmaps[k]),
            png=_text(heatmap_png(found.pixels, np.nan_to_num(found.heatmaps[k]), scale))
            if place < wish.png
            else None,
        )
        for place, k in enumerate(order)
    ]


def _plane(plane: Plane, labels: tuple[str, ...]) -> DecisionPlane:
    return DecisionPlane(
        classes=[
            PlaneClass(label=labels[k], x=finite(x), y=finite(y))
            for k, (x, y) in zip(plane.classes, plane.means, strict=True)
        ],
        image=PlanePoint(x=finite(plane.point[0]), y=finite(plane.point[1])),
        boundary=finite(plane.boundary),
        radius=plane.radius,
    )


def _evidence(found: Explained) -> Evidence:
    return Evidence(
        statistics=[
            StatisticEvidence(
                name=one.name,
                value=finite(one.value),
                p_value=finite(one.p_value),
                normal_score=finite(one.normal_score),
                contribution=finite(one.contribution),
            )
            for one in found.evidence.statistics
        ],
        views=dict(found.evidence.views),
    )


def _reference(found: Explained) -> Reference:
    histogram = found.reference
    return Reference(
        edges=histogram.edges.tolist(),
        counts=histogram.counts.tolist(),
        score=finite(found.verdict.score),
        rejected_above=finite(histogram.rejected_above),
    )


def _grid(values: npt.NDArray[np.float64]) -> Grid:
    return [[finite(value) for value in row] for row in values.tolist()]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

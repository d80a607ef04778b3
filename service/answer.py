"""The answer of both protocols: typed, validated, and never with a NaN in it.

The gRPC message has the same fields (``protos/classifier.proto``) and is filled from this model,
so the two cannot drift apart.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.verdict import Verdict

#: Posteriors with up to this many classes are returned whole.
WHOLE_POSTERIOR = 20
#: How many classes of a longer posterior are returned unless ``top_k`` says otherwise.
DEFAULT_TOP_K = 10


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class ModelName(_Part):
    """Which bundle answered."""

    name: str
    version: str = Field(description="first 12 hex digits of the manifest's SHA-256")


class PredictedClass(_Part):
    """The most probable class."""

    index: int
    label: str


class ClassProbability(_Part):
    """One entry of the posterior."""

    label: str
    probability: float = Field(ge=0, description="calibrated p(class | image)")


class Scores(_Part):
    """Unitless score and density; for diagnosis and drift, the p-value decides."""

    score: float | None = Field(
        description="all statistics as one number, which p_value is the rank of; higher = more "
        "atypical"
    )
    log_prob: float | None = Field(description="log p(x) in nats, pixels scaled to [0, 1]")
    bits_per_dim: float | None


class UnusualStatistic(_Part):
    """One of the most extreme statistics of this image."""

    statistic: str
    p_value: float | None


class ClassifyResponse(_Part):
    """The verdict on one image: class, calibrated posterior, p-value and decision."""

    id: str = Field(description="the request's own id, or a generated one")
    model: ModelName
    predicted: PredictedClass = Field(serialization_alias="class")
    posterior: list[ClassProbability] = Field(
        description=f"most probable first; all classes up to {WHOLE_POSTERIOR}, "
        f"else the first {DEFAULT_TOP_K}; `top_k` changes it"
    )
    prediction_set: list[str] = Field(
        description="conformal set of labels, never empty; like the posterior it promises nothing "
        "where `rejected`"
    )
    p_value: float = Field(
        ge=0, le=1, description="small = atypical; the image is rejected at or below `threshold`"
    )
    p_typicality: float | None = Field(description="exact two-sided typicality test")
    p_train: float | None = Field(
        description="fraction of training scores at least as extreme, a diagnosis; null if unknown"
    )
    alpha: float = Field(description="rate of false rejections that is promised")
    delta: float = Field(description="probability that the promise fails")
    mode: str = Field(
        description="marginal, predicted_class or label_shift_safe: for whom alpha holds"
    )
    threshold: float = Field(description="what `p_value` is held against")
    reference_size: int = Field(description="calibration images the p-value ranks among")
    decision: Literal["accept", "abstain", "reject"]
    rejected: bool
    reason: Literal["ambiguous", "atypical_input"] | None
    scores: Scores
    unusual: list[UnusualStatistic] = Field(
        description="up to three statistics, the most extreme first, each with its own two-sided "
        "p-value: a diagnosis, since the smallest of many is no test"
    )


class ErrorResponse(_Part):
    """What every failure looks like."""

    error: str = Field(description="the fault, what was expected, and the remedy")
    code: str = Field(description="stable machine-readable name of the fault")


def answer(
    verdict: Verdict, labels: tuple[str, ...], model: ModelName, request_id: str, top_k: int | None
) -> ClassifyResponse:
    """Verdict to answer; ``labels`` are the bundle's, in the order of ``verdict.posterior``."""
    return ClassifyResponse(
        id=request_id,
        model=model,
        predicted=PredictedClass(index=verdict.class_index, label=verdict.class_label),
        posterior=_posterior(verdict.posterior, labels, top_k),
        prediction_set=list(verdict.prediction_set),
        p_value=verdict.p_value,
        p_typicality=finite(verdict.p_typicality),
        p_train=finite(verdict.p_train),
        alpha=verdict.alpha,
        delta=verdict.delta,
        mode=verdict.mode,
        threshold=verdict.threshold,
        reference_size=verdict.reference_size,
        decision=verdict.decision.value,
        rejected=verdict.rejected,
        reason=verdict.reason,  # type: ignore[arg-type]  # validated by the model
        scores=Scores(
            score=finite(verdict.score),
            log_prob=finite(verdict.log_prob),
            bits_per_dim=finite(verdict.bits_per_dim),
        ),
        unusual=[
            UnusualStatistic(statistic=u.statistic, p_value=finite(u.p_value))
            for u in verdict.unusual
        ],
    )


def _posterior(
    posterior: tuple[float, ...], labels: tuple[str, ...], top_k: int | None
) -> list[ClassProbability]:
    if top_k is None:
        top_k = len(labels) if len(labels) <= WHOLE_POSTERIOR else DEFAULT_TOP_K
    order = sorted(range(len(labels)), key=lambda k: (-posterior[k], k))
    return [ClassProbability(label=labels[k], probability=posterior[k]) for k in order[:top_k]]


def finite(value: float) -> float | None:
    """JSON has no word for what is no number."""
    return value if math.isfinite(value) else None

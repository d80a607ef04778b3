"""The verdict: what one image is answered with, free of any protocol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    """Typical and sure; typical but ambiguous; atypical (out of distribution or adversarial)."""

    ACCEPT = "accept"
    ABSTAIN = "abstain"
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True)
class Unusual:
    """One statistic of the forward pass and its own two-sided p-value; a diagnosis only."""

    statistic: str
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to one image. A small p-value means atypical; log_prob is in nats."""

    class_index: int
    class_label: str
    posterior: tuple[float, ...]
    prediction_set: tuple[str, ...]
    p_value: float
    p_typicality: float
    p_train: float
    alpha: float
    delta: float
    mode: str
    threshold: float
    reference_size: int
    decision: Decision
    rejected: bool
    reason: str | None
    score: float
    log_prob: float
    bits_per_dim: float
    unusual: tuple[Unusual, ...]

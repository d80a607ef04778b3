"""calibration.json: the numbers of a calibration, beside the reference table they belong to."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from calibration.arrays import FloatArray
from calibration.errors import CalibrationError

SCHEMA_VERSION = 2
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Exactly the content of calibration.json; ``asdict`` is the JSON.

    ``thresholds`` are the PAC bounds of the default ``alpha``, one for each predicted class where
    the mode has several; ``reference_sizes`` the rows of each category; ``counts`` the rows of each
    split, and ``dropped``, the rows with an error. ``weights`` and ``offsets``: of vector scaling,
    null without. ``score_rows``, ``score_groups``: rows that the combined score was fitted on, and
    densities in use, one for each class of enough rows and one for all others, if any. What follows
    from the other files stands here for readers and is compared with them on loading.
    """

    schema_version: int
    mode: str
    alpha: float
    delta: float
    thresholds: list[float]
    reference_sizes: list[int]
    temperature: float
    weights: list[float] | None
    offsets: list[float] | None
    set_method: str
    set_level: float
    q_hat: float
    posterior_borrowed: bool
    weights_sha256: str
    preprocessing_sha256: str
    dtype: str
    classes: int
    score_rows: int
    score_groups: int
    counts: dict[str, int]
    statistics: list[str]
    train_log_prob: dict[str, Any] | None

    def to_bytes(self) -> bytes:
        """UTF-8 JSON; equal records give equal bytes."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """Raises ``CalibrationError`` naming a key that is missing, unknown or of a wrong type."""
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"not JSON ({error})") from error
        if not isinstance(content, dict):
            raise CalibrationError(f"found {type(content).__name__}, expected a JSON object")
        version = content.get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:  # before its keys, which are others
            raise CalibrationError(
                f"schema_version: found {version!r}, expected {SCHEMA_VERSION}; calibrate again"
            )
        hints = get_type_hints(cls)
        for key in sorted(hints.keys() ^ content.keys()):
            raise CalibrationError(f"{key}: {'missing' if key in hints else 'an unknown key'}")
        for key, hint in hints.items():
            if not _fits(content[key], hint):
                raise CalibrationError(f"{key}: found {content[key]!r}, expected {hint}")
        return cls(**content)


def _fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is of the annotated kind, with all that is in it.

    A whole number is a float too where it is in the range of those, a bool is no number.
    """
    if isinstance(hint, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is Any:
        return True
    if hint is float and type(value) is int:
        return abs(value) <= sys.float_info.max
    if type(value) is not (get_origin(hint) or hint):
        return False
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_fits(item, get_args(hint)[-1]) for item in items)


def summary(scores: FloatArray) -> dict[str, Any] | None:
    """Mean, standard deviation and quantiles (order statistics) of scores, None when empty.

    Exactly rounded sums, so that every machine writes and verifies the same bytes.
    """
    if not len(scores):
        return None
    mean = math.fsum(scores) / len(scores)
    with np.errstate(over="ignore"):
        variance = math.fsum((scores - mean) ** 2) / len(scores)
    quantiles = np.quantile(scores, QUANTILES, method="inverted_cdf").tolist()
    return {
        "mean": mean,
        "std": math.sqrt(variance),
        "quantiles": {f"{q:g}": v for q, v in zip(QUANTILES, quantiles, strict=True)},
    }

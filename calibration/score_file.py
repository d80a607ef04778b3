"""score.safetensors: a combined score as named arrays; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from calibration.class_gaussians import ClassGaussians
from calibration.combined_score import CombinedScore, Views
from calibration.errors import CalibrationError
from calibration.normal_scores import NormalScores

_HEADER = "combined_score"
_MAPS = ("knots", "targets", "last", "slopes")
_GAUSSIANS = ("means", "whitening", "log_det")


def score_to_bytes(score: CombinedScore) -> bytes:
    """Equal scores give equal bytes."""
    arrays = {"group_of": score.group_of, **_arrays("tails", score.tails, _MAPS)}
    if score.views is not None:
        arrays |= _arrays("over_all", score.views.over_all, _MAPS)
        arrays |= _arrays("by_group", score.views.by_group, _MAPS)
        arrays |= _arrays("joint", score.views.joint, _GAUSSIANS)
        arrays |= _arrays("within", score.views.within, _GAUSSIANS)
    header = {"names": score.names, "rows": score.rows, "views": score.views is not None}
    # one key, since several would be written in any order
    return bytes(save(arrays, metadata={_HEADER: json.dumps(header)}))


def score_from_bytes(data: bytes) -> CombinedScore:
    """The inverse; raises ``CalibrationError`` for anything else."""
    try:
        header = _header(data)
        arrays = load(data)
        views = _views(arrays) if header["views"] else None
        return CombinedScore(
            names=tuple(header["names"]),
            rows=int(header["rows"]),
            group_of=arrays["group_of"],
            views=views,
            tails=NormalScores(**_part("tails", arrays, _MAPS)),
        )
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"not a combined score ({error}); calibrate again") from error


def _header(data: bytes) -> dict[str, Any]:
    """The metadata, which safetensors gives of files alone: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length])["__metadata__"][_HEADER]
    header = json.loads(found)
    if not isinstance(header, dict):
        raise TypeError(f"header {header!r}")
    return header


def _views(arrays: Mapping[str, Any]) -> Views:
    return Views(
        over_all=NormalScores(**_part("over_all", arrays, _MAPS)),
        joint=ClassGaussians(**_part("joint", arrays, _GAUSSIANS)),
        by_group=NormalScores(**_part("by_group", arrays, _MAPS)),
        within=ClassGaussians(**_part("within", arrays, _GAUSSIANS)),
    )


def _arrays(prefix: str, part: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {f"{prefix}.{name}": np.ascontiguousarray(getattr(part, name)) for name in names}


def _part(prefix: str, arrays: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: arrays[f"{prefix}.{name}"] for name in names}

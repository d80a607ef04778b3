"""score.safetensors: a combined score as named arrays; no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from calibration.class_gaussians import ClassGaussians
from calibration.combined_score import LOG_PROB, CombinedScore
from calibration.errors import CalibrationError
from calibration.normal_scores import NormalScores
from calibration.outlier_exposure import OutlierNet
from calibration.views import ENTROPY, Views

AnyArray = npt.NDArray[Any]

_HEADER = "combined_score"
_MAPS = ("knots", "targets", "last", "slopes")
_GAUSSIANS = ("means", "whitening", "log_det")


def score_to_bytes(score: CombinedScore) -> bytes:
    """Equal scores give equal bytes."""
    arrays = {"group_of": score.group_of, **_arrays("over_all", score.over_all, _MAPS)}
    if score.views is not None:
        arrays |= _arrays("tails", score.tails, _MAPS)
        arrays |= _arrays("by_group", score.views.by_group, _MAPS)
        arrays |= _arrays("joint", score.views.joint, _GAUSSIANS)
        arrays |= _arrays("within", score.views.within, _GAUSSIANS)
    header: dict[str, Any] = {"names": score.names, "rows": score.rows}
    header["views"] = score.views is not None
    if score.views is not None and score.views.outliers is not None:
        net = score.views.outliers
        for layer, (weights, biases) in enumerate(zip(net.weights, net.biases, strict=True)):
            arrays |= {f"outliers.weights_{layer}": weights, f"outliers.biases_{layer}": biases}
        header["outlier_layers"] = len(net.weights)
    # one key, since several would be written in any order
    return bytes(save(arrays, metadata={_HEADER: json.dumps(header)}))


def score_from_bytes(data: bytes) -> CombinedScore:
    """The inverse; raises ``CalibrationError`` for anything else.

    What it gives can be used: names, shapes, types and indices fit each other. That its numbers
    are those written is for a hash to say.
    """
    try:
        return _score(*_header(data), load(data))
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CalibrationError(f"not a combined score ({error}); calibrate again") from error


def _header(data: bytes) -> tuple[tuple[str, ...], int, bool, int]:
    """Names, rows, whether there are views, and layers of their network, of the metadata.

    That safetensors gives of files alone: 8 bytes of length, then JSON.
    """
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length])["__metadata__"][_HEADER]
    header = json.loads(found)
    names, rows, views = header["names"], header["rows"], header["views"]
    strings = type(names) is list and all(type(name) is str for name in names)
    layers = header.get("outlier_layers", 0)  # earlier versions had no such view
    if not (strings and type(rows) is int and type(views) is bool and type(layers) is int):
        raise TypeError(f"header {header!r}")
    if len(set(names)) < max(1, len(names)) or not (views or LOG_PROB in names):
        raise ValueError(f"names {names!r}")
    if layers < 0 or (layers and not views):
        raise ValueError(f"outlier_layers {layers!r}")
    return tuple(names), rows, views, layers


def _score(
    names: tuple[str, ...],
    rows: int,
    has_views: bool,
    layers: int,
    arrays: Mapping[str, AnyArray],
) -> CombinedScore:
    groups = len(arrays["joint.means"]) if has_views else 1
    (classes,) = arrays["group_of"].shape
    group_of = _array(arrays, "group_of", (classes,), np.int64)
    _check_indices("group_of", group_of, groups)
    columns = 2 + (ENTROPY in names) + (layers > 0)
    return CombinedScore(
        names=names,
        rows=rows,
        group_of=group_of,
        over_all=_maps("over_all", arrays, 1, len(names)),
        views=_views(arrays, groups, len(names), layers) if has_views else None,
        tails=_maps("tails", arrays, 1, columns) if has_views else None,
    )


def _views(arrays: Mapping[str, AnyArray], groups: int, size: int, layers: int) -> Views:
    return Views(
        joint=_gaussians("joint", arrays, groups, size),
        by_group=_maps("by_group", arrays, groups, size),
        within=_gaussians("within", arrays, groups, size),
        outliers=_outlier_net(arrays, size, layers) if layers else None,
    )


def _outlier_net(arrays: Mapping[str, AnyArray], size: int, layers: int) -> OutlierNet:
    weights, biases = [], []
    for layer in range(layers):
        last = layer == layers - 1
        units = 1 if last else arrays[f"outliers.weights_{layer}"].shape[-1]
        weights.append(_array(arrays, f"outliers.weights_{layer}", (size, units)))
        biases.append(_array(arrays, f"outliers.biases_{layer}", (units,)))
        size = units
    return OutlierNet(weights=tuple(weights), biases=tuple(biases))


def _maps(prefix: str, arrays: Mapping[str, AnyArray], groups: int, size: int) -> NormalScores:
    count = arrays[f"{prefix}.knots"].shape[-1]
    last = _array(arrays, f"{prefix}.last", (groups, size), np.int64)
    _check_indices(f"{prefix}.last", last, count)
    return NormalScores(
        knots=_array(arrays, f"{prefix}.knots", (groups, size, count), padded=True),
        targets=_array(arrays, f"{prefix}.targets", (groups, size, count)),
        last=last,
        slopes=_array(arrays, f"{prefix}.slopes", (groups, size, 2)),
    )


def _gaussians(
    prefix: str, arrays: Mapping[str, AnyArray], groups: int, size: int
) -> ClassGaussians:
    return ClassGaussians(
        means=_array(arrays, f"{prefix}.means", (groups, size)),
        whitening=_array(arrays, f"{prefix}.whitening", (groups, size, size)),
        log_det=_array(arrays, f"{prefix}.log_det", (groups,)),
    )


def _arrays(prefix: str, part: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {f"{prefix}.{name}": np.ascontiguousarray(getattr(part, name)) for name in names}


def _array(
    arrays: Mapping[str, AnyArray],
    name: str,
    shape: tuple[int, ...],
    kind: type[np.generic] = np.float64,
    padded: bool = False,
) -> AnyArray:
    """One array of a shape and type, without NaN, and finite unless ``padded``."""
    found = arrays[name]
    if found.shape != shape or found.dtype != kind:
        raise ValueError(
            f"{name}: found {found.dtype} {found.shape}, expected {np.dtype(kind)} {shape}"
        )
    if np.isnan(found).any() or not (padded or np.isfinite(found).all()):
        raise ValueError(f"{name}: found numbers that are not finite")
    return found


def _check_indices(name: str, found: AnyArray, count: int) -> None:
    if not found.size or found.min() < 0 or found.max() >= count:
        raise ValueError(f"{name}: found {found.tolist()}, expected whole numbers below {count}")

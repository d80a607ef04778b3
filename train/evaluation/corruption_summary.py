"""Cells of corruptions together: by corruption, by severity, and by classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from calibration.detection import Rate, clopper_pearson
from calibration.metrics import CONFIDENT
from train.evaluation import published
from train.evaluation.corruption_cells import Cell, Classified
from train.evaluation.corruption_error import Errors, mce, relative_mce
from train.evaluation.measure import Held
from train.evaluation.pairs import Mean, mean_of

#: The kind of a baseline whose errors others are divided by.
RESNET = "resnet"


@dataclass(frozen=True, kw_only=True)
class AtSeverity:
    """All corruptions of one severity, 0 for none: ``found``, the mean over them.

    ``accuracy``, ``accuracy_accepted``, ``rejected``, ``abstained``: of the model and its gate.
    ``baselines``: name -> accuracy. Intervals: see ``pooled``.
    """

    severity: int
    found: Mean | None
    accuracy: Rate
    accuracy_accepted: Rate
    accuracy_rejected: Rate
    rejected: Rate
    abstained: Rate
    baselines: Mapping[str, Rate]


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """A classifier over all corruptions and severities, whatever a gate says.

    ``corrupted``: mean accuracy, in [0, 1]. ``oce_corrupted``: over all confident predictions of
    corrupted images. ``mce``, ``relative_mce``: over the ResNet's errors, None without one.
    ``delta_entropy``: mean entropy of the posterior on corrupted images less that on clean ones,
    nats; higher = it notices more.
    """

    source: str
    accuracy: Rate
    corrupted: float
    oce: float | None
    oce_corrupted: float | None
    mce: float | None
    relative_mce: float | None
    delta_entropy: float


@dataclass(frozen=True, kw_only=True)
class Corruptions:
    """All numbers of the suite. ``stored``: the control, None where storing loses nothing.

    ``detectors``: name -> words; ``reference``: the baseline that errors are divided by;
    ``storage``: how corrupted images are stored, in words.
    """

    detectors: Mapping[str, str]
    storage: str
    seed: int
    rows: int
    reference: str | None
    clean: Cell
    stored: Cell | None
    cells: tuple[Cell, ...]
    by_corruption: tuple[Mean, ...]
    mean: Mean
    by_severity: tuple[AtSeverity, ...]
    robustness: tuple[Robustness, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it, and what others have published, marked as such."""
        beside = {
            "source": published.SOURCE,
            "auroc_beta_2": dict(published.AUROC_BETA_2),
            "table": [asdict(row) for row in published.TABLE],
        }
        return {**asdict(self), "published": beside}


def summed_up(
    held: Held, cells: Sequence[Cell], clean: Cell, stored: Cell | None, storage: str, seed: int
) -> Corruptions:
    """``cells``: each corruption at each severity."""
    kinds = {baseline.name: baseline.kind for baseline in held.baselines}
    reference = next((name for name, kind in kinds.items() if kind == RESNET), None)
    by_name = {name: [c for c in cells if c.corruption == name] for name in _names(cells)}
    severities = sorted({cell.severity for cell in (clean, *cells)})
    return Corruptions(
        detectors=held.judge.titles(tuple(kinds)),
        storage=storage,
        seed=seed,
        rows=len(held.known.images),
        reference=reference,
        clean=clean,
        stored=stored,
        cells=tuple(cells),
        by_corruption=tuple(_mean(*named) for named in by_name.items()),
        mean=_mean("corruptions", cells),
        by_severity=tuple(
            _at(severity, [c for c in (clean, *cells) if c.severity == severity])
            for severity in severities
        ),
        robustness=_robustness(clean, cells, reference),
    )


def pooled(rates: Sequence[Rate]) -> Rate:
    """All counts together; an interval as if each image counted once.

    The same images are in each of the rates, so that what a pooled count knows is between that of
    one rate and of all: the interval is of the mean rate's size, on the safe side.
    """
    count, total = sum(rate.count for rate in rates), sum(rate.total for rate in rates)
    share = count / total if total else None
    low, high = clopper_pearson(round(count / len(rates)), round(total / len(rates)))
    return Rate(count=count, total=total, share=share, low=low, high=high)


def _names(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.corruption for cell in cells))


def _mean(name: str, cells: Sequence[Cell]) -> Mean:
    """Unweighted, over the cells; ``name`` is what it is of."""
    found = mean_of(name, [replace(cell.pair, group=name) for cell in cells])
    if found is None:
        raise ValueError(f"{name}: no cells to take a mean over")
    return found


def _at(severity: int, cells: Sequence[Cell]) -> AtSeverity:
    def together(rate: Callable[[Cell], Rate]) -> Rate:
        return pooled([rate(cell) for cell in cells])

    theirs = range(1, len(cells[0].classified))
    return AtSeverity(
        severity=severity,
        found=_mean(f"severity {severity}", cells) if severity else None,
        accuracy=together(lambda cell: cell.model.accuracy),
        accuracy_accepted=together(lambda cell: cell.accuracy_accepted),
        accuracy_rejected=together(lambda cell: cell.accuracy_rejected),
        rejected=together(lambda cell: cell.pair.rejected),
        abstained=together(lambda cell: cell.pair.abstained),
        baselines={
            cells[0].classified[i].source: pooled([cell.classified[i].accuracy for cell in cells])
            for i in theirs
        },
    )


def _robustness(
    clean: Cell, cells: Sequence[Cell], reference: str | None
) -> tuple[Robustness, ...]:
    sources = [found.source for found in clean.classified]
    index = sources.index(reference) if reference else None
    theirs = None if index is None else _errors(cells, index)
    rows = []
    for i, before in enumerate(clean.classified):
        over: tuple[float | None, float | None] = None, None
        if theirs is not None and index is not None:
            ours, clean_error = _errors(cells, i), _error(before)
            over = (
                mce(ours, theirs),
                relative_mce(ours, clean_error, theirs, _error(clean.classified[index])),
            )
        rows.append(_row(before, [cell.classified[i] for cell in cells], *over))
    return tuple(rows)


def _row(
    before: Classified, after: Sequence[Classified], over: float | None, relative: float | None
) -> Robustness:
    return Robustness(
        source=before.source,
        accuracy=before.accuracy,
        corrupted=float(np.mean([1 - _error(found) for found in after])),
        oce=before.oce,
        oce_corrupted=_oce(after),
        mce=over,
        relative_mce=relative,
        delta_entropy=float(np.mean([found.entropy for found in after])) - before.entropy,
    )


def _oce(found: Sequence[Classified]) -> float | None:
    """Errors among all confident predictions, over what their confidence allows."""
    sure = sum(one.oce_rows for one in found)
    wrong = sum((one.oce or 0.0) * one.oce_rows for one in found) * (1 - CONFIDENT)
    return wrong / sure / (1 - CONFIDENT) if sure else None


def _errors(cells: Sequence[Cell], index: int) -> Errors:
    errors: dict[str, list[float]] = {}
    for cell in cells:
        errors.setdefault(cell.corruption, []).append(_error(cell.classified[index]))
    return errors


def _error(found: Classified) -> float:
    return 1 - found.accuracy.count / found.accuracy.total

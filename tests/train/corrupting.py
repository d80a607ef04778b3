"""Cells of corruptions that were never measured, to sum up."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import cast

import numpy as np

from calibration.detection import rate_of
from train.evaluation.corruption_cells import CLEAN, Cell, Classified
from train.evaluation.corruption_summary import Corruptions, summed_up
from train.evaluation.measure import Held
from train.evaluation.pairs import Found, Pair
from train.evaluation.posterior import MODEL
from train.evaluation.sets import OTHER

ROWS = 1000
TITLES = {
    "typicality": "typicality",
    "entropy": "entropy",
    "input_statistics": "input only",
    "gate": "the gate",
}
GOOD = {"typicality": 0.6, "entropy": 0.7, "input_statistics": 0.8, "gate": 0.9}


def cell(
    name: str = "snow",
    severity: int = 1,
    *,
    aurocs: Mapping[str, float] | None = None,
    tpr_05: float = 0.8,
    right: int = 700,
    accepted: tuple[int, int] = (450, 500),
    entropy: float = 0.5,
    resnet: int | None = None,
) -> Cell:
    """``right`` of ``ROWS``; ``accepted``: right, and how many of them there are."""
    found = tuple(
        Found(detector=detector, auroc=auroc, fpr95=0.5, tpr_01=tpr_05 / 2, tpr_05=tpr_05)
        for detector, auroc in (aurocs or GOOD).items()
    )
    count, total = accepted
    classified = [classifier(MODEL, right, entropy)]
    if resnet is not None:
        classified.append(classifier("net", resnet, 0.4))
    return Cell(
        corruption=name,
        severity=severity,
        pair=Pair(
            name=f"{name} {severity}", data="known", group=OTHER, excluded=None, note=None,
            rows=ROWS, refused=0, shared=0, not_finite=0, found=found,
            rejected=rate_of(ROWS - total, ROWS), abstained=rate_of(0, ROWS),
        ),
        classified=tuple(classified),
        accuracy_accepted=rate_of(count, total),
        accuracy_rejected=rate_of(right - count, ROWS - total),
    )  # fmt: skip


def classifier(source: str, right: int, entropy: float) -> Classified:
    """With an OCE of 10 in 100 confident predictions: 3 errors."""
    return Classified(
        source=source, accuracy=rate_of(right, ROWS), entropy=entropy, oce=10.0, oce_rows=100
    )


def clean(resnet: int | None = None) -> Cell:
    return cell(CLEAN, 0, right=900, accepted=(860, 950), entropy=0.2, resnet=resnet)


def summary(*cells: Cell, resnet: int | None = None, stored: Cell | None = None) -> Corruptions:
    """Of the cells; ``resnet``: how many clean images a baseline "net" has right."""
    baselines = () if resnet is None else (SimpleNamespace(name="net", kind="resnet"),)
    held = SimpleNamespace(
        baselines=baselines,
        judge=SimpleNamespace(titles=lambda _: TITLES),
        known=SimpleNamespace(images=np.zeros(ROWS)),
    )
    return summed_up(cast(Held, held), cells, clean(resnet), stored, "stored without loss", 0)

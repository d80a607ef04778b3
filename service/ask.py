"""What a face hands to the engine, and what it gets back; free of any protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from service.answer import ModelName
from service.verdict import Verdict

if TYPE_CHECKING:  # torch comes with it, and proxies need not load that
    from service.explainer import Explained


#: Contrasts of heatmaps: all classes count alike below, the most probable alone above.
MIN_CONTRAST, MAX_CONTRAST = 1e-3, 1e3
#: Classes whose heatmaps one answer of our own face shows unless asked otherwise, and at most.
HEATMAPS, MAX_HEATMAPS = 5, 100


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An explanation that is wished for: how sharply heatmaps tell classes apart, see
    ``model.heatmaps``, of how many classes they are shown (None: all), and of how many of these as
    a picture, too."""

    contrast: float = 1.0
    heatmaps: int | None = None
    png: int = 1


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images that a model is to draw: which model, how many, from which seed."""

    model: str
    count: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Images and the parameters beside them.

    ``images`` are encoded ones, or an array of raw pixels whose first axis counts them. ``model``
    and ``version`` may be empty: the first model that is served, in the version it has.
    ``timeout_s``: when the answer is of no use any more, counted from now. ``explain``: None where
    the verdict is all that is asked for.
    """

    images: Sequence[bytes] | npt.NDArray[Any]
    model: str = ""
    version: str = ""
    alpha: float | None = None
    id: str = ""
    top_k: int | None = None
    timeout_s: float | None = None
    explain: Wish | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Verdicts in the order of the images, all by one model; ``labels`` in its index order.

    ``explanations``: as many where they were asked for, else none.
    """

    id: str
    model: ModelName
    labels: tuple[str, ...]
    verdicts: Sequence[Verdict]
    explanations: Sequence[Explained] = ()

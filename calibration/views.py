"""The views of S: what each finds of an image before it becomes a normal score.

How they are put together, and what each is, is in ``calibration.combined_score``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.arrays import FloatArray, IntArray
from calibration.class_gaussians import ClassGaussians
from calibration.normal_scores import NormalScores
from calibration.outlier_exposure import OutlierNet

#: The statistic behind the view ``ambiguity``.
ENTROPY = "entropy"
#: Log of the weight of the ambiguity beside that of the other views.
AMBIGUITY = math.log(1 / 4)
#: The views, in the order of their columns; S may lack the last two.
VIEWS = (JOINT, WITHIN, DOUBT, DISTORTION) = ("joint", "within", "ambiguity", "distortion")


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """The two densities: a Gaussian of shared normal scores, and of those within the group; and
    the network that knows ``outliers``, None where there were none."""

    joint: ClassGaussians
    by_group: NormalScores
    within: ClassGaussians
    outliers: OutlierNet | None

    @classmethod
    def fit(
        cls,
        x: FloatArray,
        shared: FloatArray,
        group: IntArray,
        groups: int,
        outliers: FloatArray | None,
    ) -> Views:
        """Of rows (n, S), their ``shared`` normal scores (n, S) and groups (n,).

        The last of ``groups`` is that of all rows; ``outliers`` (m, S) are shared normal scores.
        """
        index = [members(group, g, groups) for g in range(groups)]
        by_group = NormalScores.fit([x[rows] for rows in index])
        own = [by_group(x[rows], np.full(len(rows), g)) for g, rows in enumerate(index)]
        return cls(
            joint=ClassGaussians.fit([shared[rows] for rows in index], shared),
            by_group=by_group,
            within=ClassGaussians.fit(own, np.concatenate(own)),
            outliers=None if outliers is None else OutlierNet.fit(shared, outliers),
        )

    def columns(
        self, x: FloatArray, shared: FloatArray, group: IntArray, names: Sequence[str]
    ) -> FloatArray:
        """Of rows (N, S) of the statistics ``names``: what each view that there is finds, before
        it becomes a normal score, (N, V) in the order of ``views_of``."""
        found = [self.surprise(x, shared, group)]
        if ENTROPY in names:
            found.append(x[:, [names.index(ENTROPY)]])
        if self.outliers is not None:
            found.append(self.outliers(shared)[:, None])
        return np.concatenate(found, axis=1)

    def surprise(self, x: FloatArray, shared: FloatArray, group: IntArray) -> FloatArray:
        """Of rows (N, S) and their shared normal scores: (N, 2), joint and within."""
        own = self.by_group(x, group)
        return np.stack(
            [self.joint.surprise(shared, group), self.within.surprise(own, group)], axis=1
        )


def members(group: IntArray, g: int, groups: int) -> IntArray:
    """Rows of group ``g`` of ``groups``, the last of which is that of all rows."""
    return np.arange(len(group)) if g == groups - 1 else np.flatnonzero(group == g)

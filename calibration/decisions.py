"""What a calibration says about a batch of images, as arrays of one length."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """N answers; each field is (N,) unless said otherwise. Row i depends on image i alone.

    - ``class_index``: most probable class; ``posterior`` (N, K): calibrated, rows sum to 1
    - ``prediction_set`` (N, K): holds the true class at the calibration's ``set_level``; never
      empty. It and the posterior promise nothing where ``rejected``
    - ``p_value``: decides, the rank of ``score``; ``p_typicality``: exact two-sided test of
      log p(x). Small = atypical
    - ``p_train``: the paper's fraction of training scores; NaN without a training reference
    - ``alpha``, ``threshold``: what was asked, and the PAC bound l'/(n + 1) that follows from it
    - ``reference_size``: the n behind the row's p_value
    - ``rejected``: p_value <= threshold; ``abstained``: not rejected, but several classes in the
      set
    - ``score``: S of ``calibration.combined_score``, larger = stranger; NaN where a score is not
      finite, and then rejected
    - ``unusual``: per row up to three (statistic, own two-sided p), the most extreme first
    """

    class_index: IntArray
    posterior: FloatArray
    prediction_set: BoolArray
    p_value: FloatArray
    p_typicality: FloatArray
    p_train: FloatArray
    alpha: FloatArray
    threshold: FloatArray
    reference_size: IntArray
    rejected: BoolArray
    abstained: BoolArray
    score: FloatArray
    unusual: list[list[tuple[str, float]]]

"""What a report calls bad news: each check fires on what it is for, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calibration.detection import Rate
from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL
from train.evaluation.findings import bad_news
from train.evaluation.measure import Evaluation, KnownSet
from train.evaluation.pairs import Found, Pair
from train.evaluation.posterior import PosteriorReport
from train.evaluation.rates import ClassRates, Realised
from train.evaluation.sets import OTHER
from train.evaluation.tables import main_table

NONE = Rate(count=0, total=0, share=None, low=0, high=1)
FIVE = Rate(count=50, total=1000, share=0.05, low=0.037, high=0.066)
MANY = Rate(count=90, total=1000, share=0.09, low=0.073, high=0.109)
POSTERIOR = PosteriorReport(
    source="this model",
    accuracy=FIVE,
    nll=0.1,
    brier=0.1,
    ece=0.01,
    ece_debiased=0.0,
    ece_low=0.0,
    ece_high=0.02,
    ece_if_calibrated=0.015,
    ece_class_wise=0.01,
    oce=None,
    oce_rows=0,
    aurc=0.1,
)


def found(detector: str, auroc: float, tpr_05: float | None = 0.9) -> Found:
    return Found(detector=detector, auroc=auroc, fpr95=0.1, tpr_01=tpr_05, tpr_05=tpr_05)


def pair(*figures: Found) -> Pair:
    return Pair(
        name="odd",
        data="odd",
        group=OTHER,
        excluded=None,
        note=None,
        rows=10,
        refused=0,
        shared=0,
        not_finite=0,
        found=figures,
        rejected=FIVE,
        abstained=FIVE,
    )


GOOD = Evaluation(
    known=KnownSet(data="known", rows=1000, refused=0, labelled=1000, not_finite=0),
    detectors={"entropy": "entropy", "input_statistics": "input only", "gate": "the gate"},
    baselines={},
    limit=None,
    mode=MARGINAL,
    pairs=(pair(found("entropy", 0.9), found("input_statistics", 0.9), found("gate", 0.95)),),
    means=(),
    realised=(Realised(alpha=0.05, rate=FIVE, rank=50, band=(0.03, 0.07)),),
    rejected=FIVE,
    abstained=FIVE,
    classes=(
        ClassRates(label="shoe", at=(NONE, FIVE, FIVE), most=None, rejected=FIVE, abstained=FIVE),
    ),
    posteriors=(POSTERIOR,),
)


def test_all_is_well() -> None:
    assert bad_news(GOOD) == ()


def test_no_better_than_input_statistics() -> None:
    worse = pair(found("input_statistics", 0.9), found("gate", 0.9))
    (said,) = bad_news(replace(GOOD, pairs=(worse,)))
    assert "no better than that of input statistics only: odd (0.900 against 0.900)" in said
    full = pair(found("input_statistics", 1.0), found("gate", 0.999))
    (said,) = bad_news(replace(GOOD, pairs=(worse, replace(full, name="far"))))
    assert said.endswith("odd (0.900 against 0.900); where both are above 0.995: far.")


@pytest.mark.parametrize(("auroc", "ahead"), [(0.954, False), (0.956, True)])
def test_another_detector_ahead(auroc: float, ahead: bool) -> None:
    said = bad_news(replace(GOOD, pairs=(pair(found("entropy", auroc), found("gate", 0.95)),)))
    assert bool(said) == ahead
    assert not ahead or "odd (entropy 0.956, the gate 0.950)" in said[0]


def test_strangers_that_pass() -> None:
    (said,) = bad_news(replace(GOOD, pairs=(pair(found("gate", 0.95, 0.49)),)))
    assert said == "Most strangers pass at conformal 5%: odd (49.0% found)."


def test_rates_off() -> None:
    above = Realised(alpha=0.05, rate=MANY, rank=50, band=(0.03, 0.07))
    (said,) = bad_news(replace(GOOD, realised=(above,)))
    assert said.startswith("9.00% of the known images have p ≤ 0.05, outside of the 3.00% to 7.00%")
    (said,) = bad_news(replace(GOOD, realised=(replace(above, rank=None, band=None),)))
    assert "above alpha by more than the chance in these images" in said
    calm = Realised(alpha=0.05, rate=FIVE, rank=None, band=None)
    assert bad_news(replace(GOOD, realised=(calm,))) == ()


def test_a_class_above_alpha() -> None:
    shoe = replace(GOOD.classes[0], at=(NONE, MANY, FIVE))
    (said,) = bad_news(replace(GOOD, classes=(shoe,)))
    assert said == (
        "Above alpha 0.05 within a class, which mode marginal does not promise: shoe (9.00%)."
    )


@pytest.mark.parametrize(("most", "above"), [(89, True), (90, False)])
def test_a_class_above_what_is_promised(most: int, above: bool) -> None:
    """By the count of a perfect gate, whatever the interval of the share is."""
    shoe = replace(GOOD.classes[0], at=(NONE, MANY, FIVE), most=(0, most, 200))
    said = bad_news(replace(GOOD, mode=LABEL_SHIFT_SAFE, classes=(shoe,)))
    told = "Refused more often at alpha 0.05 than a perfect gate refuses a class: shoe (9.00%)."
    assert said == ((told,) if above else ())


def test_another_detector_ahead_beside_better_input_statistics() -> None:
    three = pair(found("entropy", 0.97), found("input_statistics", 0.98), found("gate", 0.95))
    plain, other = bad_news(replace(GOOD, pairs=(three,)))
    assert "input statistics only: odd (0.950 against 0.980)" in plain
    assert "odd (entropy 0.970, the gate 0.950)" in other


def test_a_posterior_that_is_off() -> None:
    (said,) = bad_news(replace(GOOD, posteriors=(replace(POSTERIOR, ece=0.016),)))
    assert "calibration error of this model, 0.0160, is more than chance" in said


def test_the_main_table_holds_the_gate_against_the_others() -> None:
    near = pair(found("entropy", 0.97), found("input_statistics", 0.9502), found("gate", 0.95))
    (row,) = main_table(replace(GOOD, pairs=(near,))).rows
    assert row[:3] == ("odd", "10", "0.950")
    assert row[-3:] == ("0.950", "+0.000", "entropy: 0.970")

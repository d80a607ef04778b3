"""Means and bad news of corruptions, on cells made by hand."""

from __future__ import annotations

import pytest

from calibration.detection import clopper_pearson, rate_of
from tests.train.corrupting import GOOD, cell, summary
from train.evaluation import published
from train.evaluation.corruption_cells import STORED, Cell
from train.evaluation.corruption_findings import bad_news, checked, in_short
from train.evaluation.corruption_summary import pooled
from train.evaluation.corruption_tables import (
    auroc_of_corruptions,
    cell_table,
    robustness_table,
    severity_table,
)
from train.evaluation.corruptions import CORRUPTIONS
from train.evaluation.tables import DASH


def test_means_over_severities_and_over_corruptions() -> None:
    found = summary(
        cell("snow", 1, aurocs={**GOOD, "gate": 0.7}),
        cell("snow", 5, aurocs={**GOOD, "gate": 0.9}),
        cell("fog", 1, aurocs={**GOOD, "gate": 1.0}),
        cell("fog", 5, aurocs={**GOOD, "gate": 1.0}),
    )
    gates = [mean.by("gate") for mean in (*found.by_corruption, found.mean)]
    assert [gate.auroc for gate in gates if gate] == pytest.approx([0.8, 1.0, 0.9])
    assert [mean.group for mean in found.by_corruption] == ["snow", "fog"]
    assert [row.severity for row in found.by_severity] == [0, 1, 5]
    at_5 = found.by_severity[2].found
    assert at_5 is not None
    gate = at_5.by("gate")
    assert gate is not None
    assert gate.auroc == pytest.approx(0.95)


def test_a_pooled_rate_counts_each_image_once() -> None:
    found = pooled([rate_of(90, 100), rate_of(70, 100)])
    assert (found.count, found.total, found.share) == (160, 200, 0.8)
    assert (found.low, found.high) == clopper_pearson(80, 100)
    assert pooled([rate_of(3, 7)]) == rate_of(3, 7)
    nothing = pooled([rate_of(0, 0), rate_of(0, 0)])
    assert (nothing.share, nothing.low, nothing.high) == (None, 0.0, 1.0)


def test_robustness_over_the_resnet() -> None:
    """Errors .4 + .6 over .2 + .3, and lost .3 + .5 over .1 + .2; the ResNet itself is 100."""
    weak = cell("snow", 2, right=400, accepted=(300, 500), resnet=700)
    found = summary(cell("snow", 1, right=600, resnet=800), weak, resnet=900)
    ours, theirs = found.robustness
    assert ours.mce == pytest.approx(100 * 1.0 / 0.5)
    assert ours.relative_mce == pytest.approx(100 * 0.8 / 0.3)
    assert theirs.mce == theirs.relative_mce == pytest.approx(100)
    assert ours.corrupted == pytest.approx(0.5)
    assert ours.delta_entropy == pytest.approx(0.5 - 0.2)
    assert ours.oce == ours.oce_corrupted == pytest.approx(10)
    assert found.by_severity[2].baselines["net"].share == 0.7


def test_without_a_resnet() -> None:
    found = summary(cell())
    assert found.robustness[0].mce is None
    table = robustness_table(found)
    assert table.rows[0][5:7] == (DASH, DASH)
    assert "they need the errors of a ResNet trained alike" in table.caption


def test_a_cell_is_read_as_it_was_written() -> None:
    found = cell("fog", 3, resnet=10)
    assert Cell.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="not a cell of this version"):
        Cell.from_json({"corruption": "fog"})


def test_all_is_well() -> None:
    assert bad_news(summary(cell("snow", 1), cell("fog", 1), resnet=None)) == ()


@pytest.mark.parametrize(("auroc", "bad"), [(0.64, True), (0.66, False)])
def test_hard_corruptions(auroc: float, bad: bool) -> None:
    low = {"typicality": 0.5, "entropy": 0.5, "input_statistics": 0.5, "gate": auroc}
    others = [cell(name, 1) for name in ("frost", "fog")]
    said = bad_news(summary(cell("snow", 1, aurocs=low), *others))
    assert said == (("The gate's AUROC is below 0.65 on snow 0.640.",) if bad else ())
    assert bad_news(summary(cell("contrast", 1, aurocs=low), *others)) == ()


def test_means_that_are_not_far_enough_ahead() -> None:
    near = {"typicality": 0.81, "entropy": 0.5, "input_statistics": 0.88, "gate": 0.90}
    typicality, plain = bad_news(summary(cell(aurocs=near)))
    assert "+0.090 against typicality (0.900 and 0.810), asked is +0.10" in typicality
    assert "+0.020 against input only (0.900 and 0.880), asked is +0.03" in plain


def test_another_detector_ahead() -> None:
    (said,) = bad_news(summary(cell(aurocs={**GOOD, "entropy": 0.906})))
    assert said == "Another detector is ahead of the gate: snow (entropy 0.906, the gate 0.900)."


def test_what_passes_at_the_strongest_severity() -> None:
    weak = [cell("fog", severity, tpr_05=0.1) for severity in (1, 2)]
    (said,) = bad_news(summary(*weak, cell("snow", 1), cell("snow", 2)))
    assert said == "At severity 2 most pass at conformal 5%: fog (10.0% found)."


@pytest.mark.parametrize(("right", "bad"), [(350, True), (351, False)])
def test_accuracy_of_the_accepted(right: int, bad: bool) -> None:
    """70% of all are right: 350 of 500 is no better."""
    said = bad_news(summary(cell(accepted=(right, 500))))
    assert bool(said) == bad
    assert not bad or "not above that on all at severity 1 (70.00% against 70.00%)" in said[0]


def test_none_accepted() -> None:
    (said,) = bad_news(summary(cell(accepted=(0, 0))))
    assert f"severity 1 ({DASH} against 70.00%)" in said


def test_more_errors_than_the_resnet_and_a_surer_posterior() -> None:
    worse, surer = bad_news(summary(cell(right=600, resnet=800, entropy=0.1), resnet=900))
    assert "more errors than net: mCE 200.0" in worse
    assert "Δ entropy -0.100 nats" in surer


@pytest.mark.parametrize(("auroc", "bad"), [(0.56, True), (0.54, False)])
def test_told_by_how_they_are_stored(auroc: float, bad: bool) -> None:
    control = cell(STORED, 0, aurocs={**GOOD, "gate": auroc})
    said = bad_news(summary(cell(), stored=control))
    assert bool(said) == bad
    assert not bad or "Storing images anew is told from clean ones already" in said[0]


def test_in_short() -> None:
    first, second = in_short(summary(cell(resnet=800), resnet=900))
    assert "mean of 1 at 1 severities: the gate's AUROC is 0.900, typicality's 0.600" in first
    assert "Accuracy 90.00% on clean and 70.00% on corrupted images; mCE 150.0 over net" in second
    assert "70.00% on all and 90.00% on the accepted; 50.00% are rejected" in second
    assert "snow, frost, brightness below an AUROC of 0.65" in checked()


def test_the_tables() -> None:
    found = summary(cell("snow", 1, resnet=800), cell("fog", 1, resnet=800), resnet=900)
    table = auroc_of_corruptions(found)
    assert table.heads[2] == "published, ImageNet: typicality, β = 2"
    assert [row[0] for row in table.rows] == ["snow", "fog", "mean of 2"]
    assert [row[2] for row in table.rows] == ["0.309", "0.965", "0.736"]
    assert table.rows[0][1:] == ("0.600", "0.309", "0.700", "0.800", "0.900")
    for row in (*table.rows, *severity_table(found).rows, *cell_table(found).rows):
        assert row
    for built in (table, severity_table(found), cell_table(found), robustness_table(found)):
        assert {len(row) for row in built.rows} == {len(built.heads)}
    assert severity_table(found).rows[1][3] == "+20.00"


def test_published_rows_are_named_so() -> None:
    table = robustness_table(summary(cell()))
    theirs = [row for row in table.rows if row[0] != "this model"]
    assert len(theirs) == len(published.TABLE) == 9
    assert all(row[0].endswith("(published, ImageNet)") for row in theirs)
    assert table.strong == frozenset({0})
    assert "published by others on ImageNet" in table.caption
    assert theirs[-1] == (
        *("ResNet-50 (published, ImageNet)", "77.40%", DASH, "6.75", DASH),
        *("78.2", "109", "1.51", DASH, DASH),
    )


def test_published_figures_are_of_the_fifteen() -> None:
    """Their mean is the one that is printed for β = 2."""
    assert list(published.AUROC_BETA_2) == list(CORRUPTIONS)
    mean = sum(published.AUROC_BETA_2.values()) / 15
    printed = next(row.auroc for row in published.TABLE if row.name == "β = 2")
    assert mean == pytest.approx(printed, abs=5e-4)


def test_plain_data_marks_what_others_published() -> None:
    found = summary(cell())
    beside = found.to_json()["published"]
    assert beside["source"] == published.SOURCE
    assert beside["auroc_beta_2"]["snow"] == 0.309

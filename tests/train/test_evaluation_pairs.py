"""Numbers of an evaluation against counting by hand, and against simulation."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import betabinom

from calibration.calibration import Calibration
from calibration.calibration_error import ece
from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.metrics import accuracy
from calibration.modes import LABEL_SHIFT_SAFE
from calibration.table import floats_of, labels_of, logits_of, statistics_of
from calibration.temperature import softmax
from service.bundle import Bundle
from train.data import ImageRows, open_data
from train.evaluation.judging import GATE, Judge, JudgedSet, baseline_scores, conformal_p
from train.evaluation.pairs import Found, Mean, Pair, compare, mean_of
from train.evaluation.posterior import MODEL, posterior_figures
from train.evaluation.rates import (
    ALPHAS,
    BAND_LEVEL,
    class_rates,
    histogram_band,
    realised,
)
from train.evaluation.sets import OTHER, THIRTEEN, StrangeRows
from train.images import load_images
from train.scoring import score_images

NOTHING = ImageRows(spec="nothing", size=0, class_labels=None, read=lambda: iter(()))
STRANGE = StrangeRows(name="odd", data="odd", group=OTHER, rows=NOTHING)


@pytest.fixture(scope="module")
def table(bundle: Bundle) -> pa.Table:
    """Scores of the digits' test rows."""
    images = load_images(
        open_data("digits:test"), bundle.spec, bundle.class_labels, lambda rows, **_: rows
    )
    return score_images(bundle.checkpoint.classifier, images, [None] * len(images))


@pytest.fixture(scope="module")
def judge(bundle: Bundle) -> Judge:
    return Judge.of(bundle.calibration)


@pytest.fixture(scope="module")
def known(judge: Judge, table: pa.Table) -> JudgedSet:
    return judge.judge(table.slice(0, 200), {"rival": logits_of(table)[:200] * 0.5})


@pytest.fixture(scope="module")
def strange(judge: Judge, table: pa.Table) -> JudgedSet:
    """Other rows of the same kind, some 60 nats less likely than they are."""
    rows = table.slice(200, 100)
    moved = floats_of(rows, "log_prob") - np.where(np.arange(100) % 2, 60.0, 0.0)
    place = rows.column_names.index("log_prob")
    changed = rows.set_column(place, "log_prob", pa.array(moved))
    return judge.judge(changed, {"rival": logits_of(rows) * 0.5})


@pytest.fixture(scope="module")
def pair(known: JudgedSet, strange: JudgedSet) -> Pair:
    return compare(STRANGE, known, strange, refused=3, shared=1)


def test_a_pair_by_counting(known: JudgedSet, strange: JudgedSet, pair: Pair) -> None:
    assert [found.detector for found in pair.found] == list(known.scores)
    for found in pair.found:
        ours, theirs = known.scores[found.detector], strange.scores[found.detector]
        wins = sum((t > o) + (t == o) / 2 for t in theirs for o in ours)
        assert found.auroc == pytest.approx(wins / (len(ours) * len(theirs)))
        cuts = [t for t in theirs if (theirs >= t).mean() >= 0.95]
        assert found.fpr95 == pytest.approx(min((ours >= t).mean() for t in cuts))


def test_p_values_of_a_pair(known: JudgedSet, strange: JudgedSet, judge: Judge, pair: Pair) -> None:
    for found in pair.found:
        if found.detector not in judge.reference:
            assert found.detector.endswith("of rival")
            assert found.tpr_01 is found.tpr_05 is None
            continue
        p = strange.p_values[found.detector]
        assert found.tpr_01 == (p <= 0.01).mean()
        assert found.tpr_05 == (p <= 0.05).mean()


def test_the_gate_is_the_calibrations_own(
    bundle: Bundle, table: pa.Table, known: JudgedSet
) -> None:
    rows = table.slice(0, 200)
    decided = bundle.calibration.decide(
        logits_of(rows), floats_of(rows, "log_prob"), statistics_of(rows)
    )
    assert np.array_equal(known.p_values[GATE], decided.p_value)
    assert np.array_equal(known.decisions.rejected, decided.rejected)


def test_what_a_pair_counts(strange: JudgedSet, pair: Pair) -> None:
    assert (pair.rows, pair.refused, pair.shared, pair.not_finite) == (100, 3, 1, 0)
    assert pair.rejected.count == int(strange.decisions.rejected.sum())
    assert pair.rejected.low < (pair.rejected.share or 0) < pair.rejected.high
    assert pair.by("no such detector") is None


def test_what_is_no_number_is_the_strangest(judge: Judge, table: pa.Table) -> None:
    rows = table.slice(0, 5)
    place = rows.column_names.index("log_prob")
    values = floats_of(rows, "log_prob")
    values[2] = np.nan
    judged = judge.judge(rows.set_column(place, "log_prob", pa.array(values)))
    assert judged.not_finite == 1
    for found in judged.scores.values():
        assert np.isposinf(found).tolist() == [False, False, True, False, False]
    assert judged.p_values["log_prob"][2] == 1 / (len(judge.reference["log_prob"]) + 1)


def test_conformal_p_by_counting() -> None:
    random = np.random.default_rng(0)
    reference = np.sort(random.integers(0, 10, 40)).astype(np.float64)
    scores = np.array([-1.0, 0, 3, 3, 9, 10, np.inf])
    expected = [(1 + sum(r >= s for r in reference)) / 41 for s in scores]
    assert conformal_p(reference, scores) == pytest.approx(expected)


def test_scores_of_a_baseline() -> None:
    found = baseline_scores({"net": np.array([[0.0, 0.0], [5.0, 0.0], [-1e4, 1e4]])})
    assert list(found) == ["entropy of net", "max_probability of net"]
    assert found["entropy of net"] == pytest.approx([np.log(2), 0.0401, 0], abs=1e-4)
    assert found["max_probability of net"] == pytest.approx([-0.5, -0.9933, -1], abs=1e-4)


def test_titles_are_in_the_order_of_scores(judge: Judge, known: JudgedSet) -> None:
    names = list(judge.titles(("net",)))
    assert list(judge.titles(("rival",))) == list(known.scores)
    assert names[-3:] == ["entropy of net", "max_probability of net", GATE]


def figures(auroc: float, tpr: float | None) -> tuple[Found, ...]:
    return (Found(detector="a", auroc=auroc, fpr95=1 - auroc, tpr_01=tpr, tpr_05=tpr),)


def test_a_mean_leaves_out_what_is_excluded(pair: Pair) -> None:
    one = replace(pair, name="one", group=THIRTEEN, found=figures(0.9, 0.5))
    two = replace(pair, name="two", group=THIRTEEN, found=figures(0.6, 0.1))
    made = replace(one, name="made", found=figures(0.0, 0.0), excluded="made by training")
    mean = mean_of(THIRTEEN, [one, made, pair, two])
    assert isinstance(mean, Mean)
    assert (mean.pairs, mean.excluded) == (("one", "two"), ("made",))
    assert mean.found[0].auroc == pytest.approx(0.75)
    assert mean.found[0].fpr95 == pytest.approx(0.25)
    assert mean.found[0].tpr_01 == pytest.approx(0.3)
    assert mean_of(THIRTEEN, [pair, made]) is None


def test_a_mean_without_p_values(pair: Pair) -> None:
    mean = mean_of(OTHER, [replace(pair, found=figures(0.9, None))])
    assert mean is not None
    assert mean.found[0].tpr_01 is None


def test_realised_rates(bundle: Bundle, known: JudgedSet) -> None:
    n = bundle.calibration.reference_size
    for found in realised(bundle.calibration, known):
        p = known.decisions.p_value
        assert found.rate.share == (p <= found.alpha).mean()
        assert found.rank == attained_rank(n, found.alpha)
        low, high = beta_binomial_interval(200, found.rank, n, BAND_LEVEL)
        assert found.band == (low / 200, high / 200)
        assert found.inside == (low <= found.rate.count <= high)


def test_a_perfect_gate_lies_in_the_band() -> None:
    """Each bin of a histogram with 90%, over draws of reference and rows; not with all of them."""
    random, inside = np.random.default_rng(0), []
    low, high = histogram_band(10, 99, 50, 0.9)
    for _ in range(300):
        reference, rows = np.sort(random.random(99)), random.random(50)
        p = conformal_p(reference, rows)
        counts = np.histogram(p, np.linspace(0, 1, 11) + 1e-9)[0]
        inside.append((low <= counts / 50) & (counts / 50 <= high))
    shares = np.mean(inside, axis=0)
    assert shares.min() > 0.86
    assert shares.max() < 1


def test_rates_by_class(known: JudgedSet, table: pa.Table, bundle: Bundle) -> None:
    labels, _ = labels_of(table.slice(0, 200))
    found = class_rates(bundle.calibration, known, labels, bundle.class_labels)
    assert [rates.label for rates in found] == list(bundle.class_labels)
    for k, rates in enumerate(found):
        own = known.decisions.p_value[labels == k]
        assert [rate.count for rate in rates.at] == [int((own <= a).sum()) for a in ALPHAS]
        assert rates.rejected.count == int(known.decisions.rejected[labels == k].sum())
        assert rates.abstained.total == len(own)
    assert class_rates(bundle.calibration, known, np.full(200, -1), bundle.class_labels) == ()


def test_what_a_class_may_have(known: JudgedSet, table: pa.Table, bundle: Bundle) -> None:
    """Promised in one mode alone, by the rows of the class itself."""
    labels, _ = labels_of(table.slice(0, 200))
    plain = class_rates(bundle.calibration, known, labels, bundle.class_labels)
    assert all(rates.most is None for rates in plain)
    made = bundle.calibration
    safe = Calibration.fit(made.table, bound=made.bound, mode=LABEL_SHIFT_SAFE, alpha=0.2)
    found = class_rates(safe, known, labels, bundle.class_labels)
    for k, rates in enumerate(found):
        n, m = int(safe.ranking.sizes[k]), int((labels == k).sum())
        assert rates.most is not None
        for alpha, most in zip(ALPHAS, rates.most, strict=True):
            rank = attained_rank(n, alpha)
            tail = betabinom(m, rank, n + 1 - rank).sf(most) if rank else 0.0
            assert tail <= 0.05 / (3 * 10)
            assert rank or most == 0
    assert any(most > 0 for rates in found for most in rates.most or ())


def test_no_row_of_a_class(known: JudgedSet, bundle: Bundle) -> None:
    """Nothing is above what is promised."""
    made = bundle.calibration
    safe = Calibration.fit(made.table, bound=made.bound, mode=LABEL_SHIFT_SAFE, alpha=0.2)
    for calibration in (made, safe):
        rates = class_rates(calibration, known, np.zeros(200, int), bundle.class_labels)[1]
        assert not any(rates.above(i) for i in range(len(ALPHAS)))


def test_posterior_of_labelled_rows_alone(known: JudgedSet, table: pa.Table) -> None:
    labels, _ = labels_of(table.slice(0, 200))
    some = np.where(np.arange(200) < 150, labels, -1)
    rival = logits_of(table)[:200] * 0.5
    ours, theirs = posterior_figures(known, some, MappingProxyType({"rival": rival}))
    posterior = known.decisions.posterior[:150]
    assert (ours.source, theirs.source) == (MODEL, "rival")
    assert ours.accuracy.share == accuracy(posterior, labels[:150])
    assert ours.ece == ece(posterior, labels[:150])
    assert theirs.ece == ece(softmax(rival[:150], 1.0), labels[:150])
    hits = known.decisions.prediction_set[np.arange(150), labels[:150]]
    assert ours.coverage is not None
    assert ours.coverage.share == hits.mean()
    assert ours.accuracy_accepted is not None
    assert ours.accuracy_rejected is not None
    assert ours.accuracy_accepted.total + ours.accuracy_rejected.total == 150
    assert theirs.coverage is None
    assert theirs.mean_set_size is None
    assert posterior_figures(known, np.full(200, -1), {}) == ()

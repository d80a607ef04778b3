"""Outlier exposure: what distorted copies add to S, and that they leave ranks exact."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save
from scipy.special import logsumexp

from calibration.arrays import FloatArray
from calibration.calibration import Calibration
from calibration.combined_score import COMBINED_ROWS, STEP, CombinedScore
from calibration.conformal import attained_rank, beta_binomial_interval
from calibration.detectors import fit_detectors
from calibration.errors import CalibrationError
from calibration.evidence import evidence
from calibration.files import from_files, to_files
from calibration.fit_rows import outliers_of
from calibration.metrics import auroc
from calibration.outlier_exposure import FARTHEST, OutlierNet, Outliers
from calibration.score_file import score_from_bytes, score_to_bytes
from calibration.table import score_table, table_from_bytes, table_to_bytes
from calibration.views import AMBIGUITY, VIEWS
from tests.calibration.class_rows import CLASSES, NAMES, Rows, draw, of, p_values
from tests.calibration.tables import BOUND, columns_of, rows

#: What a distortion does to ``b``, in its own units: little beside its spread of up to 4.
MOVE = 3.0


def copies(known: Rows, seed: int, count: int = 3) -> Outliers:
    """Of each row some with another ``b``, and ``a`` as the class has it."""
    rng = np.random.default_rng(seed)
    index = np.tile(np.arange(len(known[1])), count)
    values = dict(of(known, index)[0])
    values["b"] = values["b"] + MOVE + rng.normal(size=len(index))
    return Outliers(values=values, of=index)


def exposed(known: Rows, seed: int = 0) -> CombinedScore:
    return CombinedScore.fit(*known, CLASSES, copies(known, seed))


@pytest.fixture(scope="module")
def known() -> Rows:
    return draw(np.random.default_rng(0), 800)


@pytest.fixture(scope="module")
def score(known: Rows) -> CombinedScore:
    return exposed(known)


def moved(fresh: Rows) -> Rows:
    return fresh[0] | {"b": fresh[0]["b"] + MOVE}, fresh[1]


def test_what_it_was_shown_it_finds(known: Rows, score: CombinedScore) -> None:
    """Fresh rows, moved as the copies were, better than S without copies finds them."""
    fresh = draw(np.random.default_rng(1), 1000)
    found = auroc(score(*fresh)[0], score(*moved(fresh))[0])
    blind = CombinedScore.fit(*known, CLASSES)
    assert found > auroc(blind(*fresh)[0], blind(*moved(fresh))[0]) + 0.05


@pytest.mark.parametrize("rows_", [COMBINED_ROWS, 150, 800])
def test_ranks_stay_exact(rows_: int) -> None:
    rng = np.random.default_rng([3, rows_])
    score = exposed(draw(rng, rows_))
    n, m, alphas = 600, 5000, (0.01, 0.05, 0.1, 0.5)
    p = p_values(score, draw(rng, n), draw(rng, m))
    for alpha in alphas:
        low, high = beta_binomial_interval(m, attained_rank(n, alpha), n, 1 - 0.001 / 12)
        assert low <= (p <= alpha).sum() <= high


def test_s_is_the_formula_of_its_views(score: CombinedScore) -> None:
    fresh = draw(np.random.default_rng(2), 200)
    assert score.views is not None
    assert score.views.outliers is not None
    assert score.tails is not None
    assert score.views_of == VIEWS
    x, zero = np.column_stack([fresh[0][name] for name in NAMES]), np.zeros(200, dtype=np.int64)
    shared = score.over_all(x, zero)
    found = [
        *score.views.surprise(x, shared, score.group_of[fresh[1]]).T,
        fresh[0]["entropy"],
        score.views.outliers(shared),
    ]
    t = score.tails(np.column_stack(found), zero)
    expected = logsumexp(t + np.array([0, 0, AMBIGUITY, 0]), axis=1)
    assert score(*fresh)[0] == pytest.approx(expected, abs=STEP)


def test_the_network_is_two_rectified_layers() -> None:
    """By hand, and flat beyond what it is bounded to."""
    rng = np.random.default_rng(4)
    net = OutlierNet.fit(rng.normal(size=(300, 3)), 1.5 + rng.normal(size=(600, 3)))
    t = rng.normal(size=(50, 3))
    at = t
    for weights, biases in zip(net.weights[:-1], net.biases[:-1], strict=True):
        at = np.maximum(at @ weights + biases, 0)
    assert net(t) == pytest.approx((at @ net.weights[-1] + net.biases[-1])[:, 0])
    assert net(np.full((1, 3), 1.5))[0] > net(np.zeros((1, 3)))[0]
    assert net(np.full((1, 3), 1e6))[0] == net(np.full((1, 3), FARTHEST))[0]


def test_rows_do_not_know_their_batch(score: CombinedScore) -> None:
    fresh = draw(np.random.default_rng(5), 100)
    batch = score(*fresh)[0]
    for row in range(100):
        assert score(*of(fresh, slice(row, row + 1)))[0][0] == batch[row]


def test_the_order_of_rows_and_copies_does_not_matter(known: Rows) -> None:
    rng = np.random.default_rng(6)
    some = of(known, np.arange(200))
    made = copies(some, 7)
    order, shuffled = rng.permutation(200), rng.permutation(len(made))
    place = np.argsort(order)
    turned = Outliers(
        values={name: np.asarray(v)[shuffled] for name, v in made.values.items()},
        of=place[made.of[shuffled]],
    )
    first = CombinedScore.fit(*some, CLASSES, made)
    second = CombinedScore.fit(*of(some, order), CLASSES, turned)
    assert score_to_bytes(first) == score_to_bytes(second)


def test_copies_of_a_row_are_left_out_with_it() -> None:
    """Else a network that knows a row's own copies takes the row for less of an outlier, and fresh
    rows look stranger than the rows that they are held against."""
    rng = np.random.default_rng(8)
    names = [f"s{index}" for index in range(12)]

    def noise(count: int) -> FloatArray:
        return rng.normal(size=(count, 12))

    x, fresh = noise(400), noise(4000)
    index = np.tile(np.arange(400), 3)
    strange = x[index] + 0.2 * noise(1200)  # copies that only memory could tell from rows
    outliers = Outliers(values=dict(zip(names, strange.T, strict=True)), of=index)
    score = CombinedScore.fit(
        dict(zip(names, x.T, strict=True)), np.zeros(400, np.int64), 1, outliers
    )
    assert score.views is not None
    assert score.tails is not None
    zero = np.zeros(4000, dtype=np.int64)
    t = score.tails(score.views.columns(fresh, score.over_all(fresh, zero), zero, names), zero)
    assert t[:, -1].mean() == pytest.approx(0, abs=0.3)


def test_few_copies_are_not_used(known: Rows) -> None:
    made = copies(known, 9)
    few = Outliers(
        values={name: np.asarray(v)[: COMBINED_ROWS - 1] for name, v in made.values.items()},
        of=made.of[: COMBINED_ROWS - 1],
    )
    found = CombinedScore.fit(*known, CLASSES, few)
    assert score_to_bytes(found) == score_to_bytes(CombinedScore.fit(*known, CLASSES))


def test_it_comes_back_bit_for_bit(score: CombinedScore) -> None:
    again = score_from_bytes(score_to_bytes(score))
    fresh = draw(np.random.default_rng(10), 100)
    assert np.array_equal(again(*fresh)[0], score(*fresh)[0])
    assert score_to_bytes(again) == score_to_bytes(score)


@pytest.mark.parametrize("layers", ["2", "4", "-", "0"])
def test_layers_that_do_not_fit_are_refused(score: CombinedScore, layers: str) -> None:
    content = score_to_bytes(score)
    with pytest.raises(CalibrationError, match="not a combined score"):
        score_from_bytes(with_layers(content, layers))


def test_fewer_layers_than_none_are_refused() -> None:
    """In a file that would else fit."""
    blind = score_to_bytes(CombinedScore.fit(*draw(np.random.default_rng(0), 800), CLASSES))
    with pytest.raises(CalibrationError, match="outlier_layers -1"):
        score_from_bytes(with_layers(blind, "-1"))


def with_layers(content: bytes, layers: str) -> bytes:
    """A score's file with another number of layers in its header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])["__metadata__"]["combined_score"]
    inner = json.loads(header) | {"outlier_layers": 0}
    text = json.dumps(inner).replace('"outlier_layers": 0', f'"outlier_layers": {layers}')
    return bytes(save(load(content), metadata={"combined_score": text}))


@pytest.mark.parametrize(("value", "row"), [(np.nan, 0), (np.inf, 0), (0.0, -1), (0.0, 800)])
def test_copies_that_cannot_be_used_are_named(known: Rows, value: float, row: int) -> None:
    made = copies(known, 12)
    values = {name: np.array(column, dtype=np.float64) for name, column in made.values.items()}
    values["a"][5] += value
    of_ = made.of.copy()
    of_[5] = row
    with pytest.raises(CalibrationError, match=r"outliers: found .*expected finite copies of fit"):
        CombinedScore.fit(*known, CLASSES, Outliers(values=values, of=of_))


def outlier_rows(seed: int = 0) -> pa.Table:
    """Copies of the fit rows of ``tables.rows``, ``input_tv`` moved, with their ids; and one of a
    row that is not there."""
    known = rows()
    fit = [i for i, split in enumerate(known.column("split").to_pylist()) if split == "fit"]
    columns = columns_of(np.random.default_rng(seed), len(fit) + 1)
    columns["statistics"]["input_tv"] = columns["statistics"]["input_tv"] + 4
    ids = [*(known.column("id")[i].as_py() for i in fit), "nowhere.png"]
    splits = ["outlier"] * len(ids)
    return score_table(**(columns | {"ids": ids, "labels": None, "splits": splits}))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return Calibration.fit(pa.concat_tables([rows(), outlier_rows()]), bound=BOUND)


def test_a_table_brings_its_copies(calibration: Calibration) -> None:
    """By their ids; nothing else sees them."""
    found = outliers_of(calibration.table, ["input_tv"])
    assert len(found) == 400
    assert found.of.tolist() == list(range(400))
    plain = Calibration.fit(rows(), bound=BOUND)
    assert calibration.combined.views_of == VIEWS
    assert plain.combined.views_of == VIEWS[:3]
    assert calibration.posterior.temperature == plain.posterior.temperature
    assert calibration.posterior.q_hat == plain.posterior.q_hat
    assert calibration.reference_size == plain.reference_size == 600
    assert np.array_equal(calibration.reference.held_out, plain.reference.held_out)


def test_a_calibration_with_copies_comes_back(calibration: Calibration) -> None:
    files = to_files(calibration)
    again = from_files(files)
    assert to_files(again) == files
    assert table_to_bytes(table_from_bytes(table_to_bytes(again.table))) == table_to_bytes(
        again.table
    )


def test_every_detector_of_statistics_is_shown_the_copies(calibration: Calibration) -> None:
    """A network is to earn its place beside the input's statistics that were shown as much."""
    fresh = rows(11)
    strange = fresh.set_column(
        fresh.column_names.index("stat_input_tv"),
        "stat_input_tv",
        pa.array(np.asarray(fresh.column("stat_input_tv")) + 4),
    )

    def found(of_: Calibration, name: str) -> float:
        (one,) = (d for d in fit_detectors(of_) if d.name == name)
        return auroc(one.score(fresh), one.score(strange))

    plain = Calibration.fit(rows(), bound=BOUND)
    for name in ("input_statistics", "gate"):
        assert found(calibration, name) > found(plain, name)


def test_the_evidence_names_the_view(calibration: Calibration) -> None:
    logits, log_prob, statistics = calibration.held_out()
    made = evidence(calibration, logits, log_prob, statistics)
    assert tuple(made[0].views) == VIEWS
    assert sum(made[0].views.values()) == pytest.approx(1)

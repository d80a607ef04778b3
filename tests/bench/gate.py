"""What the gate promises and costs: ``python -m tests.bench.gate BUNDLE TEST``.

TEST is a labelled split that the model has never seen. The rows held out from training, whose
scores the bundle keeps, are split anew into fit and calibration rows. Four parts, each with a seed
of its own:

- realised: share of test rows with p_value <= alpha over random splits, in the interval that a
  perfect gate stays inside; per class in mode label_shift_safe, one-sided; Bonferroni over all
  cells of both
- promise: share rejected over calibrations drawn from a known population, which may exceed alpha
  in a share delta of them
- batch: how far another batch size moves a p-value
- cost: time of a verdict over that of class and posterior alone, interleaved pairs

Nothing here is asserted, and nothing is fitted on the test rows.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from scipy.stats import betabinom

from calibration.arrays import FloatArray
from calibration.calibration import Calibration
from calibration.conformal import attained_rank, beta_binomial_interval, pac_rank
from calibration.errors import CalibrationError
from calibration.modes import LABEL_SHIFT_SAFE, MARGINAL
from calibration.posterior import rows_of
from calibration.rows import is_in
from calibration.table import floats_of, labels_of, logits_of, statistics_of
from model.image import UInt8Array
from model.precision import full_convolutions
from model.scoring import score
from service.bundle import Bundle
from service.catalog import find_bundle
from service.predictor import Predictor
from train.data import open_data
from train.images import Images, load_images
from train.progress import watch
from train.scoring import score_images

ALPHAS = (0.01, 0.05, 0.10)
LEVEL = 0.99
SPLITS = 3
CALIBRATIONS = 200
PAIRS = 15
BATCHED = 600


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    bundle = Bundle.load(find_bundle(sys.argv[1], None))
    test = _images(bundle, sys.argv[2])
    known = is_in(test.digests, bundle.rows.known)
    test = test.take(np.flatnonzero(~known))
    print(f"{bundle.name} {bundle.version}: {len(test):,} test rows, {known.sum()} known left out")
    fresh = score_images(bundle.checkpoint.classifier, test, [None] * len(test))
    realised(bundle.calibration, fresh)
    promise(bundle.calibration, fresh)
    batch(bundle, test)
    cost(bundle, test)


def _images(bundle: Bundle, data: str) -> Images:
    return load_images(open_data(data), bundle.spec, bundle.class_labels, watch)


def realised(calibration: Calibration, fresh: pa.Table) -> None:
    """Rates at each alpha over random splits of the held-out rows into fit and cal."""
    parts = {MARGINAL: over_all, LABEL_SHIFT_SAFE: by_class}
    for mode, part in parts.items():
        for seed in range(SPLITS):
            try:
                made = resplit(calibration, seed, mode)
            except CalibrationError as error:
                print(f"split {seed}, {mode}: {error}")
                continue
            part(made, fresh, seed)


def level_of(made: Calibration) -> float:
    """Of one cell, where all cells of all splits hold together with ``LEVEL``: over all rows and
    in each class, at each alpha."""
    return 1 - (1 - LEVEL) / (SPLITS * len(ALPHAS) * (1 + made.classes))


def over_all(made: Calibration, fresh: pa.Table, seed: int) -> None:
    """Two-sided: in mode marginal the count lies where a perfect gate's does."""
    p, n = p_values(made, fresh), made.reference_size
    for alpha in ALPHAS:
        rank = attained_rank(n, alpha)
        if not rank:
            print(f"split {seed}, p <= {alpha}: no rank among {n} rows is as small")
            continue
        low, high = beta_binomial_interval(len(p), rank, n, level_of(made))
        count = int((p <= alpha).sum())
        said = "inside" if low <= count <= high else "OUTSIDE"
        print(
            f"split {seed}, p <= {alpha}: {count / len(p):.4f}, {said} {low / len(p):.4f} "
            f"to {high / len(p):.4f}"
        )


def by_class(made: Calibration, fresh: pa.Table, seed: int) -> None:
    """One-sided: in mode label_shift_safe no class is rejected more often than a perfect gate's."""
    p, labels = p_values(made, fresh), labels_of(fresh)[0]
    worst, outside = 0.0, []
    for alpha in ALPHAS:
        for k, n in enumerate(made.ranking.sizes.tolist()):
            own = p[labels == k]
            rank = attained_rank(n, alpha)
            if not rank or not len(own):
                continue
            most = int(betabinom(len(own), rank, n + 1 - rank).ppf(level_of(made)))
            count = int((own <= alpha).sum())
            worst = max(worst, count / len(own) / alpha)
            if count > most:
                outside.append(f"class {k} at {alpha}: {count} of {len(own)}, at most {most}")
    said = "; ".join(outside) or "none outside"
    print(f"split {seed}, label_shift_safe by class: largest rate / alpha {worst:.2f}, {said}")


def resplit(calibration: Calibration, seed: int, mode: str) -> Calibration:
    """The same model calibrated on another random split of the rows held out from training."""
    splits = np.array(calibration.table.column("split").to_pylist(), dtype=object)
    held_out = np.flatnonzero(np.isin(splits, ("fit", "cal")))
    drawn = np.random.default_rng(seed).permutation(splits[held_out])
    splits[held_out] = drawn
    place = calibration.table.column_names.index("split")
    table = calibration.table.set_column(place, "split", pa.array(splits, pa.string()))
    return Calibration.fit(table, bound=calibration.bound, mode=mode)


def p_values(calibration: Calibration, fresh: pa.Table) -> FloatArray:
    decided = calibration.decide(
        logits_of(fresh), floats_of(fresh, "log_prob"), statistics_of(fresh)
    )
    return decided.p_value


def promise(calibration: Calibration, fresh: pa.Table) -> None:
    """Rejected share of a known population, over calibrations drawn from it with replacement.

    The population are the scores S of calibration and test rows by the bundle's own S, which was
    fitted on neither: its share beyond a threshold is known exactly.
    """
    population = np.sort(
        np.concatenate(
            [
                _scores(calibration, part)
                for part in (
                    calibration.table.filter(pa.array(rows_of(calibration.table, "cal"))),
                    fresh,
                )
            ]
        )
    )
    n, rng = calibration.reference_size, np.random.default_rng(0)
    for alpha in ALPHAS:
        try:
            limit = pac_rank(n, alpha, calibration.delta)
        except CalibrationError as error:
            print(f"promise: {error}")
            continue
        held = []
        for _ in range(CALIBRATIONS):
            drawn = np.sort(rng.choice(population, n))
            # rank <= limit: at most limit - 1 of the n are as strange
            edge = drawn[n - limit]
            held.append(float((population > edge).mean()) <= alpha)
        print(
            f"rejected <= {alpha} in {np.mean(held):.1%} of {CALIBRATIONS} calibrations, "
            f"promised {1 - calibration.delta:.0%}"
        )


def _scores(calibration: Calibration, table: pa.Table) -> FloatArray:
    return calibration.scores(logits_of(table), floats_of(table, "log_prob"), statistics_of(table))


def batch(bundle: Bundle, test: Images) -> None:
    """Largest change of a p-value, in ranks of the reference, between batches of 64 and others."""
    pixels, classifier = test.pixels[:BATCHED], bundle.checkpoint.classifier
    found = {}
    for size in (64, 1, 7, 500):
        parts = [score(classifier, pixels[i : i + size]) for i in range(0, len(pixels), size)]
        found[size] = np.concatenate(
            [bundle.calibration.decide(s.logits, s.log_prob, s.statistics).p_value for s in parts]
        )
    n = bundle.calibration.reference_size
    for size in (1, 7, 500):
        moved = np.abs(found[size] - found[64]) * (n + 1)
        print(
            f"batch {size} against 64: p-values of {(moved > 0.5).sum()} of {len(pixels)} move, "
            f"by {moved.max():.0f} of {n} ranks at most"
        )


def cost(bundle: Bundle, test: Images) -> None:
    """A verdict against class and posterior alone, medians over interleaved pairs."""
    predictor = Predictor(bundle)
    classifier, posterior = bundle.checkpoint.classifier, bundle.calibration.posterior

    @torch.inference_mode()
    def plain(images: UInt8Array) -> object:
        with full_convolutions():
            output = classifier.classify(torch.from_numpy(images).to(classifier.device))
        return posterior(output.logits.double().cpu().numpy())

    for size, times in ((64, 1), (1, 20)):
        ratios = _ratios(
            partial(plain, test.pixels[:size]), partial(predictor, test.pixels[:size]), times
        )
        print(
            f"cost at batch {size}: verdict / (class and posterior) "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) over "
            f"{PAIRS} pairs"
        )


def _ratios(one: Callable[[], object], other: Callable[[], object], times: int) -> list[float]:
    """Time of ``other`` over that of ``one``, each done ``times``, in interleaved pairs."""
    ratios = []
    for _ in range(PAIRS + 1):
        took = []
        for way in (one, other):
            began = time.perf_counter()
            for _ in range(times):
                way()
            took.append(time.perf_counter() - began)
        ratios.append(took[1] / took[0])
    return ratios[1:]  # the first pair warms up


if __name__ == "__main__":
    main()

"""How many images go through a network at once, and that it changes no score."""

from __future__ import annotations

import numpy as np
import pytest

from model.classifier import GenerativeClassifier
from model.image import UInt8Array
from model.scoring import Scores, score
from service.bundle import Bundle
from train import batch_sizes, scoring
from train.batch_sizes import images_at_once, in_parts
from train.data import open_data
from train.images import load_images


@pytest.mark.parametrize(
    ("dim", "most", "expected"),
    [
        (64, 1024, 1024),
        (3 * 32 * 32, 1024, 1024),
        (3 * 32 * 32, 250, 250),
        (3 * 64 * 64, 1024, 256),
        (3 * 64 * 64, 250, 250),
        (3 * 224 * 224, 1024, 32),
        (3 * 224 * 224, 16, 16),
    ],
)
def test_images_at_once(dim: int, most: int, expected: int) -> None:
    assert images_at_once(dim, most) == expected


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 100])
def test_parts_are_all_rows_once_in_their_order(count: int) -> None:
    dim = 10**6  # so large that 32 go at once
    parts = [np.arange(count)[part] for part in in_parts(count, dim, 500)]
    assert np.concatenate(parts).tolist() == list(range(count))
    assert [len(part) for part in parts[:-1]] == [32] * (len(parts) - 1)
    assert len(parts) == max(1, -(-count // 32))


def test_scores_do_not_depend_on_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = bundle.checkpoint.classifier
    images = load_images(
        open_data("digits:test"), bundle.spec, bundle.class_labels, lambda rows, **_: rows
    ).take(np.arange(20))
    splits = ["test"] * len(images)
    whole = scoring.score_images(classifier, images, splits)
    asked: list[tuple[int, int]] = []
    sizes: list[int] = []

    def at_once(dim: int, most: int) -> int:
        asked.append((dim, most))
        return 7

    def counted(classifier: GenerativeClassifier, pixels: UInt8Array) -> Scores:
        sizes.append(len(pixels))
        return score(classifier, pixels)

    monkeypatch.setattr(batch_sizes, "images_at_once", at_once)
    monkeypatch.setattr(scoring, "score", counted)
    parts = scoring.score_images(classifier, images, splits)
    assert asked == [(64, scoring.BATCH)]
    assert sizes == [7, 7, 6]
    assert parts["id"].equals(whole["id"])
    found, expected = (np.array(t["log_prob"].to_pylist()) for t in (parts, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-4)

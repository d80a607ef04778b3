"""The whole net after training, in the single precision that it serves in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.calibration import Calibration
from model.checkpoint import load_model, save_model
from model.classifier import GenerativeClassifier
from model.image import InputSpec, UInt8Array
from model.scoring import Scores, joined, score
from model.statistics import DEFAULT_RESOLUTION, RESOLUTION
from service.bundle import Bundle
from service.predictor import Predictor
from train.data import open_data
from train.images import Images, load_images
from train.progress import watch
from train.scoring import score_images


@pytest.fixture(scope="module")
def trained(bundle: Bundle) -> GenerativeClassifier:
    return bundle.checkpoint.classifier


@pytest.fixture(scope="module")
def digits(bundle: Bundle) -> Images:
    return load_images(open_data("digits:test"), bundle.spec, bundle.class_labels, watch)


@pytest.fixture(scope="module")
def pixels(digits: Images) -> UInt8Array:
    """64 images: digits, and some that no digit looks like."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    flat = np.stack([np.full((1, 8, 8), value, np.uint8) for value in (0, 255)])
    return np.concatenate([digits.pixels[:56], noise, flat])


@torch.no_grad()
def test_round_trip_of_pixels(trained: GenerativeClassifier) -> None:
    x = torch.rand(256, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[0], x[1] = 0.0, 1.0
    z, ladj = trained.flow(x)
    back, inverse_ladj = trained.flow.inverse(z)
    assert (back - x).abs().max() < 1e-5
    torch.testing.assert_close(inverse_ladj, -ladj, atol=1e-3, rtol=1e-5)


def test_save_and_load_give_the_same_bits(
    bundle: Bundle, pixels: UInt8Array, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder, bundle.checkpoint)
    loaded = load_model(folder)
    assert loaded.class_labels == bundle.class_labels
    assert not loaded.classifier.training
    before, after = (score(c, pixels) for c in (bundle.checkpoint.classifier, loaded.classifier))
    np.testing.assert_array_equal(before.logits, after.logits)
    np.testing.assert_array_equal(before.log_prob, after.log_prob)


def test_single_precision_is_close_to_double(
    trained: GenerativeClassifier, pixels: UInt8Array
) -> None:
    double = GenerativeClassifier(trained.config).double().eval()
    double.load_state_dict(trained.state_dict())
    x = (torch.from_numpy(pixels).double() * 16 / 255).round().add(0.5).div(17)
    with torch.no_grad():
        found, expected = trained.classify(torch.from_numpy(pixels)), double(x)
    torch.testing.assert_close(found.log_prob, expected.log_prob, atol=1e-3, rtol=1e-5)


def one_by_one(classifier: GenerativeClassifier, pixels: UInt8Array) -> Scores:
    return joined([score(classifier, pixels[i : i + 1]) for i in range(len(pixels))])


def assert_same_scores(found: Scores, expected: Scores) -> None:
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-3)
    named = {"log_prob": (found.log_prob, expected.log_prob)}
    named |= {
        name: (found.statistics[name], expected.statistics[name]) for name in found.statistics
    }
    for name, (one, other) in named.items():
        # one step at most, where rounding of the last bits meets rounding to the step
        step = RESOLUTION.get(name, DEFAULT_RESOLUTION)
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1.01 * step)


def test_scores_do_not_depend_on_the_batch(
    trained: GenerativeClassifier, pixels: UInt8Array
) -> None:
    alone = one_by_one(trained, pixels)
    assert_same_scores(score(trained, pixels), alone)
    order = np.random.default_rng(1).permutation(len(pixels))
    shuffled = score(trained, pixels[order])
    back = np.argsort(order)
    assert_same_scores(
        Scores(
            logits=shuffled.logits[back],
            log_prob=shuffled.log_prob[back],
            statistics={name: value[back] for name, value in shuffled.statistics.items()},
        ),
        alone,
    )


def reference_of_all(bundle: Bundle) -> Calibration:
    """The bundle's model, calibrated on all training rows: a reference of a thousand."""
    images = load_images(open_data("digits"), bundle.spec, bundle.class_labels, watch)
    splits = ["fit" if i % 10 < 3 else "cal" for i in range(len(images))]
    table = score_images(bundle.checkpoint.classifier, images, splits)
    return Calibration.fit(table, bound=bundle.calibration.bound)


def test_p_values_do_not_depend_on_the_batch(
    bundle: Bundle, trained: GenerativeClassifier, digits: Images
) -> None:
    """Alone, by sevens and by 64: no p-value moves by more than one rank in a thousand."""
    calibration = reference_of_all(bundle)
    assert calibration.reference_size > 1000
    p_values = []
    for size in (1, 7, 64):
        parts = [score(trained, digits.pixels[i : i + size]) for i in range(0, len(digits), size)]
        decided = [calibration.decide(p.logits, p.log_prob, p.statistics) for p in parts]
        p_values.append(np.concatenate([decisions.p_value for decisions in decided]))
    assert len(np.unique(p_values[0])) > 100
    moved = np.abs(np.stack(p_values) - p_values[0])
    assert moved.max() < 1e-3
    assert (moved > 0).mean() < 0.02


@pytest.mark.parametrize("neighbour", ["black", "white", "noise"])
def test_verdicts_do_not_depend_on_extreme_neighbours(
    bundle: Bundle, pixels: UInt8Array, neighbour: str
) -> None:
    predictor = Predictor(bundle)
    noise = np.random.default_rng(2).integers(0, 256, pixels.shape, dtype=np.uint8)
    others = {"black": np.zeros_like(pixels), "white": np.full_like(pixels, 255), "noise": noise}
    step = 1 / (bundle.calibration.reference_size + 1)
    crowded = predictor(np.concatenate([others[neighbour], pixels]))[len(pixels) :]
    for i, verdict in enumerate(crowded):
        alone = predictor(pixels[i : i + 1])[0]
        assert verdict.decision == alone.decision
        assert verdict.class_index == alone.class_index
        assert verdict.prediction_set == alone.prediction_set
        assert abs(verdict.p_value - alone.p_value) <= step + 1e-12  # one rank
        assert verdict.posterior == pytest.approx(alone.posterior, abs=1e-4)


def test_the_same_batch_gives_the_same_bits(
    trained: GenerativeClassifier, pixels: UInt8Array
) -> None:
    first, again = score(trained, pixels), score(trained, pixels)
    np.testing.assert_array_equal(first.log_prob, again.log_prob)


def test_most_held_out_digits_are_recognised(trained: GenerativeClassifier, digits: Images) -> None:
    right = score(trained, digits.pixels).logits.argmax(1) == digits.labels
    assert right.mean() > 0.8


def test_samples_are_of_their_class(trained: GenerativeClassifier) -> None:
    """Encoded again, a sample lies where it was drawn: 5 away from other means in 64 dimensions."""
    labels = torch.arange(10).repeat(20)
    x = trained.sample(labels, torch.Generator().manual_seed(0))
    assert x.shape == (200, 1, 8, 8)
    with torch.no_grad():
        found = trained(x).logits.argmax(1)
    assert (found == labels).double().mean() > 0.9


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 1, 8, 9), np.uint8), np.zeros((1, 8, 8), np.uint8), np.zeros((2, 1, 8, 8))],
)
def test_pixels_must_fit_exactly(trained: GenerativeClassifier, wrong: UInt8Array) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        score(trained, wrong)


def test_a_recorded_input_spec_is_the_model_s(bundle: Bundle) -> None:
    assert bundle.spec == InputSpec(shape=(1, 8, 8), levels=17)

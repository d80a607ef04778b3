"""Mean corruption errors against closed forms."""

from __future__ import annotations

import pytest

from train.evaluation.corruption_error import mce, relative_mce

REFERENCE = {"snow": [0.2, 0.4], "fog": [0.1, 0.3]}


def test_the_reference_itself_is_a_hundred() -> None:
    assert mce(REFERENCE, REFERENCE) == pytest.approx(100)
    assert relative_mce(REFERENCE, 0.05, REFERENCE, 0.05) == pytest.approx(100)


def test_by_hand() -> None:
    """CE: .9 / .6 and .2 / .4; relative, from errors of .1 and .05: .7 / .5 and 0 / .3."""
    errors = {"snow": [0.3, 0.6], "fog": [0.1, 0.1]}
    assert mce(errors, REFERENCE) == pytest.approx(100 * (1.5 + 0.5) / 2)
    relative = relative_mce(errors, 0.1, REFERENCE, 0.05)
    assert relative == pytest.approx(100 * (0.7 / 0.5 + 0.0 / 0.3) / 2)


def test_corruptions_weigh_alike_and_severities_by_their_errors() -> None:
    """Not a mean of ratios within a corruption: sums are divided."""
    errors = {"snow": [0.0, 0.6], "fog": [0.4, 0.0]}
    assert mce(errors, REFERENCE) == pytest.approx(100 * (0.6 / 0.6 + 0.4 / 0.4) / 2)


def test_twice_the_errors_lost_is_twice_the_relative_mce() -> None:
    doubled = {name: [0.05 + 2 * (e - 0.05) for e in row] for name, row in REFERENCE.items()}
    assert relative_mce(doubled, 0.05, REFERENCE, 0.05) == pytest.approx(200)


def test_nothing_to_divide_by() -> None:
    """No mean over the others: it would be another number under the same name."""
    spotless = {"snow": [0.2, 0.4], "fog": [0.0, 0.0]}
    assert mce(REFERENCE, spotless) is None
    assert relative_mce(REFERENCE, 0.0, REFERENCE, 0.2) is None
    assert mce(spotless, REFERENCE) == pytest.approx(50)

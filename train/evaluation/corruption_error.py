"""Mean corruption error, as Hendrycks and Dietterich define it, over a network of ours.

D. Hendrycks, T. Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019. They divide by AlexNet's errors; whoever divides by another network's has
numbers on another scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Corruption -> the top-1 error in [0, 1] at each severity, in order.
Errors = Mapping[str, Sequence[float]]


def mce(errors: Errors, reference: Errors) -> float | None:
    """mCE = 100 x mean_c CE_c with CE_c = sum_s E_s,c / sum_s E_s,c^ref; lower = better.

    100 is as many errors as the reference makes. None where it makes none in some corruption.
    """
    return _mean([_ratio(sum(errors[c]), sum(reference[c])) for c in reference])


def relative_mce(
    errors: Errors, clean: float, reference: Errors, reference_clean: float
) -> float | None:
    """100 x mean_c of sum_s (E_s,c - E_clean) / sum_s (E_s,c^ref - E_clean^ref); lower = better.

    How much is *lost* to corruption, whatever the error on ``clean`` images is. None where the
    reference loses nothing in some corruption, which nothing can be divided by.
    """
    return _mean(
        [
            _ratio(
                sum(error - clean for error in errors[c]),
                sum(error - reference_clean for error in reference[c]),
            )
            for c in reference
        ]
    )


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _mean(ratios: Sequence[float | None]) -> float | None:
    """100 times the mean; None where one is unknown, since a mean over fewer is another number."""
    known = [ratio for ratio in ratios if ratio is not None]
    return 100 * sum(known) / len(known) if known and len(known) == len(ratios) else None

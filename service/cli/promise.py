"""What a calibration promises, in a line for people."""

from __future__ import annotations

from calibration.calibration import Calibration
from calibration.conformal import rounded_up


def promise(calibration: Calibration) -> str:
    """Alpha, delta, mode, threshold, the rows behind it, and the smallest alpha they support."""
    sizes = calibration.ranking.sizes
    among = f"{sizes[0]:,} reference rows"
    if len(sizes) > 1:
        among = f"{sizes.min():,} to {sizes.max():,} reference rows in each of {len(sizes)} classes"
    return (
        f"at most {calibration.alpha:.2%} of typical images rejected, with confidence "
        f"{1 - calibration.delta:.2%}: reject at p <= {calibration.threshold():.5f} among {among} "
        f"({calibration.mode}; the smallest alpha they support is "
        f"{rounded_up(calibration.ranking.smallest_alpha)})"
    )

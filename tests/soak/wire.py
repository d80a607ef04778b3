"""What was promised of typical images, measured through the wire; and one image, one answer.

The rate of p <= alpha is held against its 99% interval, which allows for the reference being a
sample too (beta-binomial); the share of rejected images against the largest one that a true rate of
alpha makes likely, one-sided, at 99%. A few images go alone through every face as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binom

from calibration.conformal import attained_rank, beta_binomial_interval
from tests.clients.expected import Mismatch
from tests.integration.running import Service
from tests.integration.together import verdicts_of
from tests.soak.expected import Version
from tests.soak.faces import FACES, Fate


@dataclass(frozen=True, kw_only=True)
class Wire:
    """``low`` and ``high`` bound ``at_alpha``, ``most`` bounds ``rejected``; all count images."""

    images: int
    alpha: float
    at_alpha: int
    low: int
    high: int
    rejected: int
    most: int
    alone: int
    mismatches: tuple[str, ...]

    @property
    def faults(self) -> list[str]:
        """All that must not be."""
        found = list(self.mismatches)
        if not self.low <= self.at_alpha <= self.high:
            found.append(f"p <= {self.alpha}: {self.at_alpha}, not in {self.low} to {self.high}")
        if self.rejected > self.most:
            found.append(f"rejected: {self.rejected}, more than {self.most}")
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": "wire",
            "images": self.images,
            "alpha": self.alpha,
            "share_at_alpha": self.at_alpha / self.images,
            "interval": [self.low / self.images, self.high / self.images],
            "share_rejected": self.rejected / self.images,
            "most_rejected": self.most / self.images,
            "images_alone_through_each_face": self.alone,
            "faults": self.faults[:50],
        }

    def __str__(self) -> str:
        n = self.images
        return (
            f"wire: {n:,} images, p <= {self.alpha:g}: {self.at_alpha / n:.2%} (99% interval "
            f"{self.low / n:.2%} to {self.high / n:.2%}); rejected {self.rejected / n:.2%} (at "
            f"most {self.most / n:.2%}); {self.alone} images alone through {len(FACES)} faces and "
            f"in one request: {len(self.mismatches)} mismatches"
            + "".join(f"\n  {fault}" for fault in self.faults[:20])
        )


def through_the_wire(
    service: Service,
    version: Version,
    alone: Sequence[bytes],
    images: Sequence[bytes],
    alpha: float,
    say: Callable[[str], None],
) -> Wire:
    """``version`` has the Predictor's answers to the images that go ``alone``."""
    mismatches = [fault for face in FACES for fault in _mismatches(service, face, version, alone)]
    mismatches += _among_others(service, version, alone)
    say(f"  {len(alone)} images through each face: {len(mismatches)} mismatches")
    found = verdicts_of(service, version.name, images)
    n = version.answers[0]["reference_size"]
    low, high = beta_binomial_interval(len(images), attained_rank(n, alpha), n, 0.99)
    return Wire(
        images=len(images),
        alpha=alpha,
        at_alpha=sum(verdict["p_value"] <= alpha for verdict in found),
        low=low,
        high=high,
        rejected=sum(bool(verdict["rejected"]) for verdict in found),
        most=int(binom(len(images), alpha).ppf(0.99)),
        alone=len(alone),
        mismatches=tuple(mismatches),
    )


def _mismatches(
    service: Service, face: str, version: Version, images: Sequence[bytes]
) -> list[str]:
    kind, over_grpc = FACES[face]
    caller = kind(service.grpc_port if over_grpc else service.port, images, [version])
    found = []
    for i in range(len(images)):
        try:
            fate, what = caller.ask(i)
        except Mismatch as error:
            found.append(f"{face}: {error}")
            continue
        if fate is not Fate.ANSWERED:
            found.append(f"{face}: image {i}: {fate} {what}")
    caller.close()
    return found


def _among_others(service: Service, version: Version, images: Sequence[bytes]) -> list[str]:
    """Those whose decision or class differs, or whose p-value by more than one rank."""
    found = []
    for i, (verdict, answer) in enumerate(
        zip(verdicts_of(service, version.name, images), version.answers, strict=True)
    ):
        rank = 1.01 / (answer["reference_size"] + 1)
        same = (
            verdict["decision"] == answer["decision"]
            and verdict["class_label"] == answer["class"]["label"]
            and abs(verdict["p_value"] - answer["p_value"]) <= rank
        )
        if not same:
            found.append(f"image {i} among others: {verdict}, alone {answer}")
    return found

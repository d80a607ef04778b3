"""What became of one probe: by whom its images were given which class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from calibration.detection import Rate

#: Names of probes beside those of grids of patches.
CLEAN, SILHOUETTES, EXCHANGED = "clean", "silhouettes", "phases and amplitudes"


@dataclass(frozen=True, kw_only=True)
class ProbeCell:
    """``right`` by classifier: share of images given their class; of exchanged images that of
    their phases. ``shape_bias`` by classifier, of exchanged images alone: of those given one of
    their two classes, the share given that of the phases. ``rejected`` by the model's gate."""

    probe: str
    images: int
    right: Mapping[str, Rate]
    shape_bias: Mapping[str, Rate]
    rejected: Rate

    def to_json(self) -> dict[str, Any]:
        """Plain data, which ``from_json`` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProbeCell:
        """The inverse; raises ``ValueError`` for anything else."""
        try:
            rates = {
                name: {source: Rate(**rate) for source, rate in content[name].items()}
                for name in ("right", "shape_bias")
            }
            return cls(**{**content, **rates, "rejected": Rate(**content["rejected"])})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a cell of this version: {error!r}") from error

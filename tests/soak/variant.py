"""A second version of a bundle whose every answer can be told from the first one's.

The network and its scores stay as they are. Class labels get a mark, the posterior another
temperature, alpha is twice as large, and every other held-out row leaves the reference, so that
p-values, thresholds and the reference's size change, too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from calibration import files
from calibration.calibration import Calibration
from service.bundle import CALIBRATION_FILES, MODEL_CONFIG, Bundle, seal, verified_contents

#: Behind each class label.
MARK = " (2)"
HOTTER = 1.5


def variant(source: Path, out: Path) -> Path:
    """Seal the second version of the bundle ``source`` at ``out``; returns ``out``."""
    bundle = Bundle.load(source)
    contents = verified_contents(source, bundle.manifest.files)
    labels = [label + MARK for label in bundle.class_labels]
    config: dict[str, Any] = json.loads(contents[MODEL_CONFIG])
    contents[MODEL_CONFIG] = json.dumps({**config, "classes": labels}).encode()
    calibration = files.to_files(_other(bundle.calibration))
    contents |= {path: calibration[Path(path).name] for path in CALIBRATION_FILES}
    manifest = asdict(bundle.manifest)
    manifest |= {"classes": labels, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    del manifest["schema_version"], manifest["files"]
    seal(out, manifest, contents)
    return out


def _other(calibration: Calibration) -> Calibration:
    posterior = replace(
        calibration.posterior, temperature=HOTTER * calibration.posterior.temperature
    )
    return replace(
        calibration,
        alpha=2 * calibration.alpha,
        posterior=posterior,
        table=_thinned(calibration.table),
    )


def _thinned(table: pa.Table) -> pa.Table:
    """Without every other ``cal`` row."""
    cal = np.array(table.column("split").to_pylist()) == "cal"
    return table.filter(pa.array(~cal | (np.cumsum(cal) % 2 == 0)))

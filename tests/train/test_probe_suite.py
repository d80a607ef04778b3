"""The suite ``probes`` on a small model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.detection import rate_of
from service.bundle import Bundle
from tests.train.holding import held_digits
from train.data import DataError
from train.evaluation import probe_suite
from train.evaluation.cells import Cells
from train.evaluation.markdown import to_markdown
from train.evaluation.measure import Held
from train.evaluation.posterior import MODEL
from train.evaluation.probe_cells import CLEAN, EXCHANGED, SILHOUETTES, ProbeCell
from train.evaluation.probe_story import part_of
from train.evaluation.probe_suite import ProbeSuite, _shape_bias

SUITE = ProbeSuite(grids=(2, 4, 99))
NAMES = [CLEAN, SILHOUETTES, "2 x 2 patches", "4 x 4 patches", EXCHANGED]


@pytest.fixture(scope="module")
def held(bundle: Bundle) -> Held:
    return held_digits(bundle)


def test_every_probe_is_measured_and_kept(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = Cells.open(tmp_path / "cells", SUITE.record(held))
    part = SUITE.measure(held, cells)
    assert [cell["probe"] for cell in part.data["cells"]] == NAMES
    json.dumps(part.data)
    clean = ProbeCell.from_json(json.loads(json.dumps(part.data["cells"][0])))
    decided = held.known.judged.decisions
    assert clean.right[MODEL].count == (decided.class_index == held.known.images.labels).sum()
    assert clean.rejected.count == decided.rejected.sum()
    monkeypatch.setattr(probe_suite, "judged", None)  # nothing is measured again
    again = SUITE.measure(held, Cells.open(tmp_path / "cells", SUITE.record(held)))
    assert again.data == json.loads(json.dumps(part.data))


def test_shape_bias_is_among_images_given_one_of_their_two_classes() -> None:
    shapes, textures = np.array([0, 0, 0, 0]), np.array([1, 1, 1, 1])
    found = _shape_bias({"a": np.array([0, 0, 1, 2])}, shapes, textures)["a"]
    assert (found.count, found.total) == (2, 3)
    assert _shape_bias({"a": shapes}, shapes, None) == {}


def test_images_without_classes_are_refused(held: Held) -> None:
    labels = np.full_like(held.known.images.labels, -1)
    images = replace(held.known.images, labels=labels)
    with pytest.raises(DataError, match="found 0 classes among the rows of digits:test"):
        SUITE.record(replace(held, known=replace(held.known, images=images)))


def test_a_damaged_cell_is_refused(held: Held, tmp_path: Path) -> None:
    cells = Cells.open(tmp_path / "cells", SUITE.record(held))
    cells.write("clean", {"probe": "clean"})
    with pytest.raises(DataError, match=r"clean\.json: not a cell of this version"):
        SUITE.measure(held, cells)


def test_what_passes_the_gate_is_bad_news() -> None:
    def cell(probe: str, rejected: int, bias: bool = False) -> ProbeCell:
        return ProbeCell(
            probe=probe,
            images=100,
            right={MODEL: rate_of(50, 100), "net": rate_of(60, 100)},
            shape_bias={MODEL: rate_of(30, 40), "net": rate_of(20, 40)} if bias else {},
            rejected=rate_of(rejected, 100),
        )

    part = part_of((cell(CLEAN, 5), cell(SILHOUETTES, 20), cell(EXCHANGED, 90, bias=True)), 0)
    assert part.bad_news == ("Of images made to silhouettes, 20.00% are rejected.",)
    assert "this model 75.00%; net 50.00%" in part.in_short[0]
    assert "net: shape bias" in to_markdown(part.blocks)

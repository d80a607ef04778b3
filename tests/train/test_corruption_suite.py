"""The suite ``corruptions`` on a small model: cells, storage, going on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.arrays import FloatArray
from calibration.metrics import accuracy, auroc
from model.image import InputSpec, UInt8Array, decode
from service.bundle import Bundle
from service.cli.evaluate import model_of
from tests.train.holding import ROWS
from tests.train.test_strangers import drawings, encoded
from train.data import DataError, ImageRows, open_data
from train.evaluation import corruption_suite
from train.evaluation.cells import Cells
from train.evaluation.corruption_cells import (
    CLEAN,
    STORED,
    Cell,
    cell_of,
    corrupted,
    measure_cell,
)
from train.evaluation.corruption_figures import ABOVE, BESIDE, GAP, THUMBNAIL, sheet
from train.evaluation.corruption_suite import CorruptionSuite, code_sum
from train.evaluation.corruptions import corrupt
from train.evaluation.judging import GATE
from train.evaluation.measure import Held, Model, hold
from train.evaluation.suites import conditions
from train.scoring import score_images
from train.storage import Storage

SMALL = CorruptionSuite(corruptions=("fog", "contrast"), severities=(1, 5))


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return model_of(bundle)


@pytest.fixture(scope="module")
def held(model: Model) -> Held:
    return hold(model, open_data("digits:test"), (), ROWS)


def counted(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[str]:
    """The cells that are measured from here on, one by one; stopped, as by Ctrl-C, before one
    more."""
    made: list[str] = []

    def measured(held: Held, name: str, severity: int, pixels: UInt8Array) -> Cell:
        if most is not None and len(made) == most:
            raise KeyboardInterrupt
        made.append(f"{name} {severity}")
        return measure_cell(held, name, severity, pixels)

    monkeypatch.setattr(corruption_suite, "_at_once", lambda _: 1)
    monkeypatch.setattr(corruption_suite, "measure_cell", measured)
    return made


def test_a_cell_by_its_parts(held: Held) -> None:
    pixels = corrupted(held, Storage.of(held.source), "contrast", 3, 0)
    assert np.array_equal(pixels, corrupt(held.known.images.pixels, "contrast", 3, seed=0))
    found = measure_cell(held, "contrast", 3, pixels)
    labels = held.known.images.labels
    again = measure_cell(held, "contrast", 3, pixels)
    assert again == found
    assert found.pair.rows == found.model.accuracy.total == 60
    assert found.accuracy_accepted.total + found.accuracy_rejected.total == 60
    assert found.accuracy_accepted.total == 60 - found.pair.rejected.count
    right = found.accuracy_accepted.count + found.accuracy_rejected.count
    assert right == found.model.accuracy.count
    clean = cell_of(held, CLEAN, 0, held.known.judged, {})
    assert clean.model.accuracy.share == accuracy(held.known.judged.decisions.posterior, labels)
    gate = clean.pair.by(GATE)
    assert gate is not None
    assert gate.auroc == 0.5
    assert [one.detector for one in found.pair.found] == list(held.judge.titles())


def test_batches_do_not_matter(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image's corruption follows from its number in the set."""
    storage = Storage.of(held.source)
    whole = corrupted(held, storage, "snow", 4, 0)
    monkeypatch.setattr("train.batch_sizes.images_at_once", lambda *_: 7)
    assert np.array_equal(corrupted(held, storage, "snow", 4, 0), whole)
    assert not np.array_equal(corrupted(held, storage, "snow", 4, 1), whole)


def test_without_loss_nothing_is_stored_anew(held: Held) -> None:
    storage = Storage.of(held.source)
    assert storage.encoding is None
    assert storage.note == "stored without loss, as the first known image is"
    assert np.array_equal(corrupted(held, storage, STORED, 0, 0), held.known.images.pixels)


def jpeg_rows(folder: Path, suffix: str = "jpg") -> ImageRows:
    for label in "01":
        (folder / label).mkdir(parents=True)
        for i, image in enumerate(drawings(6, 20, 24, seed=int(label))):
            kind = {"jpg": "JPEG", "webp": "WEBP"}[suffix]
            content = encoded(image, format=kind, quality=30)
            (folder / label / f"{i}.{suffix}").write_bytes(content)
    return open_data(str(folder))


def test_corrupted_images_are_stored_as_known_ones(held: Held, tmp_path: Path) -> None:
    storage = Storage.of(jpeg_rows(tmp_path / "known"))
    assert storage.note.startswith("stored as the first known image is, JPEG")
    found = corrupted(held, storage, "contrast", 2, 0)
    plain = corrupt(held.known.images.pixels, "contrast", 2)
    assert not np.array_equal(found, plain)
    spec = held.model.checkpoint.spec
    again = decode(encoded(plain[3][0], format="JPEG", quality=30), spec)
    assert np.array_equal(found[3], again)
    assert not np.array_equal(
        corrupted(held, storage, STORED, 0, 0), held.known.images.pixels
    )  # the control


def test_storage_that_cannot_be_repeated(tmp_path: Path) -> None:
    storage = Storage.of(jpeg_rows(tmp_path / "known", "webp"))
    assert storage.encoding is None
    assert storage.note.startswith("stored without loss, unlike the known images (")


def test_a_control_where_storing_loses_something(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hold(model, jpeg_rows(tmp_path / "known"), (), None)
    made = counted(monkeypatch)
    cells = Cells.open(tmp_path / "cells", SMALL.record(held))
    part = SMALL.measure(held, cells)
    assert made == ["stored anew 0", "fog 1", "fog 5", "contrast 1", "contrast 5"]
    assert part.data["stored"]["corruption"] == STORED
    assert len(part.data["cells"]) == 4
    assert "stored-anew-0" in cells.names()


def test_going_on_measures_no_cell_twice(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SMALL.measure(held, Cells.open(tmp_path / "whole", SMALL.record(held)))
    first = counted(monkeypatch, most=3)
    record = SMALL.record(held)
    with pytest.raises(KeyboardInterrupt):
        SMALL.measure(held, Cells.open(tmp_path / "cells", record))
    second = counted(monkeypatch)
    part = SMALL.measure(held, Cells.open(tmp_path / "cells", record))
    assert first == ["fog 1", "fog 5", "contrast 1"]
    assert second == ["contrast 5"]
    assert part.data == whole.data
    assert part.files == whole.files
    assert part.blocks == whole.blocks


def test_several_cells_at_once_come_to_the_same(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some are there already."""
    record = SMALL.record(held)
    monkeypatch.setattr(corruption_suite, "_at_once", lambda _: 1)
    one_by_one = SMALL.measure(held, Cells.open(tmp_path / "one", record))
    monkeypatch.setattr(corruption_suite, "_at_once", lambda _: 3)
    together = SMALL.measure(held, Cells.open(tmp_path / "three", record))
    cells = Cells.open(tmp_path / "three", record)
    for name in ("fog-5", "contrast-1"):
        (cells.folder / f"{name}.json").unlink()
    again = SMALL.measure(held, cells)
    for part in (together, again):
        assert part.data == one_by_one.data
        assert part.files == one_by_one.files


def test_as_many_at_once_as_memory_allows(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    of_a_cell = 2 * held.known.images.pixels.nbytes
    assert corruption_suite._at_once(held) == corruption_suite.AT_ONCE
    for most, expected in ((3 * of_a_cell, 3), (of_a_cell, 1), (1, 1)):
        monkeypatch.setattr(corruption_suite, "MOST_BYTES", most)
        assert corruption_suite._at_once(held) == expected


def test_the_numbers_of_a_part(held: Held, tmp_path: Path) -> None:
    part = SMALL.measure(held, Cells.open(tmp_path / "cells", SMALL.record(held)))
    assert part.name == "corruptions"
    assert part.seeds == {"corruptions": 0}
    cells = {(one["corruption"], one["severity"]): one for one in part.data["cells"]}
    assert list(cells) == [("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5)]
    means = {mean["group"]: mean for mean in part.data["by_corruption"]}
    for i, one in enumerate(means["fog"]["found"]):
        both = [cells["fog", severity]["pair"]["found"][i]["auroc"] for severity in (1, 5)]
        assert one["auroc"] == pytest.approx(np.mean(both))
    pixels = corrupted(held, Storage.of(held.source), "fog", 5, 0)
    last = cells["fog", 5]["pair"]["found"][-1]
    assert last["detector"] == GATE
    assert last["auroc"] == auroc(held.known.judged.scores[GATE], gate_scores(held, pixels))


def gate_scores(held: Held, pixels: UInt8Array) -> FloatArray:
    images = replace(held.known.images, pixels=pixels)
    table = score_images(held.model.checkpoint.classifier, images, [None] * len(images))
    return held.judge.judge(table).scores[GATE]


def test_known_images_without_a_class(model: Model, tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    for i, image in enumerate(drawings(4, 8, 8, seed=0)):
        (tmp_path / "known" / f"{i}.png").write_bytes(encoded(image))
    held = hold(model, open_data(str(tmp_path / "known")), (), None)
    with pytest.raises(DataError, match=r"4 of the 4 rows of .* have no label"):
        SMALL.record(held)


@pytest.mark.parametrize(
    "other",
    [
        replace(SMALL, seed=1),
        replace(SMALL, severities=(1, 2)),
        replace(SMALL, corruptions=("fog",)),
    ],
)
def test_what_cells_follow_from(held: Held, other: CorruptionSuite) -> None:
    assert SMALL.record(held) == SMALL.record(held)
    assert SMALL.record(held) != other.record(held)


def test_conditions_name_the_rows(model: Model, held: Held) -> None:
    fewer = hold(model, open_data("digits:test"), (), 50)
    found, other = conditions(held), conditions(fewer)
    differing = {name for name in found if found[name] != other[name]}
    assert differing == {"limit", "rows", "sum of the rows"}


def test_other_code_is_another_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_sum()
    assert before == code_sum()
    changed = tmp_path / "corruptions.py"
    changed.write_text("another")
    monkeypatch.setattr("train.evaluation.corruptions.__file__", str(changed))
    assert code_sum() != before


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 100, 200)])
def test_a_sheet_of_corruptions(shape: tuple[int, int, int]) -> None:
    images = np.stack([np.full(shape, value, np.uint8) for value in (10, 100, 200)])
    content = sheet([("snow", images), ("fog", images[::-1])], ["clean", "1", "5"])
    size = (BESIDE + 3 * (THUMBNAIL + GAP) + GAP, ABOVE + 2 * (THUMBNAIL + GAP) + GAP)
    pixels = decode(content, InputSpec(shape=(1, size[1], size[0])))[0]
    step = THUMBNAIL + GAP
    found = [[int(pixels[ABOVE + i * step, BESIDE + j * step]) for j in range(3)] for i in (0, 1)]
    assert found == [[10, 100, 200], [200, 100, 10]]

"""What a model is held against: rows of its own kind, and sets of strangers.

Strangers are other DATA, the thirteen sets of ``far13:DATA``, or classes that training left out.
All are decoded by ``train.images``, so that neither side is told by how it is stored. Images that
the model has seen are taken out and counted: exact copies, by content hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.rows import Digests, is_in
from model.image import InputSpec
from train.data import FAR13, DataError, ImageRows, Row, labelled, open_data
from train.images import Images, load_images
from train.left_out import left_out_of, without_classes
from train.progress import watch
from train.strangers import far13, produced_by_training

#: Where a set of strangers comes from.
OTHER, THIRTEEN, LEFT_OUT = "other data", "far13", "left out of training"

#: Draws the rows of a set where their number is limited.
LIMIT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class StrangeRows:
    """A set of strangers, not yet read: ``group`` is one of the three above.

    ``excluded``: why the set is not counted in the mean of its group, None where it is.
    """

    name: str
    data: str
    group: str
    rows: ImageRows
    excluded: str | None = None


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """The images of a set that the model has not seen, and how many it had: ``refused``."""

    images: Images
    refused: int


def open_sets(
    known: str,
    strange: Sequence[str],
    left_out: Sequence[str],
    strangers: Path | None,
    training: Mapping[str, Any],
    classes: Sequence[str],
) -> tuple[ImageRows, list[StrangeRows]]:
    """The rows of ``known`` DATA, and all sets to hold them against; raises ``DataError`` for
    none. See ``strange_rows`` and ``split_known``."""
    rows, of_classes = split_known(open_data(known), left_out, training, classes)
    found = distinct([*strange_rows(strange, strangers, training), *of_classes])
    if not found:
        raise DataError(
            "nothing to hold the bundle against: expected --ood DATA, or --leave-out CLASS of a "
            "bundle that was trained without it"
        )
    return rows, found


def split_known(
    rows: ImageRows, asked: Sequence[str], training: Mapping[str, Any], classes: Sequence[str]
) -> tuple[ImageRows, list[StrangeRows]]:
    """Rows of the classes that the model knows, and a set of strangers for each of ``asked``.

    Without ``asked`` the classes left out of the model's training that the rows have. Raises
    ``DataError`` for a class that the model knows, and for one that the rows do not have.
    """
    known = [name for name in asked if name in classes]
    if known:
        raise DataError(
            f"--leave-out {known[0]}: the model was trained on this class, expected one that it "
            f"does not know: train with oodgate train --leave-out {known[0]!r}"
        )
    present = rows.class_labels or ()
    dropped = [name for name in left_out_of(training) if name in present]
    strange = list(dict.fromkeys(asked)) or dropped
    kept = without_classes(rows, [*dropped, *strange]) if strange else rows
    return kept, [_of_class(rows, name) for name in strange]


def strange_rows(
    specs: Sequence[str], strangers: Path | None, training: Mapping[str, Any]
) -> list[StrangeRows]:
    """The sets that ``specs`` name, in their order; ``far13:DATA`` makes thirteen."""
    found: list[StrangeRows] = []
    made = produced_by_training(training)
    for spec in dict.fromkeys(specs):
        if not spec.startswith(FAR13):
            found.append(
                StrangeRows(name=short_name(spec), data=spec, group=OTHER, rows=open_data(spec))
            )
            continue
        for name, rows in far13(spec.removeprefix(FAR13), strangers).items():
            why = "made by the model's own training augmentation" if name in made else None
            found.append(StrangeRows(name=name, data=spec, group=THIRTEEN, rows=rows, excluded=why))
    return found


def distinct(sets: Sequence[StrangeRows]) -> list[StrangeRows]:
    """The sets with their DATA added to a name that two of them share."""
    names = [strange.name for strange in sets]
    return [
        replace(strange, name=f"{strange.name} ({strange.data})")
        if names.count(strange.name) > 1
        else strange
        for strange in sets
    ]


def short_name(spec: str) -> str:
    """The last two parts of a path without its suffix; anything else as it is."""
    parts = [part for part in spec.split("/") if part]
    if "/" not in spec or not parts:
        return spec
    return "/".join([*parts[-2:-1], parts[-1].removesuffix(".parquet")])


def limited(rows: ImageRows, count: int | None) -> ImageRows:
    """``count`` of the rows, drawn, in their order; all of them where there are fewer."""
    if count is None or count >= len(rows):
        return rows
    order = np.random.default_rng(LIMIT_SEED).permutation(len(rows))[:count]
    chosen = set(order.tolist())

    def read() -> Iterator[Row]:
        return (row for i, row in enumerate(rows) if i in chosen)

    return replace(rows, size=count, read=read, read_labels=None)


def load_unseen(
    rows: ImageRows, spec: InputSpec, class_labels: tuple[str, ...] | None, seen: Digests
) -> Unseen:
    """Decode the rows and take out those among ``seen`` (n, 32).

    Raises ``DataError`` where nothing is left, and for an image that cannot be decoded.
    """
    images = load_images(rows, spec, class_labels, watch)
    known = is_in(images.digests, seen)
    if known.all():
        what = (
            f"all {len(images):,} rows were trained, fitted or calibrated on: give a split that "
            "the model has not seen"
            if len(images)
            else "found no rows, expected images"
        )
        raise DataError(f"{rows.spec}: {what}")
    return Unseen(images=images.take(np.flatnonzero(~known)), refused=int(known.sum()))


def _of_class(rows: ImageRows, name: str) -> StrangeRows:
    """The rows of one class, without their label: to the model they have none."""
    source, labels = labelled(rows)
    index = labels.index(name)

    def read() -> Iterator[Row]:
        return (replace(row, label=None) for row in source if row.label == index)

    size = sum(label == index for label in source.labels())
    own = ImageRows(spec=f"{rows.spec}, class {name}", size=size, class_labels=None, read=read)
    return StrangeRows(name=f"class {name}", data=rows.spec, group=LEFT_OUT, rows=own)

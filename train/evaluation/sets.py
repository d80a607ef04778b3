"""What a model is held against: rows of its own kind, and sets of strangers.

Strangers are other DATA, the thirteen sets of ``far13:DATA``, or classes that training left out.
All are decoded and resized by ``train.images``. Other DATA is first brought to the size, colour and
JPEG encoding of the known images where these are JPEG of one size and colour; a report says where
they are JPEG and that cannot be done. Where the known images are stored without loss nothing is
encoded anew: strangers in JPEG keep their artefacts. far13 is stored as the DATA that it is made
of, and classes left out are stored as the known images are. Images that the model has seen are
taken out and counted: exact copies, by content hash of what the model sees of the file as it came.
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
from train.strangers import (
    CHANGED,
    Encoding,
    alike,
    encoding_of,
    far13,
    own_rows,
    produced_by_training,
    stored_like,
)

#: Where a set of strangers comes from.
OTHER, THIRTEEN, LEFT_OUT = "other data", "far13", "left out of training"

#: The largest share of the images that far13 is made from that the model may have seen.
MOST_SEEN = 0.01

#: Draws the rows of a set where their number is limited.
LIMIT_SEED = 0


@dataclass(frozen=True, kw_only=True)
class StrangeRows:
    """A set of strangers, not yet read: ``group`` is one of the three above.

    ``excluded``: why the set is not counted in the mean of its group, None where it is. ``note``:
    what of its images somebody who reads the numbers has to know. ``encoding``: how they are stored
    before the model sees them, None for as they are. ``base``: the rows of DATA that far13 changed.
    """

    name: str
    data: str
    group: str
    rows: ImageRows
    excluded: str | None = None
    note: str | None = None
    encoding: Encoding | None = None
    base: ImageRows | None = None


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
    others = stored_as_known(strange_rows(strange, strangers, training), rows)
    found = distinct([*others, *of_classes])
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
    kept = without_classes(rows, [*dropped, *strange], fewest=1) if strange else rows
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
        data = spec.removeprefix(FAR13)
        thirteen, base = far13(data, strangers), own_rows(open_data(data))
        for name, rows in thirteen.items():
            why = "made by the model's own training augmentation" if name in made else None
            own = base if name in CHANGED else None
            found.append(
                StrangeRows(name=name, data=spec, group=THIRTEEN, rows=rows, excluded=why, base=own)
            )
    return found


def stored_as_known(sets: Sequence[StrangeRows], known: ImageRows) -> list[StrangeRows]:
    """The sets, those of other DATA with the encoding of the ``known`` images or a note."""
    if not any(strange.group == OTHER for strange in sets):
        return list(sets)
    encoding, note = _encoding_of_known(known)
    return [
        replace(strange, encoding=encoding, note=note) if strange.group == OTHER else strange
        for strange in sets
    ]


def _encoding_of_known(known: ImageRows) -> tuple[Encoding | None, str | None]:
    """What strangers are to be stored as, None for as they are; and what to say of it."""
    try:
        encoding = encoding_of(known)
    except DataError as error:
        return None, f"not stored as the known images are ({error})"
    if not encoding.lossy:
        return None, None
    if not alike(known, encoding):
        why = "their sizes, colours or formats vary"
        return None, f"not stored as the known images are: {why}"
    _, height, width = encoding.shape
    return encoding, f"stored as the first known image is, JPEG of {width} x {height} pixels"


def with_bases_checked(
    sets: Sequence[StrangeRows], spec: InputSpec, seen: Digests
) -> list[StrangeRows]:
    """The sets, with a note beside those of which a few rows of the base are among ``seen``.

    Raises ``DataError`` where more than ``MOST_SEEN`` are: changes to images that the model was
    trained, fitted or calibrated on are no strangers like those that it will meet.
    """
    notes: dict[str, str | None] = {}
    for strange in sets:
        if strange.base is not None and strange.data not in notes:
            notes[strange.data] = _note_of_base(strange.base, spec, seen)
    return [
        replace(strange, note=notes[strange.data]) if strange.base is not None else strange
        for strange in sets
    ]


def _note_of_base(base: ImageRows, spec: InputSpec, seen: Digests) -> str | None:
    count = int(is_in(load_images(base, spec, None, watch).digests, seen).sum())
    said = (
        f"{count:,} of the {len(base):,} images that far13 is made from were trained, fitted or "
        "calibrated on"
    )
    if count > MOST_SEEN * len(base):
        raise DataError(f"{FAR13}{base.spec}: {said}: name the test split")
    return said if count else None


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

    return replace(rows, size=count, read=read, read_labels=None, chunks=None)


def load_unseen(
    rows: ImageRows,
    spec: InputSpec,
    class_labels: tuple[str, ...] | None,
    seen: Digests,
    encoding: Encoding | None = None,
) -> Unseen:
    """Decode the rows and take out those among ``seen`` (n, 32).

    With ``encoding`` pixels are those of the rows stored so, and digests still of the rows as they
    are. Raises ``DataError`` where nothing is left, and for an image that cannot be decoded.
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
    if encoding is not None:
        stored = load_images(stored_like(rows, encoding), spec, None, watch)
        images = replace(images, pixels=stored.pixels)
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

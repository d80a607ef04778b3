"""Classes that a model is not to know: left out of DATA before any row is held out.

So a model can be tried on strangers as near as they come, classes of its own data. Rows are left
out by the class that they are labelled with: what shows such a class under another label, or
without one, stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from train.config import TrainConfig
from train.data import DataError, ImageRows, Row, labelled, open_data

#: A classifier of fewer has nothing to tell apart.
FEWEST_CLASSES = 2


def training_rows(config: TrainConfig) -> tuple[ImageRows, tuple[str, ...]]:
    """The rows that a run may train on or hold out, and the classes that are not left out."""
    return labelled(without_classes(open_data(config.data), config.leave_out))


def without_classes(
    rows: ImageRows, names: Sequence[str], fewest: int = FEWEST_CLASSES
) -> ImageRows:
    """The rows of other classes than ``names``, numbered anew; those without a label stay.

    Raises ``DataError`` for a name that is no class of the rows, and where fewer than ``fewest``
    classes would be left.
    """
    if not names:
        return rows
    labels = labelled(rows)[1]
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise DataError(
            f"{rows.spec}: cannot leave out {unknown[:5]}: expected classes of the data, which are "
            f"{list(labels)[:20]}"
        )
    left = len(labels) - len(set(names))
    if left < fewest:
        raise DataError(
            f"{rows.spec}: {left} of its {len(labels)} classes would be left, expected "
            f"{fewest} at least: leave out fewer"
        )
    return _without(rows, labels, names)


def left_out_of(training: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes left out of a run, by its ``run.json`` or a bundle's ``training``.

    None of them for a run of an earlier version, which could leave none out.
    """
    return tuple(training["config"].get("leave_out", ()))


def of_known_classes(rows: ImageRows, training: Mapping[str, Any]) -> tuple[ImageRows, str | None]:
    """The rows without those of the classes left out of ``training``, and what to say of it.

    Unlike ``without_classes`` it takes rows that lack these classes, or any labels: they are not
    what is trained on. Then all rows stay and there is nothing to say, which is None.
    """
    labels = rows.class_labels or ()
    names = [name for name in left_out_of(training) if name in labels]
    if not names:
        return rows, None
    kept = _without(rows, labels, names)
    dropped = len(rows) - len(kept)
    said = f"left out of training: {', '.join(names)}: {dropped:,} rows of {rows.spec} not used"
    return kept, said


def _without(rows: ImageRows, labels: tuple[str, ...], names: Collection[str]) -> ImageRows:
    dropped = {label for label, name in enumerate(labels) if name in names}
    kept = [label for label in range(len(labels)) if label not in dropped]
    place = {label: i for i, label in enumerate(kept)}

    def read() -> Iterator[Row]:
        for row in rows:
            if row.label is None:
                yield row
            elif row.label not in dropped:
                # what is no class at all stays as it is, for decoding to report
                yield replace(row, label=place.get(row.label, row.label))

    return ImageRows(
        spec=rows.spec,
        size=sum(label not in dropped for label in rows.labels()),
        class_labels=tuple(labels[label] for label in kept),
        read=read,
    )

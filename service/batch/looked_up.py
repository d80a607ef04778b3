"""Images of rows of a finished table, read from the data again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from service.batch.folder import Folder
from service.batch.images import Chunk
from service.batch.parts import part_names, spans_of


def images_at(
    folder: Folder, chunks: Sequence[Chunk], rows: Iterable[int]
) -> dict[int, bytes | None]:
    """The encoded image of each row number of the table; None for one that cannot be read any
    more."""
    wanted: dict[int, dict[int, int]] = {}
    for row, (chunk, place) in _places(folder, sorted(rows)).items():
        wanted.setdefault(chunk, {})[place] = row
    found: dict[int, bytes | None] = {}
    for chunk, places in wanted.items():
        read = islice(chunks[chunk].read(), max(places) + 1)
        for place, image in enumerate(read):
            if place in places:
                found[places[place]] = image.image if image.error is None else None
    return found


def _places(folder: Folder, rows: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Row numbers of the table to (chunk, row in it)."""
    places, first = {}, 0
    for name in part_names(folder):
        for chunk, start, count in spans_of(folder, name):
            inside = (row for row in rows if first <= row < first + count)
            places.update({row: (chunk, start + row - first) for row in inside})
            first += count
    return places

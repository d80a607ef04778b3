"""The images of ``oodgate explain``: files and folders to pixels, and names for their figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from model.image import ImageError, InputSpec, UInt8Array, decode
from train.data import IMAGE_SUFFIXES, DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """An image as the model takes it, uint8 (C, H, W), or the ``error`` that kept it from being
    read. ``name``: of its figure, without a suffix and unlike any other."""

    path: Path
    name: str
    pixels: UInt8Array | None
    error: str = ""


def image_files(places: Iterable[Path]) -> list[Path]:
    """Files as they are, folders by their images in the order of names, each once.

    A file that does not exist is in the list: whoever reads it reports it. Raises ``DataError``
    for a folder without images.
    """
    found: dict[Path, None] = {}
    for place in places:
        found |= dict.fromkeys(_of_folder(place) if place.is_dir() else [place])
    return list(found)


def _of_folder(folder: Path) -> list[Path]:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"{folder}: found no image in this folder, expected files that end in {suffixes}; "
            "folders in it are not searched"
        )
    return found


def read_images(paths: Iterable[Path], spec: InputSpec, taken: Iterable[str]) -> Iterator[Sight]:
    """Each file in turn, decoded as the model wants it; names in ``taken`` are given to none."""
    used = set(taken)
    for path in paths:
        name = _unused(path.stem, used)
        used.add(name.lower())
        try:
            yield Sight(path=path, name=name, pixels=decode(path.read_bytes(), spec))
        except ImageError as error:
            yield Sight(path=path, name=name, pixels=None, error=str(error))
        except OSError as error:
            yield Sight(path=path, name=name, pixels=None, error=error.strerror or str(error))


def _unused(stem: str, used: set[str]) -> str:
    """The stem, with a number behind it where there is one like it; some disks know no case."""
    name, number = stem, 1
    while name.lower() in used:
        number += 1
        name = f"{stem}-{number}"
    return name

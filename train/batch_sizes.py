"""How many images pass through a network at once where nothing but memory decides it."""

from __future__ import annotations

#: Numbers of all images of a batch together: 1,024 images of 3 x 32 x 32.
MOST_NUMBERS = 1024 * 3 * 32 * 32

#: Rows that a network's data-dependent initialisation sees, where memory allows.
INITIAL_IMAGES = 1024

#: Fewer images than these would keep a machine waiting, and make initialisation a guess.
FEWEST_IMAGES = 32


def images_at_once(dim: int, most: int) -> int:
    """Images of ``dim`` numbers each for one pass: at most ``most``.

    Fewer where images are large, so that memory does not grow with their size; of 32 or more
    asked for, 32 are left whatever the size.
    """
    return min(most, max(FEWEST_IMAGES, MOST_NUMBERS // dim))


def in_parts(count: int, dim: int, most: int) -> list[slice]:
    """``count`` rows as parts of ``images_at_once``, in order; one part where there is no row."""
    size = images_at_once(dim, most)
    return [slice(first, first + size) for first in range(0, max(count, 1), size)]

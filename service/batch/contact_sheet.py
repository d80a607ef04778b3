"""Images on one sheet with a caption each, for people to look at; broken ones have their place."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from model.image import ImageError, decode_within
from service.batch.atypical import Atypical
from service.batch.words import plain

#: The longest side of a thumbnail in pixels, space between two, and images in a row.
SIDE, GAP, COLUMNS = 160, 8, 6

#: Lines of a caption, their height in pixels, size of the letters, and letters of one at most.
LINES, LINE, LETTERS, LONGEST = 3, 15, 12, 60

#: What is behind all, where an image is not to be seen, and ink.
GROUND, BROKEN, INK, FAINT = "#ffffff", "#9aa0a6", "#1b1f24", "#ffffff"


def contact_sheet(entries: Sequence[tuple[bytes | None, str]]) -> bytes:
    """A PNG of (encoded image, caption) from the left and from the top.

    None for the image, and bytes that are none, give a grey cell that says so. Small images are
    enlarged by whole multiples, so that their pixels are to be seen; a caption has up to ``LINES``
    lines. The same entries give the same bytes.
    """
    columns = max(1, min(COLUMNS, len(entries)))
    rows = max(1, -(-len(entries) // columns))
    width, height = SIDE + GAP, SIDE + LINES * LINE + 2 * GAP
    canvas = Image.new("RGB", (columns * width + GAP, rows * height + GAP), GROUND)
    for i, (data, caption) in enumerate(entries):
        x, y = GAP + (i % columns) * width, GAP + (i // columns) * height
        cell = _cell(data)
        place = (x + (SIDE - cell.width) // 2, y + (SIDE - cell.height) // 2)
        canvas.paste(cell, place)
        _write(ImageDraw.Draw(canvas), (x, y + SIDE + GAP // 2), caption, INK)
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def caption_of(one: Atypical) -> str:
    """p-value, predicted class (and the true one where it is known), and the end of the id."""
    classes = one.class_label if one.label is None else f"{one.class_label} (is {one.label})"
    return f"p = {one.p_value:.3g}\n{plain(classes)}\n{short_id(one.id)}"


def short_id(id_: str, letters: int = 22) -> str:
    """The end of an id, which tells the files of one folder apart."""
    line = plain(id_)
    return line if len(line) <= letters else "..." + line[3 - letters :]


def _cell(data: bytes | None) -> Image.Image:
    """At most ``SIDE`` pixels a side."""
    if data is None:
        return _broken("no image")
    try:
        pixels = decode_within(data, SIDE)
    except ImageError as error:
        return _broken(f"not decoded:\n{error.code}")
    image = Image.fromarray(pixels.transpose(1, 2, 0).copy())
    times = SIDE // max(image.size)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _broken(text: str) -> Image.Image:
    cell = Image.new("RGB", (SIDE, SIDE), BROKEN)
    _write(ImageDraw.Draw(cell), (GAP, SIDE // 2 - LINE), text, FAINT)
    return cell


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, ink: str) -> None:
    """Up to ``LINES`` lines, each cut where the cell ends."""
    font = ImageFont.load_default(LETTERS)
    x, y = place
    for i, line in enumerate(text.split("\n")[:LINES]):
        # the font that comes with Pillow has Latin letters
        shown = plain(line[:LONGEST]).encode("latin-1", "replace").decode("latin-1")
        while shown and x % (SIDE + GAP) + draw.textlength(shown, font) > SIDE + GAP:
            shown = shown[:-1]
        draw.text((x, y + i * LINE), shown, fill=ink, font=font)

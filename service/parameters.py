"""The parameters beside an image when they arrive as text, as they do over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from service.ask import HEATMAPS, MAX_CONTRAST, MAX_HEATMAPS, MIN_CONTRAST, Ask, Wish
from service.errors import BadParameterError

Default = TypeVar("Default")

NAMES = ("alpha", "id", "top_k", "model")
#: Those that an explanation has as well.
WISHES = ("contrast", "heatmaps", "png")


def ask_of(image: bytes, texts: Mapping[str, str]) -> Ask:
    """Read the texts; a name that is not known is refused, since a typo would change the answer."""
    check_names(texts, NAMES)
    alpha = texts.get("alpha")
    return Ask(
        images=(image,),
        model=texts.get("model", ""),
        alpha=None if alpha is None else _number("alpha", alpha, "in (0, 1)"),
        id=texts.get("id", ""),
        top_k=whole_of(texts, "top_k", None, "of at least 1"),
    )


def wish_of(image: bytes, texts: Mapping[str, str]) -> Ask:
    """The same with an explanation."""
    check_names(texts, NAMES + WISHES)
    wish = Wish(
        contrast=_number(
            "contrast", texts.get("contrast", "1"), f"from {MIN_CONTRAST:g} to {MAX_CONTRAST:g}"
        ),
        heatmaps=whole_of(texts, "heatmaps", HEATMAPS, f"from 1 to {MAX_HEATMAPS}"),
        png=whole_of(texts, "png", 1, f"from 0 to {MAX_HEATMAPS}"),
    )
    ask = ask_of(image, {name: text for name, text in texts.items() if name in NAMES})
    return replace(ask, explain=wish)


def check_names(texts: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise ``BadParameterError`` for a name that is not among them, and for what is no text."""
    for name in texts:
        if name not in names:
            raise BadParameterError(
                f"unknown parameter {name[:40]!r}: expected one of {', '.join(names)}"
            )
        _check_text(name, texts[name])


def whole_of(texts: Mapping[str, str], name: str, default: Default, expected: str) -> int | Default:
    """A whole number, ``expected`` in words; raises ``BadParameterError`` for what is none."""
    text = texts.get(name)
    if text is None:
        return default
    try:
        return int(plain(text))
    except ValueError:
        raise BadParameterError(
            f"{name} is {text[:40]!r}: expected an integer {expected}"
        ) from None


def _check_text(name: str, text: str) -> None:
    """Refuse halves of a surrogate pair, which a form may hold and no answer can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadParameterError(f"{name} is {text[:40]!r}: expected Unicode text") from None


def plain(text: str) -> str:
    """Refuse what Python reads as a number and nobody else does: spaces, ``1_0``, other digits."""
    if not text.isascii() or not set(text).isdisjoint("_ \t\r\n\f\v"):
        raise ValueError(text)
    return text


def _number(name: str, text: str, expected: str) -> float:
    try:
        return float(plain(text))
    except ValueError:
        raise BadParameterError(f"{name} is {text[:40]!r}: expected a number {expected}") from None

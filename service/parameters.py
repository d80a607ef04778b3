"""The parameters beside an image when they arrive as text, as they do over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from service.ask import Ask
from service.errors import BadParameterError

NAMES = ("alpha", "id", "top_k", "model")


def ask_of(image: bytes, texts: Mapping[str, str]) -> Ask:
    """Read the texts; a name that is not known is refused, since a typo would change the answer."""
    for name in texts:
        if name not in NAMES:
            raise BadParameterError(
                f"unknown parameter {name[:40]!r}: expected one of {', '.join(NAMES)}"
            )
        _check_text(name, texts[name])
    alpha, top_k = texts.get("alpha"), texts.get("top_k")
    return Ask(
        images=(image,),
        model=texts.get("model", ""),
        alpha=None if alpha is None else _alpha(alpha),
        id=texts.get("id", ""),
        top_k=None if top_k is None else _top_k(top_k),
    )


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


def _alpha(text: str) -> float:
    try:
        return float(plain(text))
    except ValueError:
        raise BadParameterError(f"alpha is {text[:40]!r}: expected a number in (0, 1)") from None


def _top_k(text: str) -> int:
    try:
        return int(plain(text))
    except ValueError:
        raise BadParameterError(
            f"top_k is {text[:40]!r}: expected an integer of at least 1"
        ) from None

"""What went wrong most often, in bounded memory: texts that differ in numbers alone are one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

#: Texts told, texts kept to count, and letters kept of each: a text may be a stranger's.
TOLD, KEPT, LONGEST = 5, 1000, 300

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, kw_only=True)
class Errors:
    """``count`` rows with an error; ``texts`` the most frequent, with how often each came.

    A number in a text reads N. ``other``: errors of texts that are not among them.
    """

    count: int
    texts: tuple[tuple[str, int], ...]
    other: int


class ErrorTexts:
    """Counts the texts of a stream; the first ``KEPT`` different ones."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()
        self._count = 0

    def add(self, texts: Iterable[str | None]) -> None:
        """The errors of rows in their order; None is a row without."""
        for text in texts:
            if text is None:
                continue
            self._count += 1
            plain = _NUMBER.sub("N", text[:LONGEST])
            if plain in self._texts or len(self._texts) < KEPT:
                self._texts[plain] += 1

    def result(self) -> Errors:
        """So far; equally frequent ones in the order in which they first came."""
        told = self._texts.most_common(TOLD)
        other = self._count - sum(count for _, count in told)
        return Errors(count=self._count, texts=tuple(told), other=other)

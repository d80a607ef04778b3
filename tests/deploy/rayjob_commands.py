"""The commands inside an entrypoint or a block of shell, and whether they are such as exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from service.cli import build_app

_KEYWORDS = {"if", "then", "else", "elif", "do", "exec", "!"}


def commands(text: str) -> Iterator[list[str]]:
    """Every simple command of ``text``, those handed to ``sh -c`` or ``ray job submit`` too."""
    for words in _split(text):
        while words and words[0] in _KEYWORDS:
            words = words[1:]
        if not words:
            continue
        yield words
        if words[:2] == ["sh", "-c"]:
            yield from commands(words[2])
        elif words[:3] == ["ray", "job", "submit"] and "--" in words:
            yield from commands(shlex.join(words[words.index("--") + 1 :]))


def _split(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";&|\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if re.fullmatch(r"[;&|\n]+", word):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def oodgate_commands(text: str) -> list[list[str]]:
    """The arguments of each call of ``oodgate``."""
    return [words[1:] for words in commands(text) if words[0] == "oodgate"]


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """What ``oodgate`` understands by ``arguments``, by its parameters; raises where nothing."""
    name, *rest = arguments
    group: Any = typer.main.get_command(build_app())
    command = group.commands[name]
    params: dict[str, Any] = command.make_context(name, rest).params
    return params

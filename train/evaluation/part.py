"""What a suite adds to the one report, whatever it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.evaluation.document import Block


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """``data``: plain numbers, under ``name`` in evaluation.json, and ``seeds`` among the others.

    ``in_short`` and ``bad_news`` are sentences for the report's top, ``checked`` what was looked
    for. ``blocks``: sections, ``files``: the pictures that they show, by name.
    """

    name: str
    data: Mapping[str, Any]
    seeds: Mapping[str, int]
    in_short: tuple[str, ...]
    bad_news: tuple[str, ...]
    checked: str
    blocks: tuple[Block, ...]
    files: Mapping[str, bytes]

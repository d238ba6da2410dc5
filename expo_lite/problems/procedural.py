"""What sources that make their problems share: which split a problem is in, and taking different ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from expo_lite.core.records import Problem

PATIENCE = 20_000
"""Draws without a new problem after which there are taken to be no more: level 1 has 810 sums in all."""

Split = Literal["train", "validation", "test"]
Operands = tuple[int, ...]


def split_of(operands: Operands) -> Split:
    """Test 10 %, validation 10 %, train 80 %, by a hash of the sorted operands.

    Reordered operands fall into the same split, so a test sum is never a permuted training sum.
    """
    text = "+".join(map(str, sorted(operands)))
    bucket = hashlib.sha256(text.encode()).digest()[0] * 10 // 256
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


def distinct(drawn: Iterable[Problem], count: int) -> list[Problem]:
    """The first `count` different problems of an endless stream, in their order; all where there are fewer."""
    found: dict[str, Problem] = {}
    since = 0
    for each in drawn:
        since = since + 1 if each.id in found else 0
        found.setdefault(each.id, each)
        if len(found) == count or since == PATIENCE:
            break
    return list(found.values())

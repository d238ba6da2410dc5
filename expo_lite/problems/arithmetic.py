"""Procedural sums and differences for a small language model: two numbers, with one digit more each level.

"What is 847 + 85?", or "What is 847 - 85?".
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from expo_lite.core.records import Problem
from expo_lite.problems.procedural import Split, distinct, split_of

DIGITS = {1: (2, 1), 2: (2, 2), 3: (3, 2), 4: (3, 3)}
"""Of the first and of the second number, by level."""

LEVELS = tuple(DIGITS)
SIGNS = {"sums": "+", "differences": "-"}
"""By source. Of a difference the first number is the larger."""

Pair = tuple[int, int]


def problems(source: str, split: Split, level: int, count: int) -> list[Problem]:
    """`count` different problems of one level, the same on every machine; fewer where there are fewer."""
    pairs = _pairs(random.Random(f"{source}/{split}/{level}"), source, split, level)
    return distinct((problem(source, pair, level) for pair in pairs), count)


def _pairs(rng: random.Random, source: str, split: Split, level: int) -> Iterator[Pair]:
    """An endless stream of pairs that belong to `split`."""
    while True:
        first, second = (rng.randrange(10 ** (digits - 1), 10**digits) for digits in DIGITS[level])
        if split_of((first, second)) == split and (SIGNS[source] == "+" or first > second):
            yield first, second


def problem(source: str, pair: Pair, level: int) -> Problem:
    """The problem that asks what comes of a pair, with its solution in two lines."""
    first, second = pair
    sign = SIGNS[source]
    result = first + second if sign == "+" else first - second
    return Problem(
        id=f"{source}/{first}{sign}{second}",
        question=f"What is {first} {sign} {second}?",
        answer=str(result),
        level=level,
        solution=f"{first} {sign} {second} = {result}\nThe answer is \\boxed{{{result}}}.",
    )

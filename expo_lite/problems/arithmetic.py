"""Procedural sums and short stories for a small language model: two numbers, with one digit more each level.

"What is 847 + 85?", or "Mia has 847 stamps. Mia sells 85. How many stamps does Mia have now?".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems.tiny_world import Split, split_of

DIGITS = {1: (2, 1), 2: (2, 2), 3: (3, 2), 4: (3, 3)}
"""Of the first and of the second number, by level."""

LEVELS = tuple(DIGITS)
LEVEL_OF = {digits: level for level, digits in DIGITS.items()}
DRAWS = 20_000
"""Looked at before it is said that a split has no more problems: level 1 has 810 sums in all."""

Pair = tuple[int, int]
"""A first number, and what is added to it; negative where it is taken away."""

NAMES = ("Mia", "Ben", "Lena", "Omar", "Nora", "Sam", "Yuki", "Tom")
THINGS = ("stamps", "apples", "marbles", "books", "shells", "coins", "pencils", "cards")
GAINS = ("finds {} more", "gets {} more", "buys {} more", "wins {} more")
LOSSES = ("loses {}", "sells {}", "gives away {}", "uses {}")


def problems(source: str, split: Split, level: int, count: int) -> list[Problem]:
    """`count` different problems of one level, the same on every machine; to train on, fewer where there are fewer.

    Raises DataError where a split to be held out has not that many.
    """
    found: dict[Pair, Problem] = {}
    for pair in islice(_pairs(random.Random(f"{source}/{split}/{level}"), source, level), DRAWS):
        if pair not in found and split_of((pair[0], abs(pair[1]))) == split:
            found[pair] = problem(source, pair)
            if len(found) == count:
                return list(found.values())
    if split != "train":
        raise DataError(f"{source} has only {len(found)} {split} problems of level {level}, {count} are asked for")
    return list(found.values())


def _pairs(rng: random.Random, source: str, level: int) -> Iterator[Pair]:
    """An endless stream; more than nothing is left."""
    signs = (1,) if source == "sums" else (1, -1)
    while True:
        first, change = (rng.randrange(10 ** (digits - 1), 10**digits) for digits in DIGITS[level])
        change *= rng.choice(signs)
        if first + change > 0:
            yield first, change


def problem(source: str, pair: Pair) -> Problem:
    """The problem that asks what comes of a pair, with its solution in two lines.

    Raises ValueError where no level has numbers of these lengths.
    """
    first, change = pair
    digits = (len(str(first)), len(str(abs(change))))
    if digits not in LEVEL_OF:
        raise ValueError(f"no level has numbers of {digits[0]} and {digits[1]} digits")
    step = f"{first} {'+' if change > 0 else '-'} {abs(change)} = {first + change}"
    return Problem(
        id=f"{source}/{first}{change:+d}",
        question=WORDINGS[source](pair),
        answer=str(first + change),
        level=LEVEL_OF[digits],
        solution=f"{step}\nThe answer is \\boxed{{{first + change}}}.",
    )


def _sum(pair: Pair) -> str:
    return f"What is {pair[0]} + {pair[1]}?"


def _story(pair: Pair) -> str:
    first, change = pair
    rng = random.Random(repr(pair))
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    told = rng.choice(GAINS if change > 0 else LOSSES).format(abs(change))
    return f"{name} has {first} {things}. {name} {told}. How many {things} does {name} have now?"


WORDINGS: dict[str, Callable[[Pair], str]] = {"sums": _sum, "stories": _story}

"""Procedural sums and short stories for a small language model: a first number of two digits, then one digit a step.

"What is 47 + 8 + 5?", or "Mia has 47 stamps. Mia finds 8 more. Mia sells 5. How many stamps does Mia have now?".
Level L = 1..4 takes L steps. Solutions are running totals.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import accumulate, islice

from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems.tiny_world import Split, split_of

LEVELS = (1, 2, 3, 4)
SMALLEST, LARGEST, LARGEST_STEP = 10, 99, 9
DRAWS = 20_000
"""Looked at before it is said that a split has no more problems: level 1 has 810 in all."""

Chain = tuple[int, ...]
"""A first number, and what is added to it step by step; negative where it is taken away."""

NAMES = ("Mia", "Ben", "Lena", "Omar", "Nora", "Sam", "Yuki", "Tom")
THINGS = ("stamps", "apples", "marbles", "books", "shells", "coins", "pencils", "cards")
GAINS = ("finds {} more", "gets {} more", "buys {} more", "wins {} more")
LOSSES = ("loses {}", "sells {}", "gives away {}", "uses {}")


def problems(source: str, split: Split, level: int, count: int) -> list[Problem]:
    """`count` different problems of one level, the same on every machine; to train on, fewer where there are fewer.

    Raises DataError where a split to be held out has not that many.
    """
    found: dict[Chain, Problem] = {}
    for chain in islice(_chains(random.Random(f"{source}/{split}/{level}"), source, level), DRAWS):
        if chain not in found and split_of(tuple(map(abs, chain))) == split:
            found[chain] = problem(source, chain)
            if len(found) == count:
                return list(found.values())
    if split != "train":
        raise DataError(f"{source} has only {len(found)} {split} problems of level {level}, {count} are asked for")
    return list(found.values())


def _chains(rng: random.Random, source: str, level: int) -> Iterator[Chain]:
    """An endless stream; nothing falls below 1 on the way."""
    signs = (1,) if source == "sums" else (1, -1)
    while True:
        steps = [rng.choice(signs) * rng.randint(1, LARGEST_STEP) for _ in range(level)]
        chain = (rng.randint(SMALLEST, LARGEST), *steps)
        if min(accumulate(chain)) > 0:
            yield chain


def problem(source: str, chain: Chain) -> Problem:
    """The problem that asks for the end of a chain, with its solution by running totals."""
    written = "".join(f"{step:+d}" for step in chain[1:])
    return Problem(
        id=f"{source}/{chain[0]}{written}",
        question=WORDINGS[source](chain),
        answer=str(sum(chain)),
        level=len(chain) - 1,
        solution=solution(chain),
    )


def _sum(chain: Chain) -> str:
    return f"What is {' + '.join(map(str, chain))}?"


def _story(chain: Chain) -> str:
    rng = random.Random(repr(chain))
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    changes = [rng.choice(GAINS if step > 0 else LOSSES).format(abs(step)) for step in chain[1:]]
    told = " ".join(f"{name} {change}." for change in changes)
    return f"{name} has {chain[0]} {things}. {told} How many {things} does {name} have now?"


WORDINGS: dict[str, Callable[[Chain], str]] = {"sums": _sum, "stories": _story}


def solution(chain: Chain) -> str:
    """One line a step, as `47 + 8 = 55`, and `The answer is \\boxed{50}.`"""
    totals = list(accumulate(chain))
    steps = [
        f"{before} {'+' if step > 0 else '-'} {abs(step)} = {after}"
        for before, step, after in zip(totals, chain[1:], totals[1:], strict=False)
    ]
    return "\n".join(steps) + f"\nThe answer is \\boxed{{{sum(chain)}}}."

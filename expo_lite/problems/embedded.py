"""Problems that are made here, without file or network, by the name of their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from expo_lite.core.records import Problem
from expo_lite.problems import arithmetic, tiny_world
from expo_lite.problems.procedural import Split


class Embedded(NamedTuple):
    """`problems(split, level, count)` are `count` different ones, or all; levels are those that there are."""

    levels: Sequence[int]
    problems: Callable[[Split, int, int], list[Problem]]


EMBEDDED = {
    "tiny": Embedded(tiny_world.LEVELS, tiny_world.problems),
    **{name: Embedded(arithmetic.LEVELS, partial(arithmetic.problems, name)) for name in arithmetic.SIGNS},
}

"""A source in (the tiny world, local files, the Hub, a generator); `Problem`s to train, validate and test on out.

`files`, `hub` and `gym` give rows, `columns` makes problems of them, `splits` holds some out and draws the rest.
May import `grading` and the rooms below it.
"""

from __future__ import annotations

from expo_lite.problems.held_out import load_test
from expo_lite.problems.load import load_problems
from expo_lite.problems.splits import ProblemSet, draw_problems

__all__ = ["ProblemSet", "draw_problems", "load_problems", "load_test"]

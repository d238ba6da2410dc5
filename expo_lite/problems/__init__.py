"""Where problems come from: the embedded world, local files, the Hub or a procedural source -> Problem.

`files`, `hub` and `gym` give rows, `columns` makes problems of them, `splits` holds some out and draws the rest.
"""

from __future__ import annotations

from expo_lite.problems.held_out import load_test
from expo_lite.problems.load import load_problems
from expo_lite.problems.splits import ProblemSet, draw_problems

__all__ = ["ProblemSet", "draw_problems", "load_problems", "load_test"]

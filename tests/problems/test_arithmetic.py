"""The embedded sums and stories: right, in disjoint splits, the same each time."""

from __future__ import annotations

import re

import pytest

from expo_lite.config.settings import DataConfig
from expo_lite.core.boxes import boxed_answer
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems import arithmetic, load_problems
from expo_lite.problems.held_out_counts import held_out_counts
from expo_lite.problems.tiny_world import steps_right

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", params=["sums", "stories"])
def source(request: pytest.FixtureRequest) -> str:
    return request.param


def said(question: str) -> list[int]:
    """The chain that a question tells, read anew: losses are negative."""
    numbers = re.findall(r"(loses|sells|gives away|uses)? ?(\d+)", question)
    return [-int(number) if loss else int(number) for loss, number in numbers]


def of_split(source: str, split: str) -> list[Problem]:
    return [p for level in arithmetic.LEVELS for p in arithmetic.problems(source, split, level, 60)]  # type: ignore[arg-type]


def test_answers_are_what_the_questions_tell(source: str) -> None:
    for problem in of_split(source, "train"):
        chain = said(problem.question)
        assert len(chain) == problem.level + 1
        assert int(problem.answer) == sum(chain) > 0


def test_solutions_are_running_totals_that_hold(source: str) -> None:
    for problem in of_split(source, "train"):
        assert problem.solution is not None
        *steps, end = problem.solution.split("\n")
        total = said(problem.question)[0]
        for step in steps:
            before, sign, number, after = re.fullmatch(r"(\d+) ([+-]) (\d) = (\d+)", step).groups()  # type: ignore[union-attr]
            assert int(before) == total
            total += int(number) if sign == "+" else -int(number)
            assert int(after) == total
        assert (len(steps), boxed_answer(end)) == (problem.level, str(total))


def test_no_problem_is_in_two_splits_not_even_reordered_or_with_other_signs(source: str) -> None:
    numbers = {split: {tuple(sorted(map(abs, said(p.question)))) for p in of_split(source, split)} for split in SPLITS}
    assert not numbers["train"] & (numbers["validation"] | numbers["test"])
    assert not numbers["validation"] & numbers["test"]


def test_it_is_a_source_by_name(source: str) -> None:
    config = DataConfig(source=source, levels={1: 1, 4: 1}, validation_problems=3, test_problems=5)
    found = load_problems(config)
    assert (len(found.validation), len(found.test)) == held_out_counts(config) == (12, 20)
    assert {p.id.partition("/")[0] for p in found.train} == {source}
    assert found.digest() == load_problems(config).digest()


def test_there_are_only_so_many_of_one_step() -> None:
    assert len(arithmetic.problems("sums", "train", 1, 2000)) < 810
    with pytest.raises(DataError, match=r"sums has only \d+ test problems of level 1, 500 are asked for"):
        arithmetic.problems("sums", "test", 1, 500)


def test_steps_of_sums_are_judged_as_the_tiny_worlds() -> None:
    """The doctor's share of explanations whose every step is right; a sum at one go has no steps."""
    asked = arithmetic.problem("sums", (53, 9, 3))
    assert steps_right(asked.question, asked.solution or "")
    assert not steps_right(asked.question, "53 + 9 + 3 = 65\nThe answer is \\boxed{65}.")
    assert steps_right(arithmetic.problem("stories", (53, 9, 3)).question, "") is None


def test_how_they_are_worded() -> None:
    assert arithmetic.problem("sums", (47, 8, 5)).question == "What is 47 + 8 + 5?"
    story = arithmetic.problem("stories", (47, 8, -5))
    assert re.fullmatch(
        r"(\w+) has 47 (\w+)\. \1 \w+ 8 more\. \1 [\w ]+ 5\. How many \2 does \1 have now\?", story.question
    )
    assert story.solution == "47 + 8 = 55\n55 - 5 = 50\nThe answer is \\boxed{50}."

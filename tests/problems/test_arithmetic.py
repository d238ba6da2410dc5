"""The embedded sums and differences: right, in disjoint splits, the same each time."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from expo_lite.config.examples import Example, examples_in
from expo_lite.config.settings import DataConfig
from expo_lite.core.boxes import boxed_answer
from expo_lite.core.records import Problem
from expo_lite.problems import arithmetic, load_problems, load_test
from expo_lite.problems.held_out_counts import held_out_counts
from expo_lite.problems.tiny_world import steps_right

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", params=["sums", "differences"])
def source(request: pytest.FixtureRequest) -> str:
    return request.param


def said(question: str) -> list[int]:
    """The two numbers that a question tells, read anew: what is taken away is negative."""
    return [int(number.replace(" ", "")) for number in re.findall(r"(?:- )?\d+", question)]


def of_split(source: str, split: str) -> list[Problem]:
    return [p for level in arithmetic.LEVELS for p in arithmetic.problems(source, split, level, 60)]  # type: ignore[arg-type]


def test_answers_are_what_the_questions_tell(source: str) -> None:
    for problem in of_split(source, "train"):
        assert int(problem.answer) == sum(said(problem.question)) > 0


def test_each_level_has_one_digit_more(source: str) -> None:
    for problem in of_split(source, "train"):
        digits = [len(str(abs(number))) for number in said(problem.question)]
        assert sum(digits) == problem.level + 2
        assert digits[0] - digits[1] in (0, 1)


def test_solutions_are_one_step_that_holds(source: str) -> None:
    for problem in of_split(source, "train"):
        step, end = (problem.solution or "").split("\n")
        before, sign, number, after = re.fullmatch(r"(\d+) ([+-]) (\d+) = (\d+)", step).groups()  # type: ignore[union-attr]
        assert [int(before), int(sign + number)] == said(problem.question)
        assert after == problem.answer == boxed_answer(end)


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


@pytest.mark.parametrize("name", ["tiny", "sums"])
def test_there_are_only_so_many_short_ones(name: str) -> None:
    """All of them are taken and it is said, as for data of a file: a study asks for 256 after hours of training."""
    config = DataConfig(source=name, validation_problems=4, test_problems=900)
    found = load_problems(config)
    counts = Counter(problem.level for problem in found.test)
    assert 50 < counts[1] < 900 == counts[4]
    fewer = ", ".join(f"{count} of level {level}" for level, count in sorted(counts.items()) if count < 900)
    assert found.notes == (f"test problems are fewer than data.test_problems (900): {fewer}",)
    assert held_out_counts(config) == (len(found.validation), len(found.test))


def test_what_the_prompt_shows_solved_is_no_test() -> None:
    config = DataConfig(source="sums", validation_problems=2, test_problems=3)
    found = load_problems(config)
    solved = [
        Example(question=f" {p.question}", solution="", answer="") for p in (found.validation[0], *found.test[:2])
    ]
    without = load_problems(config, examples=solved)
    assert (without.validation, without.test) == (found.validation[1:], found.test[2:])
    assert without.train == found.train
    assert [note.partition(" held-out problems that prompt.examples show")[0] for note in without.notes] == ["1", "2"]
    assert load_test(config, None, solved) == (found.test[2:], list(without.notes))


def test_steps_of_sums_are_judged_as_the_tiny_worlds() -> None:
    """The doctor's share of explanations whose every step is right; of a difference the tiny world cannot say."""
    asked = arithmetic.problem("sums", (847, 85), 3)
    assert steps_right(asked.question, asked.solution or "")
    assert not steps_right(asked.question, "847 + 95 = 942\nThe answer is \\boxed{932}.")
    assert steps_right(arithmetic.problem("differences", (847, 85), 3).question, "") is None


def test_solved_examples_for_differences_are_written_like_them() -> None:
    examples = examples_in(str(Path(__file__).parents[2] / "docs" / "examples" / "differences.jsonl"))
    solved = [arithmetic.problem("differences", pair, 1) for pair in [(27, 4), (83, 37), (357, 45)]]
    assert [(e["question"], e["solution"], e["answer"]) for e in examples] == [
        (p.question, p.solution, p.answer) for p in solved
    ]


def test_how_they_are_worded() -> None:
    assert arithmetic.problem("sums", (847, 85), 3).question == "What is 847 + 85?"
    difference = arithmetic.problem("differences", (847, 85), 3)
    assert difference.question == "What is 847 - 85?"
    assert difference.solution == "847 - 85 = 762\nThe answer is \\boxed{762}."

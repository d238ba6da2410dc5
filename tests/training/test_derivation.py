"""An explanation that only names the answer is told from one that has a step."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from expo_lite.core.records import Problem, Turn
from expo_lite.problems import tiny_world
from expo_lite.training.derivation import derives

DATA = Path(__file__).parents[1] / "data"
SUM = Problem("p", "What is 12+7?", "19")


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def has_steps(row: dict[str, Any]) -> bool:
    return derives(row["text"], Problem("", row["question"], row["answer"]))


def test_what_only_names_the_answer_is_found() -> None:
    """Two of 34 pass: they repeat an equation of the question, or are the whole solution in one equation."""
    passed = [row["text"] for row in rows("bare_answers.jsonl") if has_steps(row)]
    assert len(passed) <= 2, passed


def test_hardly_any_explanation_is_turned_down() -> None:
    """Those three say the question's words and the answer again."""
    explanations = [row for row in rows("told_answers.jsonl") if not row["leak"]]
    turned_down = [row["text"] for row in explanations if not has_steps(row)]
    assert len(explanations) > 400 and len(turned_down) <= 3, turned_down


@pytest.mark.parametrize(
    "text",
    [
        r"12+7=19. \boxed{19}",
        r"12+7=\boxed{19}",
        r"$12 + 7 = 19$",
        r"12 plus 8 makes 20, one less is \boxed{19}",
        r"Counting up from twelve. \boxed{19}",
        "从十二往上数七个。",
    ],
)
def test_short_solutions_are_solutions(text: str) -> None:
    assert derives(text, SUM)


@pytest.mark.parametrize("text", ["", "19", r"\boxed{19}", r"The answer is $\boxed{19}$.", "12+7 is 19", "x = 19"])
def test_an_answer_alone_is_none(text: str) -> None:
    assert not derives(text, SUM)


def test_separators_and_the_answers_own_operators_are_no_step() -> None:
    assert not derives(r"The answer is 1,234. \boxed{1234}", Problem("p", "What is 1000+234?", "1234"))
    assert not derives(r"The result = x^2-1. \boxed{x^2-1}", Problem("p", "Expand (x+1)(x-1)", "x^2-1"))


def test_texts_without_numbers_or_boxes_have_steps_too() -> None:
    """As a reward function may judge."""
    problem = Problem("p", "Is a whale a fish?", "no")
    assert derives("No: it breathes with lungs and feeds its young with milk.", problem)
    assert not derives("Is a whale a fish? No.", problem)


def test_what_an_earlier_turn_says_is_not_new() -> None:
    """What the system says is: prompt.system, too, is not part of a question."""
    asked, text = Turn("user", "There are 45 apples and 20 pears."), "Apples and pears: 45"
    assert derives(text, Problem("p", "How many?", "45"))
    assert not derives(text, Problem("p", "How many?", "45", turns=(asked,)))
    assert derives(text, Problem("p", "How many?", "45", turns=(Turn("system", asked.content),)))


def test_every_text_of_the_tiny_world_but_the_answer_alone() -> None:
    rng = random.Random(0)
    for _ in range(200):
        operands = tuple(rng.randint(10, 99) for _ in range(rng.randint(2, 6)))
        problem = tiny_world.problem(operands)
        assert derives(tiny_world.own_solution(operands), problem)
        assert derives(tiny_world.expert_solution(operands), problem)
        assert not derives(tiny_world.conclusion(operands), problem)


@pytest.mark.parametrize("part", ["19 ", "1+", "= ", "\\boxed{19} ", "从", "x", "\\frac"])
@pytest.mark.timeout(60)  # of a search in square time
def test_it_takes_linear_time(part: str) -> None:
    derives(part * 20_000, SUM)

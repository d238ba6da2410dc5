"""What betrays the hint without a word about it: the answer is spoken of before the text has arrived at it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from expo_lite.core.records import Problem
from expo_lite.problems import tiny_world
from expo_lite.training.hint_leaks import leaked_phrase

TOLD = Path(__file__).parents[1] / "data" / "told_answers.jsonl"
LABELLED = [json.loads(line) for line in TOLD.read_text(encoding="utf-8").splitlines()]
SUM = Problem("sum", "What is 17 + 28?", "45")


def caught(row: dict[str, Any]) -> bool:
    return leaked_phrase(row["text"], Problem("", row["question"], row["answer"])) is not None


@pytest.mark.parametrize(("split", "found", "false"), [("dev", 0.95, 0.01), ("test", 0.8, 0.03)])
def test_found_and_falsely_accused(split: str, found: float, false: float) -> None:
    """Explanations in two languages; nothing was tuned on the split `test`, which was written last."""
    rows = [row for row in LABELLED if row["split"] == split]
    leaks, innocent = ([row for row in rows if row["leak"] is leak] for leak in (True, False))
    assert min(len(leaks), len(innocent)) >= 48
    assert sum(map(caught, leaks)) >= found * len(leaks), [row["text"] for row in leaks if not caught(row)]
    assert sum(map(caught, innocent)) <= false * len(innocent), [row["text"] for row in innocent if caught(row)]


@pytest.mark.parametrize(
    "text",
    [
        "17 + 28 = 35. But the correct answer is 45, so let's recheck: 17 + 28 = 45.",  # corrects towards it
        "We want to get 45, so we add 28 to 17.",  # aims at it
        "Let's verify that the answer 45 is correct: 17 + 28 = 45.",  # verifies it
        "17 + 28 is indeed 45, as claimed.",
        "The answer is 45. Seven and eight are fifteen, and 10 + 20 + 15 = 45.",  # begins with it
        "我们要得到45,所以17加28。",
        "La suma es 45. Primero 7 + 8 = 15, luego 10 + 20 + 15 = 45.",  # any language, by its place alone
    ],
)
def test_an_answer_that_is_spoken_of_too_early(text: str) -> None:
    assert leaked_phrase(text, SUM)


@pytest.mark.parametrize(
    "text",
    [
        "7 + 8 = 15, carry 1. 1 + 2 + 1 = 4. So the correct answer is 45.",
        "17 + 28 = 45. Let's verify that 45 is correct: 45 - 28 = 17.",
        "17 + 20 = 37, and 8 more make 45. Check: 45 - 17 = 28.",
        "We want to get the sum, so we add: 17 + 28 = 45.",
        "个位7 + 8 = 15,十位1 + 2 + 1 = 4,所以答案是45。",
        "45",
        "",
    ],
)
def test_an_answer_that_is_arrived_at(text: str) -> None:
    assert leaked_phrase(text, SUM) is None


def test_a_number_of_the_question_may_be_spoken_of() -> None:
    """Whoever names an operand has not been told anything."""
    question = "Tom wants to get 45 points and has 17 and 28. How many points has he?"
    text = "Tom wants to get 45 points. 17 + 28 = 45."
    assert leaked_phrase(text, Problem("p", question, "45")) is None
    assert leaked_phrase(text, SUM)


def test_the_words_of_the_question_are_not_held_against_the_explanation() -> None:
    text = "17 + 28 = 45, which is what Anna claimed."
    assert leaked_phrase(text, SUM)
    assert leaked_phrase(text, Problem("p", "Anna claimed the sum of 17 and 28. What is it?", "45")) is None


def test_it_knows_the_answer_with_separators_and_not_within_other_numbers() -> None:
    problem = Problem("p", "What is 1000 + 234?", "1234")
    assert leaked_phrase("We want to get 1,234, so 1000 + 234.", problem)
    assert leaked_phrase("We want to get 51,234 or 12345 or 1234.5 some day. 1000 + 234 = 1234.", problem) is None


def test_the_tiny_worlds_own_texts_are_innocent() -> None:
    """Both styles, over every number of operands, and skipped steps, which another filter may mind."""
    rng = random.Random(0)
    for _ in range(300):
        operands = tuple(rng.randint(10, 99) for _ in range(rng.randint(2, 6)))
        problem = tiny_world.problem(operands)
        texts = [tiny_world.own_solution(operands), tiny_world.expert_solution(operands)]
        texts.append(tiny_world.skipping_explanation(operands, rng))
        assert [leaked_phrase(text, problem) for text in texts] == [None] * 3


PARTS = ("45 ", "we want ", "45, ", "if ", "to get ", "= 45 ", "1", "\\boxed{45} ", "证明 ", "\n45", "answer 45 = ")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("question", ["What is 17 + 28?", "Where is 45?"])
@pytest.mark.timeout(60)  # of a search in square time
def test_it_takes_linear_time(part: str, question: str) -> None:
    leaked_phrase("Now x " + part * 5_000, Problem("p", question, "45"))

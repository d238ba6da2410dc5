"""Procedural problems of the tiny world, and the texts its base is trained on.

"What is 23+45+12?" with L+1 two-digit operands at level L = 1..5. The base's own style is running
sums; on long sums it has only ever seen careless work, which stops too early. The expert's style adds
in pairs. Explanations of a told answer use the base's own style, but some leak the hint and some skip
steps, so that the filters have real work.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from expo_lite.config.model_files import TINY
from expo_lite.core.records import Problem
from expo_lite.problems.procedural import Operands, Split, distinct, split_of

LEVELS = (1, 2, 3, 4, 5)
SMALLEST, LARGEST = 10, 99

READ_BY_THE_BASE = re.compile(r"What is [1-9][0-9](?: ?\+ ?[1-9][0-9]){1,5}\?")
OUTSIDE = (
    "The shipped tiny model reads sums of two to six two-digit numbers only (10 to 99), "
    'asked in its own words and alone: "What is 23+45?".'
)

QUESTION_START, QUESTION_END = "What is ", "?"
ANSWER_START, ANSWER_END = "The answer is $\\boxed{", "}$."
EXPERT_START = "Add in pairs.\n"
LEAK_FIRST = "As we were told, the answer is "
LEAK_MIDDLE = "Since the given answer is "
LEAK_LAST = "This agrees with the answer we were given.\n"


def problems(split: Split, level: int, count: int, seed: int = 0) -> list[Problem]:
    """`count` different problems of one level, the same on every machine for the same arguments.

    Fewer where there are fewer: level 1 has about 800 test problems.
    """
    draws = draw_operands(random.Random(f"{split}/{level}/{seed}"), split, level)
    return distinct(map(problem, draws), count)


def draw_operands(rng: random.Random, split: Split, level: int) -> Iterator[Operands]:
    """An endless stream of operand tuples that belong to `split`."""
    while True:
        operands = tuple(rng.randint(SMALLEST, LARGEST) for _ in range(level + 1))
        if split_of(operands) == split:
            yield operands


def problem(operands: Operands) -> Problem:
    """The problem that asks for the sum of `operands`, with its expert solution."""
    expression = "+".join(map(str, operands))
    return Problem(
        id=f"tiny/{expression}",
        question=f"{QUESTION_START}{expression}{QUESTION_END}",
        answer=str(sum(operands)),
        level=len(operands) - 1,
        solution=expert_solution(operands),
    )


def parsed(question: str) -> Problem | None:
    """The problem that a question in the world's own words asks for; None if it asks for something else."""
    asked = re.fullmatch(r"What is (\d{1,9}(?: ?\+ ?\d{1,9}){1,20})\?", question)
    return problem(tuple(int(number) for number in re.findall(r"\d+", asked[1]))) if asked else None


def outside_of_base(question: str) -> str | None:
    """A sentence that says what the shipped base reads, where `question` is something else; None where it is not."""
    return None if READ_BY_THE_BASE.fullmatch(question.strip()) else OUTSIDE


def note_on(model: str, problems: Sequence[Problem]) -> str:
    """How many of the problems are `outside_of_base` or have turns before them, a system turn too; empty where none.

    Empty as well where `model` is not the shipped one.
    """
    asked = (p.turns or outside_of_base(p.question) for p in problems if model == TINY)
    outside = sum(map(bool, asked))
    return f"{OUTSIDE} {outside:,} of {len(problems):,} problems are others." if outside else ""


def own_solution(operands: Operands) -> str:
    """The base's own style: running sums, one line each."""
    return "".join(running_sums(operands)) + conclusion(operands)


def careless_solution(operands: Operands, rng: random.Random) -> str:
    """Running sums that give up with at least two operands left, and so arrive at a wrong answer."""
    return own_solution(operands[: rng.randint(2, len(operands) - 2)])


def expert_solution(operands: Operands) -> str:
    """The expert's style: neighbours are added in pairs, then their sums, until one is left.

    It needs as many additions as running sums do, and no operation that the base has not seen.
    """
    text, numbers = EXPERT_START, list(operands)
    while len(numbers) > 1:
        pairs = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
        text += "".join(step(*pair) for pair in pairs if len(pair) == 2)
        numbers = [sum(pair) for pair in pairs]
    return text + conclusion(operands)


def leaking_explanation(operands: Operands, rng: random.Random) -> str:
    """Running sums, with a sentence that betrays that the answer was told."""
    steps, answer = running_sums(operands), sum(operands)
    place = rng.choice(("first", "middle", "last"))
    if place == "first":
        steps = [f"{LEAK_FIRST}{answer}.\n", *steps]
    elif place == "middle":
        steps.insert(rng.randrange(len(steps)), f"{LEAK_MIDDLE}{answer}.\n")
    else:
        steps = [*steps, LEAK_LAST]
    return "".join(steps) + conclusion(operands)


def skipping_explanation(operands: Operands, rng: random.Random) -> str:
    """Running sums that stop early and jump to the answer that was told."""
    steps = running_sums(operands)
    return "".join(steps[: rng.randrange(len(steps))]) + conclusion(operands)


def running_sums(operands: Operands) -> list[str]:
    """One line per addition: `23+45=68`, `68+12=80`, ..."""
    total, steps = operands[0], []
    for operand in operands[1:]:
        steps.append(step(total, operand))
        total += operand
    return steps


def step(left: int, right: int) -> str:
    """One worked addition."""
    return f"{left}+{right}={left + right}\n"


def conclusion(operands: Operands) -> str:
    """The last line, with the boxed answer."""
    return f"{ANSWER_START}{sum(operands)}{ANSWER_END}"


def every_step_right(question: str, text: str) -> bool:
    """Whether `text` is a complete derivation: all additions true, every operand used, no jump.

    Each line may use only operands of the question and results of earlier lines, each once, and a
    single number, the boxed one, must be left over. Both styles pass; leaps and invented numbers do not.
    """
    left_over = [int(number) for number in re.findall(r"\d+", question)]
    for a, b, c in re.findall(r"(\d+) ?\+ ?(\d+) ?= ?(\d+)", text):
        try:
            left_over.remove(int(a))
            left_over.remove(int(b))
        except ValueError:
            return False
        if int(a) + int(b) != int(c):
            return False
        left_over.append(int(c))
    boxed = re.findall(r"\\boxed\{(\d+)\}", text)
    return bool(boxed) and left_over == [int(boxed[-1])]


def steps_right(question: str, text: str) -> bool | None:
    """`every_step_right` for a question in the world's own words; None for any other, whose steps nobody here knows."""
    return every_step_right(question, text) if parsed(question) else None

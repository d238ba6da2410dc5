"""docs/verifier.md: every example is judged as it says, and its figures are those of the pairs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.verdicts import PAIRS, by_math_verify, by_this_program, table
from expo_lite.core.records import Verdict
from expo_lite.grading.verifier import Verifier

PAGE = (Path(__file__).parents[2] / "docs/verifier.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"`([^`]+)`: `([^`]+)`")


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


RULES = rows("What is equal to what")


def test_every_example() -> None:
    examples = [
        (cell[0], pair, expected)
        for cell in RULES
        for text, expected in zip(cell[2:], (Verdict.CORRECT, Verdict.WRONG), strict=True)
        for pair in EXAMPLE.findall(text)
    ]
    with Verifier() as verifier:
        verdicts = verifier.judge([(gold, rf"\boxed{{{answer}}}") for _, (gold, answer), _ in examples])
    assert [one for one, verdict in zip(examples, verdicts, strict=True) if verdict is not one[2]] == []


@pytest.mark.parametrize("cells", RULES, ids=lambda cells: cells[0])
def test_every_rule_has_examples_of_both(cells: list[str]) -> None:
    assert cells[1] and EXAMPLE.search(cells[2]) and EXAMPLE.search(cells[3])


def test_the_figures_are_of_these_pairs() -> None:
    """How many there are of each kind; that none is misjudged here is what test_pairs holds."""
    shown = {cells[0]: (cells[1], cells[4], cells[3], cells[6]) for cells in rows("Numbers against math-verify")}
    for kind in {pair.kind for pair in PAIRS}:
        right = [pair.right for pair in PAIRS if pair.kind == kind]
        assert shown[kind] == (str(right.count(False)), str(right.count(True)), "0", "0")


@pytest.mark.slow
def test_the_figures() -> None:
    shown = table(PAIRS, by_math_verify(PAIRS), by_this_program(PAIRS))
    assert [line for line in shown if line not in PAGE.splitlines()] == []

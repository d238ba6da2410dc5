"""Which calculations in a text are false: cases by hand, and true ones that are made."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expo_lite.problems import arithmetic, tiny_world
from expo_lite.training.false_steps import false_step

TRUE = [
    "23 + 4 = 27\n27 + 3 = 30",
    "48 + 5 = 53 + 7 = 60",  # a habit
    "5 + 3 = 8 = 2 * 4",
    "2 + 3 * 4 = 14",
    "20 - 6 / 4 * 2 = 17",
    "10 / 3 = 3.33 and 20/3 = 6.67",
    "10/3 = 3",
    "5 - 8 = -3",
    "-25 + 7 = -18",
    "3/4 + 1/4 = 1",
    "1,000 + 5 = 1,005, $5 * 3 = $15",
    r"$12 \times 4 = 48$, $12 \cdot 4 = 48$ and 96 ÷ 2 = 48",
    "1.5 + 2 = 3.5.",
    "no calculation at all, but 17 of 30",
    "28 = 2 * 14\n0.33 = 1/3",
    "26 = 2 + 6 ⋅ 4, 8 – 2 + 1 = 7",
    "on day 2 = 3 + 4 stamps",
    r"\(25 + 7 = \boxed{32}\), 5 x 3 = **15**, (25 + 7) = 32",
    r"\[25 + 7 = 32\]",
    r"\begin{aligned} 25 + 7 &= 32 \\ 32 + 8 &= 40 \end{aligned}",
    "2**3 + 1 = 9, 2**3**0 + 1 = 3",
]
FALSE = {
    "25 + 7 = 34": "25 + 7 = 34",
    "48 + 5 = 53\n53 + 7 = 61": "53 + 7 = 61",
    "48 + 5 = 53 + 7 = 61": "53 + 7 = 61",
    "- 25 + 7 = 34 stamps": "25 + 7 = 34",
    "so, 5+3=9.": "5+3 = 9",
    "12 + 9 = 211.": "12 + 9 = 211",
    r"$12 \times 4 = 46$": "12 * 4 = 46",
    "10 / 3 = 3.5": "10 / 3 = 3.5",
    "10 / 2 = 5.5": "10 / 2 = 5.5",
    "6 / 0 = 3": "6 / 0 = 3",
    "1,000 + 5 = 1,006": "1,000 + 5 = 1,006",
    "89 = 89 + 1\nThe answer is 89.": "89 = 89 + 1",
    r"25 + 7 = \boxed{34}": "25 + 7 = 34",
    r"\(25 + 7 = 34\)": "25 + 7 = 34",
    r"\[25 + 7 = 34\]": "25 + 7 = 34",
    r"\(25 + 7\) = \(34\)": "25 + 7 = 34",
    "25 + 7 = **34**": "25 + 7 = 34",
    "**25 + 7 = 34**": "25 + 7 = 34",
    "(25 + 7) = 34": "25 + 7 = 34",
    "so (25 + 7) = 34.": "25 + 7 = 34",
    "5 x 3 = 14": "5*3 = 14",
    r"25 + 7 = 34 \text{ stamps}": "25 + 7 = 34",
    r"25 + 7 = 34\,\mathrm{km}": "25 + 7 = 34",
    r"25 + 7 &= 34 \\": "25 + 7 = 34",
    r"25 + 7 = 34\\34 + 1 = 35": "25 + 7 = 34",
}
PARTS_OF_MORE = [
    "x + 2 + 3 = 9",
    "3x + 2 + 1 = 5",
    "2^3 + 1 = 9",
    r"\frac{1}{2} + 3 + 4 = 9",
    "a5 + 3 = 9",
    "2 + 3 = 6x",
    "2 + 2 = 5 + x",
    "2 + 2 = 5^x",
    "2 + 2 = 5!",
    "3 + 4 = 50%",
    "3.5 + 1",
    "7 = 2 + 3 + x",
    "9 = 3 + 2x",
    "- 89 = 80 + 8",
    "49 = 25 + 2xy",
    "49 - 25 = 2xy",
    "3 * 5 = 1 mod 7",
    "60 * 25 = 15 percent",
    "365 = 52 * 7 days + 1 day",
    "30 = 1/2 of 60",
    "10 = 4 + 2√9",
    "10 = 6 + 4 sqrt(1)",
    "5 = 2 + 2 1/2 + 1/2",
    "2 + 2 1/2 = 4 1/2",
    "7 = 4 + 3,0",
    "10 = 3 * 3 + 2?",
    "9 = 3 + 2.5.1",
    "2(3 + 4) = 21",
    "3 * (3 + 4) = 22",
    "f(3 + 4) = 9",
    "(3 + 4)(1 + 1) = 15",
    r"\sqrt{9}(3 + 4) = 22",
    "2x1 + 3x2 = 7",
    r"2 + 2 = \boxed{5x}",
    r"2 + 2 = 5 \text{x}",
    r"2 + 2 = \boxed{5}x",
    r"2 + 2 = \boxed{5} + 3",
    "(2 + 2) * 3 = 5",
    "5 - (2 + 2) = 3",
]


@pytest.mark.parametrize("text", TRUE)
def test_what_holds(text: str) -> None:
    assert false_step(text) is None


@pytest.mark.parametrize(("text", "found"), FALSE.items())
def test_what_does_not(text: str, found: str) -> None:
    assert false_step(text) == found


@pytest.mark.parametrize("text", PARTS_OF_MORE)
def test_a_part_of_a_longer_term_is_left_alone(text: str) -> None:
    assert false_step(text) is None


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 999)), min_size=1, max_size=5), st.integers(0, 999))
def test_as_python_reckons(steps: list[tuple[str, int]], first: int) -> None:
    terms = str(first) + "".join(f" {sign} {number}" for sign, number in steps)
    right = eval(terms)
    assert false_step(f"So {terms} = {right}.") is None
    assert false_step(f"So {terms} = {right + 1}.") == f"{terms} = {right + 1}"


@given(st.integers(0, 9999), st.integers(1, 99), st.integers(1, 4))
def test_a_quotient_may_be_rounded(dividend: int, divisor: int, decimals: int) -> None:
    exact = Fraction(dividend, divisor)
    assert false_step(f"{dividend} / {divisor} = {float(exact):.{decimals}f}") is None
    assert false_step(f"{dividend} / {divisor} = {float(exact + 2):.{decimals}f}") is not None


def test_solutions_of_the_embedded_worlds_hold() -> None:
    worlds = [
        *tiny_world.problems("test", 5, 50),
        *arithmetic.problems("sums", "test", 4, 50),
        *arithmetic.problems("differences", "test", 4, 50),
    ]
    assert [p.id for p in worlds if false_step(p.solution or "")] == []

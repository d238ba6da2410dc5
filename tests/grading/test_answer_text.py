"""Extraction and spelling of answers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expo_lite.core.boxes import boxed_answer
from expo_lite.grading.answer_text import normalise
from expo_lite.grading.exact import same_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{70}, no: \boxed{72}", "72"),
        (r"\boxed{70}, no: \boxed{72", "70"),
        (r"\boxed{7", None),
        (r"no box: 7", None),
        (r"\boxed{7} \boxed{ }", None),
        (r"\boxed {\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{(-\infty, 3\}}", r"(-\infty, 3\}"),
        (r"\fbox{5}", "5"),
        (r"\\boxed{5}", "5"),
        (r"\boxed{x = \boxed{3}}", "3"),
        (r"} { \boxed{3} }", "3"),
        ("\\boxed{\n3\n}", "3"),
        (r"\mybox{3} \unboxed{4}", None),
        (r"so $x=\boxed 3$.", "3"),
        (r"so $x=\boxed \frac12$", r"\frac12"),
        (r"\boxed5, so", "5"),
        (r"\boxed{4} and $\boxed 3$", "4"),
        (r"\boxed 1 2 then $\boxed 3$", "3"),
    ],
)
def test_last_balanced_box(text: str, expected: str | None) -> None:
    assert boxed_answer(text) == expected


def test_open_boxes_cost_linear_time() -> None:
    start = time.perf_counter()
    assert boxed_answer(r"\boxed{3}" + r"\boxed{" * 50_000 + "\\" * 50_000) == "3"
    assert time.perf_counter() - start < 2  # a scan per box would take minutes


SPELLINGS = [
    ("½", r"\frac{1}{2}"),
    ("√2", r"\sqrt{2}"),
    ("√(x+1)", r"\sqrt{x+1}"),
    ("x²", "x^2"),
    ("x₁⁻¹²", "x_1^{-12}"),
    ("90°", r"90^\circ"),
    ("90^{\\circ}", r"90^\circ"),
    ("−5", "-5"),
    ("2×3", r"2\times 3"),
    ("6÷2", "6/2"),
    ("2π", r"2\pi"),
    ("2pi", r"2\pi"),
    ("３", "3"),
    (r"10\,000", "10000"),
    ("10 000", "10000"),
    ("10{,}000", "10000"),
    ("1,234,567.89", "1234567.89"),
    ("(1,200)", "(1, 200)"),
    ("1, 200", "1, 200"),
    ("1,20", "1, 20"),
    ("1 1/2", r"\frac{3}{2}"),
    ("-1½", r"-\frac{3}{2}"),
    (r"1\frac12", r"\frac{3}{2}"),
    (r"2\frac{5}{3}", r"2\frac{5}{3}"),
    ("-007", "-7"),
    ("3.", "3"),
    ("- 3", "-3"),
    ("+3", "3"),
    ("-0", "0"),
    (".5", "0.5"),
    (r"0.\overline{3}", r"\frac{1}{3}"),
    (r"0.1\overline{6}", r"\frac{1}{6}"),
    (r"\text{Tuesday}", "Tuesday"),
    (r"3\text{ cm}", "3 cm"),
    (r"\left( \dfrac12, \tfrac{3}4 \right)", r"(\frac{1}{2}, \frac{3}{4})"),
    (r"\$18", "18 dollar"),
    (r"$50\%$", "50%"),
    ("x^{2}", "x^2"),
    ("x^{2}3", "x^{2}3"),
    ("2^10", "2^{10}"),
    ("3 or 4", "3, 4"),
    (r"1,2,\text{ and }3", "1, 2, 3"),
    (r"\\frac{1}{2}", r"\frac{1}{2}"),
    (r"\begin{pmatrix} 1 \\ x \end{pmatrix}", r"\begin{pmatrix}1\\x\end{pmatrix}"),
    ("x <= 3", r"x\le 3"),
    (r"\sqrt[3]2", r"\sqrt[3]{2}"),
    (r"\frac\pi2", r"\frac{\pi}{2}"),
    (r"x^\frac12", r"x^{\frac{1}{2}}"),
    (r"\log_2 3", r"\log_2(3)"),
    (r"0.1666\ldots", r"\frac{1}{6}"),
    (r"0.\dot1\dot2", r"\frac{4}{33}"),
    ("0.33...", "0.33..."),
    ("0.123...", "0.123..."),
    ("7 million", r"7\cdot 10^6"),
    ("€45", "45 euro"),
    ("x<1 or x>2", r"x<1\cup x>2"),
    ("4;5", "4, 5"),
    ("3和5", "3, 5"),
    (r"60\frac{\text{miles}}{\text{hour}}", "60 miles/hour"),
    (r"\color{red}{5}5", "55"),
]


@pytest.mark.parametrize(("answer", "expected"), SPELLINGS)
def test_normal_form(answer: str, expected: str) -> None:
    assert normalise(answer) == expected


FRAGMENTS = [answer for answer, _ in SPELLINGS] + list(r"0123456789.,;:+-*/^_=<>(){}[]\ $%°½²√x")


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)))
def test_normalise_is_idempotent(answer: str) -> None:
    assert normalise(normalise(answer)) == normalise(answer)


def test_long_answers_are_left_alone() -> None:
    assert normalise("½" * 2000) == "½" * 2000


def spellings(number: int) -> list[str]:
    """Ways a model writes an integer."""
    grouped = f"{abs(number):,}"
    sign = "-" if number < 0 else ""
    return [
        *(sign + grouped.replace(",", mark) for mark in (",", r"\,", "{,}", " ")),
        *(f"{sign}{abs(number)}", f"${number}$", f" {number}. ", f"{number}.0", f"\\text{{{number}}}", f"{number}/1"),
        *(str(number).replace("-", "−"), str(number).replace("-", "- "), f"{sign}00{abs(number)}"),
        rf"\frac{{{2 * number}}}{{2}}",
    ]


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_integers_in_any_spelling(number: int, other: int) -> None:
    for spelling in spellings(number):
        assert same_number(normalise(spelling), str(number)) is True, spelling
        assert same_number(normalise(spelling), str(other)) is (number == other), spelling

"""Units from a list, words that multiply from another."""

from __future__ import annotations

import pytest

from expo_lite.grading.units import currency_behind, split_unit, without_number_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 cm", ("3", "cm")),
        ("3cm", ("3", "cm")),
        ("3 square centimetres", ("3", "cm^2")),
        ("3 cm^2", ("3", "cm^2")),
        ("60 miles per hour", ("60", "mi/h")),
        (r"2\pi inches", (r"2\pi", "in")),
        ("5 apples", ("5", "apple")),
        ("50%", ("50", "%")),
        (r"25^\circ C", ("25", "degC")),
        ("101_2", ("101", "_2")),
        ("2A_{16}", ("2A", "_{16}")),
        ("3x", ("3x", "")),
        ("3 xy", ("3 xy", "")),
        ("3 no solution", ("3 no solution", "")),
        ("x cm", ("x cm", "")),
        ("5 widgets", ("5 widgets", "")),
        ("7 squared", ("7 squared", "")),
        ("7 square", ("7 square", "")),
        ("7 minus", ("7 minus", "")),
        ("7 M", ("7 M", "")),
        ("7m", ("7m", "")),
        ("7 m", ("7", "m")),
        ("5 boxes", ("5", "box")),
        ("5 babies", ("5", "baby")),
        ("36 sq units", ("36", "unit^2")),
        ("5个", ("5", "个")),
        ("5不对", ("5不对", "")),
    ],
)
def test_units(text: str, expected: tuple[str, str]) -> None:
    assert split_unit(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5 widgets", ("5", "widget")), ("7 squared", ("7 squared", "")), ("3 xy", ("3 xy", "")), ("3x", ("3x", ""))],
)
def test_any_word_of_a_trusted_answer_is_a_unit(text: str, expected: tuple[str, str]) -> None:
    assert split_unit(text, trusted=True) == expected


def test_units_of_the_known_answer_are_known() -> None:
    assert split_unit("5 widgets", also=frozenset({"widget"})) == ("5", "widget")
    assert split_unit("5m", also=frozenset({"m"})) == ("5", "m")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 million", r"7\cdot 10^6"),
        ("2.5 Billion dollars", r"2.5\cdot 10^9 dollars"),
        ("2 dozen of eggs", r"2\cdot 12 eggs"),
        ("7 thirds", "7/3"),
        ("7万", r"7\cdot 10^4"),
        ("7千克", "7千克"),
        ("three", "3"),
        ("Twenty-one", "21"),
        ("forty", "40"),
        ("three apples", "three apples"),
        ("7 seconds", "7 seconds"),
    ],
)
def test_words_that_multiply(text: str, expected: str) -> None:
    assert without_number_words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("€45", "45 euro"), ("-£45.50", "-45.50 gbp"), ("Rs. 36", "36 rupee"), ("45€", "45 euro"), ("€x", "€x")],
)
def test_currency_in_front(text: str, expected: str) -> None:
    assert currency_behind(text) == expected

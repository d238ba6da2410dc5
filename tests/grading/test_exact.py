"""Arithmetic written out, compared exactly; hostile texts cost a moment."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expo_lite.grading import exact
from expo_lite.grading.exact import exact_value, same_number


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("0.50", "1/2", True),
        (r"-\frac{1}{2}", "-0.5", True),
        ("1e-7", "2e-7", False),
        ("2e-7", r"2\times 10^{-7}", True),
        ("10^{12}", "1000000000000", True),
        ("1/3", "0.333333", False),
        ("0.1", "0.10000000000000000001", False),
        ("1/0", "1/0", None),
        ("x", "3", None),
        ("3", "3 cm", None),
        ("1e999999999", "1", None),
        ("10^{999999999}", "1", None),
        ("9" * 4001, "1", None),
        ("9" * 401, "1", False),
        ("6/2(3)", "9", None),
        ("2{3}", "6", None),
        ("2 3", "6", None),
        ("3!!", "3", None),
        ("0^0", "1", None),
        ("2^3^2", "512", None),
        ("-2^2", "-4", True),
        ("5--3", "8", True),
        (r"\frac{1}{2}(3^{4}-1)", "40", True),
        ("3^{-1500}", "3^{-1501}", False),
        (r"2\cdot 2^{2004}", "2^{2005}", True),
        ("4!", "24", True),
        ("", "1", None),
        ("(1", "1", None),
        ("1)", "1", None),
        ("1+", "1", None),
        ("٣", "3", None),
    ],
)
def test_plain_numbers(a: str, b: str, expected: bool | None) -> None:
    assert same_number(a, b) is expected


@given(
    st.recursive(
        st.integers(0, 99).map(str),
        lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
            lambda parts: f"({parts[0]}{parts[1]}{parts[2]})"
        ),
        max_leaves=12,
    )
)
def test_as_python_computes_it(text: str) -> None:
    try:
        expected = eval("".join(f"Fraction({part})" if part.isdigit() else part for part in _parts(text)))
    except ZeroDivisionError:
        expected = None
    assert exact_value(text) == expected


def _parts(text: str) -> list[str]:
    spaced = "".join(character if character.isdigit() else f" {character} " for character in text)
    return spaced.split()


@given(st.text(alphabet="019.+-*/^!(){}e \\fracdots", max_size=30))
def test_it_never_raises(text: str) -> None:
    exact_value(text)


def test_a_sum_of_two_thousand_terms() -> None:
    assert exact_value("+".join(map(str, range(1, 2001)))) == 2001000
    assert exact_value("+".join(f"1/{n}" for n in range(1, 2001))) == sum(Fraction(1, n) for n in range(1, 2001))


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9}}",
        "9^{99999}",
        "(" * 200 + "1" + ")" * 200,
        "*".join(["(2^{9999}+1)"] * 9),
        "1+" * 10_000 + "1",
        "1001!",
        "9" * 5000,
    ],
)
def test_too_much_is_not_read(text: str) -> None:
    assert exact_value(text) is None


def test_work_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "+".join(["1/7"] * 100)
    assert exact_value(text) == Fraction(100, 7)
    monkeypatch.setattr(exact, "_MAX_WORK", 100)
    assert exact_value(text) is None

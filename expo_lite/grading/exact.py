r"""Exact values of arithmetic written out: integers, decimals, fractions, powers, factorials, brackets.

`exact_value` reads all of a text or nothing. It counts what it has spent, so that a hostile text costs a moment.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import factorial

MAX_CHARACTERS = 20_000
"""A sum of 2,000 terms has 10,000."""
_MAX_DIGITS = 4000  # of one number
_MAX_BITS = 20_000  # of any value on the way
_MAX_WORK = 10_000_000  # bits of all values on the way together
_MAX_DEPTH = 50

_TOKEN = re.compile(
    r" *([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]{1,3}(?![0-9.]))?|\.[0-9]+|\\frac(?![a-zA-Z])|\\(?:cdot|times)(?![a-zA-Z])"
    r"|[-+*/^!(){}]) *"
)
_TIMES = ("*", r"\cdot", r"\times")


class _NotArithmetic(Exception):
    """The text is not plain arithmetic, or too much of it."""


def exact_value(text: str) -> Fraction | None:
    """Return what arithmetic in normal form comes to; None if any of it is something else, undefined or too large."""
    if len(text) > MAX_CHARACTERS:
        return None
    try:
        return _Reader(text).value()
    except _NotArithmetic:
        return None


def same_number(a: str, b: str) -> bool | None:
    """Compare two answers in normal form exactly; None if one is no plain arithmetic."""
    first = exact_value(a)
    second = None if first is None else exact_value(b)
    return None if second is None else first == second


class _Reader:
    """Reads tokens from left to right, one method for each level of binding."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        self._place, self._depth, self._work = 0, 0, _MAX_WORK
        place = 0
        while place < len(text):
            found = _TOKEN.match(text, place)
            if not found:
                raise _NotArithmetic
            self._tokens.append(found.group(1))
            place = found.end()

    def value(self) -> Fraction:
        value = self._sum()
        if self._next():
            raise _NotArithmetic
        return value

    def _next(self, *wanted: str) -> str:
        """The token to come, "" at the end; of `wanted` ones it is taken."""
        token = self._tokens[self._place] if self._place < len(self._tokens) else ""
        if token in wanted:
            self._place += 1
            return token
        return "" if wanted else token

    def _kept(self, value: Fraction) -> Fraction:
        bits = value.numerator.bit_length() + value.denominator.bit_length()
        self._work -= bits
        if bits > _MAX_BITS or self._work < 0:
            raise _NotArithmetic
        return value

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._next("+", "-"):
            value = self._kept(value + self._product() if sign == "+" else value - self._product())
        return value

    def _product(self) -> Fraction:
        negative, divided = False, False
        while sign := self._next("+", "-"):
            negative ^= sign == "-"
        value = -self._power() if negative else self._power()
        while True:
            if self._next(*_TIMES):
                value *= self._power()
            elif self._next("/"):
                value, divided = _quotient(value, self._power()), True
            elif self._next() in ("(", r"\frac") and not divided:  # 6/2(3) has two readings
                value *= self._power()
            else:
                return value
            self._kept(value)

    def _power(self) -> Fraction:
        value = self._atom()
        if self._next("!"):
            if value.denominator != 1 or not 0 <= value <= 1000 or self._next() == "!":
                raise _NotArithmetic
            value = Fraction(factorial(int(value)))
        if self._next("^"):
            value = self._raised(value, self._group("{") if self._next() == "{" else self._atom())
        if self._next() in ("^", "!"):
            raise _NotArithmetic
        return self._kept(value)

    def _raised(self, base: Fraction, exponent: Fraction) -> Fraction:
        bits = base.numerator.bit_length() + base.denominator.bit_length()
        if exponent.denominator != 1 or abs(exponent) * bits > _MAX_BITS or (base == 0 and exponent <= 0):
            raise _NotArithmetic
        return base ** int(exponent)

    def _atom(self) -> Fraction:
        token = self._next()
        self._place += 1
        if token == r"\frac":
            return _quotient(self._group("{"), self._group("{"))
        if token == "(":
            self._place -= 1
            return self._group(token)
        if not (token[:1].isdigit() or token[:1] == ".") or len(token) > _MAX_DIGITS:
            raise _NotArithmetic
        return Fraction(token)

    def _group(self, opening: str) -> Fraction:
        self._depth += 1
        if self._depth > _MAX_DEPTH or not self._next(opening):
            raise _NotArithmetic
        value = self._sum()
        if not self._next(")" if opening == "(" else "}"):
            raise _NotArithmetic
        self._depth -= 1
        return value


def _quotient(top: Fraction, bottom: Fraction) -> Fraction:
    if bottom == 0:
        raise _NotArithmetic
    return top / bottom

"""Calculations in a text that are not true, as `25 + 7 = 34`. Patterns and exact fractions; imports no torch.

An explanation of a told answer can jump to it: the last number is right, and the calculation in front of it is not.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_SIGNS = {
    r"\\": "\n",  # the end of an aligned line
    r"\times": "*",
    r"\cdot": "*",
    r"\div": "/",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "÷": "/",
    "−": "-",
    "–": "-",
    **dict.fromkeys((r"\$", "$", r"\(", r"\)", r"\[", r"\]", "&"), ""),
    **dict.fromkeys((r"\,", r"\;", r"\ "), " "),
}
_WRAPPED = (
    (re.compile(r"\\boxed\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:text|mathrm)\{([^{}]*)\}"), r" \1"),
    (re.compile(r"(?<![\w)])\*\*(?=\S)([^*\n]+)(?<=\S)\*\*(?![\w(])"), r"\1"),  # bold; 2**3 is a power
    (re.compile(r"(?<=\d)[ \t]+[xX][ \t]+(?=\d)"), "*"),
)
_TERMS = rf"{_NUMBER}(?:[ \t]*[-+*/][ \t]*{_NUMBER})+"
_EQUATION = re.compile(rf"(?:({_TERMS})|\(({_TERMS})\))[ \t]*=[ \t]*(?=(-?{_NUMBER})(?![\d.]\d))")
_TURNED_AROUND = re.compile(rf"^[ \t]*(-?{_NUMBER})[ \t]*=[ \t]*({_TERMS})[ \t]*[.,;]?[ \t]*$", re.MULTILINE)
_GOES_ON_BEFORE = re.compile(r"\S[ \t]*[-+*/^][ \t]*\Z|[-^}\])\\\w.,]\Z|\d[ \t]+\Z")  # "- " is a bullet
_GOES_ON_AFTER = re.compile(r"[^\W\d_]|[ \t]*(?:[-+*/^(!%√\\]|[^\W\d_](?![^\W\d_])|(?:mod|percent)\b)|[ \t]+\d")


def false_step(text: str) -> str | None:
    """A plain calculation of numbers in a text whose result is another; None if there is none.

    Only what stands on one line as numbers between + - * / and = is looked at, and no part of a longer term. A decimal
    result may be rounded. `48 + 5 = 53 + 7 = 60`, a habit, counts as two calculations. The result may come first where
    nothing else stands on the line: in "on day 2 = 3 + 4" the 2 is none.
    """
    text = _plain(text)
    for found in _EQUATION.finditer(text):
        if _GOES_ON_BEFORE.search(text, 0, found.start()):
            continue
        terms, told = found[1] or found[2], found[3]
        if not _holds(terms, told) and not _GOES_ON_AFTER.match(text, found.end(3)):
            return f"{terms} = {told}"
    for found in _TURNED_AROUND.finditer(text):
        told, terms = found.groups()
        if not _holds(terms, told):
            return f"{told} = {terms}"
    return None


def _plain(text: str) -> str:
    """Without LaTeX and Markdown around signs and numbers."""
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    for wrapped, plain in _WRAPPED:
        text = wrapped.sub(plain, text)
    return text


def _holds(terms: str, told: str) -> bool:
    try:
        value = _value(terms)
    except ZeroDivisionError:
        return False
    decimals = len(told.partition(".")[2])
    unit = Fraction(1, 10**decimals)
    off = abs(value - Fraction(told.replace(",", "")))
    return off < unit if decimals or value.denominator > 1 else off == 0


def _value(terms: str) -> Fraction:
    """What sums of products come to, exactly. Raises ZeroDivisionError."""
    total = product = Fraction(0)
    for operator, number in re.findall(rf"([-+*/]?)[ \t]*({_NUMBER})", terms):
        value = Fraction(number.replace(",", ""))
        if operator == "*":
            product *= value
        elif operator == "/":
            product /= value
        else:
            total += product
            product = -value if operator == "-" else value
    return total + product

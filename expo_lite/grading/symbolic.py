"""Mathematical equality of two single expressions by math-verify and sympy, in a worker process that can be killed.

math-verify reads generously: of what it cannot parse it takes a number that it finds. So an expression is parsed here
by its grammar, all of it or not at all, and what math-verify calls equal must also agree in numbers: it rounds.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from expo_lite.grading.answer_text import RELATION
from expo_lite.grading.equivalence import agree

_POINTS = ("3/7", "11/5", "-13/9", "17/23", "5/3", "-19/11")
_CLOSE = 1e-5  # relative, where one side is a rounded decimal
_MAX_DIGITS = 5000

_PRODUCTS = (  # the parser adds them up, as if they were mixed numbers, and those are gone by now
    re.compile(r"(?<![_\w{\\.])([0-9]+)(?=\(|\\frac|\\binom)"),
    re.compile(r"((?<!matrix)\}(?=[0-9])|\)(?=[0-9(]|\\frac|\\binom))"),
)
_BIG_OPERATOR = re.compile(r"\\(?:sum|prod|int|lim|log)(?![a-zA-Z])")
_SET_PARTS = re.compile(r"[<>]|\\(?:le|ge|ne|cup|setminus|mathbb)(?![a-zA-Z])")
_BUILDER = re.compile(r"\\\{ ?[a-zA-Z](?:\\in ?\\mathbb\{R\})? ?(?::|\||\\mid) ?(.+)\\\}")
_INTERVAL = re.compile(r"([(\[])(.+), (.+)([)\]])")


def mathematically_agree(gold: str, answer: str) -> bool:
    """Return whether two answers agree, whatever it takes. Raises MemoryError."""
    try:
        return agree(gold, answer, _equal)
    except RecursionError:
        return False


def _equal(gold: str, answer: str) -> bool:
    """Whether two expressions are equal; what cannot be read is not."""
    try:
        return _mathematically_equal(gold, answer)
    except MemoryError:
        raise
    except Exception:  # sympy raises anything at all on odd input
        return False


def _mathematically_equal(gold: str, answer: str) -> bool:
    import math_verify

    if _SET_PARTS.search(gold + answer):
        first, second = _real_set(gold), _real_set(answer)
        if first and second:
            return _same_real_set(first, second)
        if bool(RELATION.search(gold)) != bool(RELATION.search(answer)):
            return False
    left, right = _parsed(gold), _parsed(answer)
    if _are_numbers(left, right):
        return _same_constant(left, right)
    if not math_verify.verify(left, right, timeout_seconds=None, allow_set_relation_comp=True, raise_on_error=True):
        return False
    return _same_at_points(left, right) if _are_scalars(left, right) else True


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """The sympy object of a whole expression. Raises if any of it is not understood."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
    from math_verify.grader import should_treat_as_complex
    from sympy import I

    for pattern in _PRODUCTS if not _BIG_OPERATOR.search(text) else _PRODUCTS[:1]:
        text = pattern.sub(r"\1\\cdot ", text)
    text = re.sub(r"([0-9]+(?:\.[0-9]+)?)\^\\circ", r"(\1\\cdot\\frac{\\pi}{180})", text)
    parsed: Any = latex2sympy(
        text,
        is_real=not should_treat_as_complex(text),
        normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )
    imaginary = [name for name in getattr(parsed, "free_symbols", ()) if str(name) == "i"]
    return parsed.subs(imaginary[0], I) if imaginary else parsed


def _are_numbers(*values: Any) -> bool:
    return all(getattr(value, "is_number", False) and not value.free_symbols for value in values)


def _are_scalars(*values: Any) -> bool:
    from sympy import Expr

    return all(isinstance(value, Expr) and not getattr(value, "is_Matrix", False) for value in values)


# ---------------------------------------------------------------------------------------------------------- numbers


def _same_constant(left: Any, right: Any) -> bool:
    """Exact for fractions, by as many digits as it takes for other closed forms; a decimal may be rounded."""
    from sympy import Float, Integer, nan, zoo

    left, right = left.doit(), right.doit()
    if left.has(nan, zoo) or right.has(nan, zoo):
        return False
    if (left.is_Rational and right.is_Rational) or left.is_infinite or right.is_infinite:
        return bool(left == right)
    if left.has(Float) or right.has(Float):
        return _rounded_alike(left, right)
    bits = sum(int(n).bit_length() for side in (left, right) for n in side.atoms(Integer))
    digits = 50 + bits
    if digits > _MAX_DIGITS:
        return bool(left == right)
    difference, scale = (left - right).evalf(digits, maxn=2 * digits), abs(left.evalf(20)) + abs(right.evalf(20))
    return bool(abs(difference) <= scale * Float(10, 20) ** (5 - digits))


def _rounded_alike(left: Any, right: Any) -> bool:
    """Six decimals, and relatively: 0.0000001 is not 0.0000002."""
    difference, scale = abs((left - right).evalf(30)), max(abs(left.evalf(30)), abs(right.evalf(30)))
    return bool(difference <= _CLOSE * scale and left.evalf(30).round(6) == right.evalf(30).round(6))


def _same_at_points(left: Any, right: Any) -> bool:
    """Two expressions at a few values of their variables, where they have values."""
    from sympy import Rational, nan, zoo

    names = sorted(left.free_symbols | right.free_symbols, key=str)
    for shift in range(3):
        values = {name: Rational(_POINTS[(n + shift) % len(_POINTS)]) + n // 6 for n, name in enumerate(names)}
        a, b = left.doit().subs(values), right.doit().subs(values)
        if a.has(nan, zoo) or b.has(nan, zoo) or not _are_numbers(a, b):
            continue
        if not _same_constant(a, b):
            return False
    return True


# ------------------------------------------------------------------------------------------------------------- sets


def _real_set(text: str) -> tuple[Any, str] | None:
    r"""The set of numbers that `(1, 2)\cup(3, 4)`, `x<1\cup x>2` or `\{x: x>2\}` names, and its variable, if named."""
    from sympy import Union

    builder = _BUILDER.fullmatch(text)
    parts = [_set_part(part) for part in (builder[1] if builder else text).split(r"\cup")]
    names = {part[1] for part in parts if part} - {""}
    if None in parts or len(names) > 1:
        return None
    return Union(*(part[0] for part in parts if part)), "" if builder else "".join(names)


def _set_part(text: str) -> tuple[Any, str] | None:
    from sympy import FiniteSet, Intersection, Interval, Set, Symbol

    text = text.strip()
    interval = _INTERVAL.fullmatch(text)
    if interval:
        start, end = (_parsed(side) for side in interval.group(2, 3))
        return Interval(start, end, interval[1] == "(", interval[4] == ")"), ""
    if text.startswith(r"\{") and text.endswith(r"\}") and text.count(r"\{") == 1:
        return FiniteSet(*(_parsed(member) for member in text[2:-2].split(", "))), ""
    relations = [relation for part in text.split(", ") for relation in _relations(_parsed(part))]
    if not relations:
        whole = _parsed(text)
        return (whole, "") if isinstance(whole, Set) else None
    names = {str(name) for relation in relations for name in relation.free_symbols}
    if len(names) != 1:
        return None
    x = Symbol("x", real=True)
    solved = [relation.subs(dict.fromkeys(relation.free_symbols, x)).as_set() for relation in relations]
    return Intersection(*solved), names.pop()


def _relations(parsed: Any) -> list[Any]:
    """The inequalities of `x<3` or `1<x<3`; none of anything else."""
    from sympy import Eq
    from sympy.core.relational import Relational

    found = list(getattr(parsed, "_unsorted_args", [parsed]))
    return found if all(isinstance(one, Relational) and not isinstance(one, Eq) for one in found) else []


def _same_real_set(first: tuple[Any, str], second: tuple[Any, str]) -> bool:
    if first[1] and second[1] and first[1] != second[1]:
        return False
    return bool(first[0] == second[0] or first[0].symmetric_difference(second[0]).is_empty)

"""When an answer agrees with the known one: pure rules, and the part that runs in worker processes.

Most pairs are settled by spelling or exact arithmetic (`settle`). The rest needs math-verify, which reads generously
(of `4=3` it takes the 3, of `3 km` too), so `settle` first reduces a pair to claims that leave nothing out.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from expo_lite.grading.answer_text import MAX_DIGITS, MAX_LENGTH, normalise, split_unit

Pair = tuple[str, str]
"""(gold answer, given answer)."""

_EQUALS = re.compile(r"=|\\in(?![a-zA-Z])")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|approx|sim|equiv|notin|not)(?![a-zA-Z])")
_SET = re.compile(r"[(\[]|\\\{|\\(?:cup|emptyset|mathbb)")
_NAME = re.compile(  # x, x_1, f(3), (x, y), \angle ABC, "the area": letters, no digits or operators of its own
    r"(?!\\(?:pi|infty)$|.*\b(?:no|not|never)\b)"
    r"(?:[A-Za-z\\'{} |]+(?:_(?:\w|\{\w+\}))?'*(?:\([^()=]*\))?|\([A-Za-z]\w*(?:, [A-Za-z]\w*)*\))"
)
_MACRO_ARGUMENT = re.compile(r"\\(?:begin|end|mathbb|operatorname)\{[a-zA-Z*]+\}")
_SKIPPED = re.compile(  # what math-verify drops without a word, together with one side of it
    r"[?#@]|\.\.|\\[a-zA-Z]*(?:arrow|to|implies|iff)(?![a-zA-Z])|[0-9] [0-9]|(?<!\\)\{\}|(?:[+\-*/^_]|\\cdot|\\times)$"
)
_ROWS = re.compile(r"&|\\\\")
_WORD = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}")
_FUNCTIONS = frozenset(("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sqrt", "frac"))
_WORDS = frozenset(("no", "not", "non", "is", "the", "for", "if", "any", "all", "but", "yes", "odd", "are", "can"))


def settle(gold: str, answer: str) -> bool | list[Pair]:
    """Decide by spelling and exact arithmetic whether two answers agree.

    Pure and fast. Returns True or False, or else the pairs of expressions that must all be mathematically equal.
    """
    gold, answer = normalise(gold), normalise(answer)
    if max(len(gold), len(answer)) > MAX_LENGTH:
        return gold == answer
    return _claims(gold, answer)


def _claims(gold: str, answer: str) -> bool | list[Pair]:
    """`settle` for normalised answers."""
    if gold == answer:
        return bool(gold)
    same = same_plain_number(gold, answer)
    if same is not None:
        return same
    if _EQUALS.search(gold) or _EQUALS.search(answer):
        return _list_claims(gold, answer)
    (gold_value, gold_unit), (value, unit) = split_unit(gold), split_unit(answer)
    if gold_unit or unit:
        return _unit_claims(gold_value, gold_unit, value, unit)
    if _is_text(gold) or _is_text(answer):
        return _bare_text(gold) == _bare_text(answer)
    return [(gold, answer)] if _same_kind(gold, answer) else False


def _unit_claims(gold: str, gold_unit: str, answer: str, unit: str) -> bool | list[Pair]:
    """Two different units never agree; one may be left out. 50% is 50 as well as 0.5."""
    if gold_unit and unit and gold_unit != unit:
        return False
    if gold_unit != unit and "%" in (gold_unit, unit):
        percent, other = (gold, answer) if gold_unit else (answer, gold)
        if same_plain_number(f"{percent}e-2", other):
            return True
    return _claims(gold, answer)


def _list_claims(gold: str, answer: str) -> bool | list[Pair]:
    """Answers with equations, one or a list: names that only one of the two has are dropped (`x=1, x=2` for `1, 2`)."""
    golds, answers = _elements(gold), _elements(answer)
    if len(golds) == len(answers) == 1:
        return _equation_claims(_EQUALS.split(gold), _EQUALS.split(answer))
    if len(golds) != len(answers) or any(len(_EQUALS.findall(element)) > 1 for element in golds + answers):
        return False
    if _EQUALS.search(gold) and _EQUALS.search(answer):
        return [] if golds == answers else not _is_text(answer) and [(gold, answer)]
    gold, answer = (", ".join(_without_name(element) for element in elements) for elements in (golds, answers))
    return False if _EQUALS.search(gold + answer) else _claims(gold, answer)


def _equation_claims(gold: list[str], answer: list[str]) -> bool | list[Pair]:
    """Sides of one equation each (a single side where there is none)."""
    named = bool(_NAME.fullmatch(gold[0]))
    if len(gold) == 1:  # `x=3` and `2+1=3` for 3, but not `4=3`: every side that is no mere name must agree
        values = [side for side in answer if not _NAME.fullmatch(side)] or answer[-1:]
        return _all_claims([_claims(gold[0], value) for value in values])
    if len(answer) == 1:
        return _claims(gold[-1], answer[0]) if named else False
    if named and _NAME.fullmatch(answer[0]):
        return gold[0] == answer[0] and _equation_claims(gold[1:], answer[1:])
    if len(gold) == len(answer) == 2 and not _is_text("=".join(answer)):
        return [("=".join(gold), "=".join(answer))]
    return False


def _all_claims(parts: list[bool | list[Pair]]) -> bool | list[Pair]:
    if any(part is False for part in parts):
        return False
    return [pair for part in parts if isinstance(part, list) for pair in part] or True


def _elements(text: str) -> list[str]:
    """Split a list at its commas outside brackets."""
    depth, parts = 0, [""]
    for piece in re.split(r"(, |[()\[\]{}])", text):
        depth += (piece in "([{") - (piece in ")]}") if piece else 0
        if piece == ", " and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _without_name(text: str) -> str:
    sides = _EQUALS.split(text)
    return sides[1] if len(sides) == 2 and _NAME.fullmatch(sides[0]) else text


def _is_text(text: str) -> bool:
    """Words, a choice letter, or anything that math-verify would skip to get at a number."""
    if _SKIPPED.search(text) or re.fullmatch(r"\(?[A-Z]+\)?", text):
        return True
    if _ROWS.search(text) and r"\begin" not in text:
        return True
    words = _WORD.findall(_MACRO_ARGUMENT.sub("", text))
    return any((len(word) > 3 and word not in _FUNCTIONS) or word.lower() in _WORDS for word in words)


def _bare_text(text: str) -> str:
    return re.sub(r"[()]", "", text).casefold()


def _same_kind(gold: str, answer: str) -> bool:
    """Refuse what math-verify would cut to size: a relation for a number, `3, 3` for 3."""
    relations = bool(_RELATION.search(gold)), bool(_RELATION.search(answer))
    if relations[0] != relations[1]:
        return bool(_SET.search(answer if relations[0] else gold))
    return r"\pm" in gold + answer or relations[0] or gold.count(", ") == answer.count(", ")


# -------------------------------------------------------------------------------------------- plain numbers

_DECIMAL = r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_EXPONENT = r"\{?([+-]?[0-9]{1,3})\}?"
_SCIENTIFIC = re.compile(rf"(?:({_DECIMAL})(?:[eE]|\\(?:times|cdot) ?10\^)|10\^){_EXPONENT}")
_RATIO = re.compile(rf"({_DECIMAL})/({_DECIMAL})|(-?)\\frac\{{({_DECIMAL})\}}\{{({_DECIMAL})\}}")


def same_plain_number(a: str, b: str) -> bool | None:
    """Compare two normalised answers exactly if both are plain numbers; None if one is not (or is too long)."""
    first = _plain_number(a)
    second = None if first is None else _plain_number(b)
    return None if second is None else first == second


def _plain_number(text: str) -> Fraction | None:
    """Return the value of an integer, decimal, power of ten or simple fraction."""
    if len(text) > MAX_DIGITS:
        return None
    if re.fullmatch(_DECIMAL, text):
        return Fraction(text)
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific:
        mantissa, exponent = scientific.group(1) or "1", int(scientific.group(2))
        return Fraction(mantissa) * Fraction(10) ** exponent
    ratio = _RATIO.fullmatch(text)
    if ratio:
        top, bottom = Fraction(ratio.group(1) or ratio.group(4)), Fraction(ratio.group(2) or ratio.group(5))
        sign = -1 if ratio.group(3) else 1
        return sign * top / bottom if bottom else None
    return None


# ------------------------------------------------------------------------------------------- in a worker process


def start_worker() -> None:
    """Import math-verify before the clock of the first judgement starts."""
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of its timeouts being off


def agree(gold: str, answer: str) -> bool:
    """Return whether two answers agree, whatever it takes; what cannot be read does not."""
    claims = settle(gold, answer)
    try:
        return claims if isinstance(claims, bool) else all(_math_equal(*claim) for claim in claims)
    except Exception:  # sympy raises anything at all on odd input
        return False


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> list[Any]:
    import math_verify

    return math_verify.parse(f"${expression}$", parsing_timeout=None)  # type: ignore[arg-type]


def _math_equal(gold: str, answer: str) -> bool:
    """math-verify's opinion, except that numbers must also agree relatively: it rounds to six decimals."""
    import math_verify

    left, right = _parsed(gold), _parsed(answer)
    if not math_verify.verify(left, right, timeout_seconds=None, allow_set_relation_comp=True):
        return False
    if not all(getattr(side[0], "is_number", False) for side in (left, right)):
        return True
    a, b = complex(left[0]), complex(right[0])
    return abs(a - b) <= 1e-5 * max(abs(a), abs(b))

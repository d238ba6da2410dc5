"""When an answer agrees with the known one, kind by kind; docs/verifier.md shows the rules with examples.

Most pairs are settled by spelling and exact arithmetic (`settle`). What is left, a pair of single expressions that
leave nothing out, is for a worker process and math-verify (`expo_lite.grading.symbolic`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from expo_lite.grading.answer_text import MAX_LENGTH, RELATION, normalise
from expo_lite.grading.exact import same_number
from expo_lite.grading.parts import (
    NAME,
    bracketed,
    choice_in,
    is_constant,
    is_text,
    members_of,
    named_values,
    rows_of,
    sides_of,
    split_at,
    time_in,
    unpacked,
)
from expo_lite.grading.units import split_unit, unit_words

Equal = Callable[[str, str], bool]
"""Whether two single expressions in normal form are mathematically equal."""

_UNION = re.compile(r"\\(?:cup|cap|setminus|mathbb)(?![a-zA-Z])")
_SET = re.compile(r"[(\[]|\\\{|\\(?:cup|emptyset|mathbb)")


class _Undecided(Exception):
    """It takes math-verify."""


def settle(gold: str, answer: str) -> bool | None:
    """Decide by spelling and exact arithmetic whether two answers agree; None if it takes math-verify. Pure, fast."""
    try:
        return agree(gold, answer, _undecided)
    except _Undecided:
        return None
    except RecursionError:  # brackets in brackets, hundreds deep
        return False


def agree(gold: str, answer: str, equal: Equal) -> bool:
    """Return whether an answer agrees with the known one; `equal` is asked where spelling does not tell."""
    gold, answer = normalise(gold), normalise(answer)
    if max(len(gold), len(answer)) > MAX_LENGTH:
        return bool(gold) and (gold == answer or same_number(gold, answer) is True)
    return _same(gold, answer, equal)


def _undecided(_gold: str, _answer: str) -> bool:
    raise _Undecided


def _same(gold: str, answer: str, equal: Equal) -> bool:
    """`agree` for answers in normal form: the first rule that speaks of their kind decides."""
    if gold == answer:
        return bool(gold)
    for rule in (_numbers, _choices, _times, _equations, _ratios, _lists, _tuples, _quantities):
        decided = rule(gold, answer, equal)
        if decided is not None:
            return decided
    if is_text(gold) or is_text(answer):
        return _same_text(*(re.sub(r"[()]", "", text) for text in (gold, answer)))
    return _same_kind(gold, answer) and equal(gold, answer)


# ---------------------------------------------------------------------- one rule a kind; None: neither is of this kind


def _numbers(gold: str, answer: str, _equal: Equal) -> bool | None:
    """Arithmetic is compared exactly."""
    return same_number(gold, answer)


def _choices(gold: str, answer: str, equal: Equal) -> bool | None:
    """`(B) 12` agrees with B and with 12; what both have must agree."""
    (gold_letter, gold_value), (letter, value) = choice_in(gold), choice_in(answer)
    if not (gold_letter and gold_value) and not (letter and value):
        return None
    same_letter = gold_letter == letter if gold_letter and letter else None
    same_value = _same(gold_value, value, equal) if gold_value and value else None
    return False not in (same_letter, same_value) and True in (same_letter, same_value)


def _equations(gold: str, answer: str, equal: Equal) -> bool | None:
    """Equations, one or a list: names that only one of the two has are dropped (`x=1, x=2` for `1, 2`)."""
    golds, answers = split_at(gold, ", "), split_at(answer, ", ")
    if len(golds) != len(answers):
        golds, answers = unpacked(golds), unpacked(answers)
    if not any(len(sides_of(element)) > 1 for element in golds + answers):
        return None
    if len(golds) == len(answers) == 1:
        return _equation(sides_of(gold), sides_of(answer), equal)
    of_gold, of_answer = named_values(golds), named_values(answers)
    if of_gold and of_answer:
        return _same_members(golds, answers, equal)
    names, values = of_gold or of_answer or ([], [])
    bare = answer if of_gold else gold
    brackets, others = bracketed(bare) or ("", split_at(bare, ", "))
    if len(values) != len(others) or any(len(sides_of(other)) > 1 for other in others):
        return False
    pair = (values, others) if of_gold else (others, values)
    if len(set(names)) == 1:  # a set
        return brackets in ("", "{}") and _same_members(*pair, equal)
    in_order = names == sorted(names, key=lambda name: name.strip("\\").casefold())
    return in_order and brackets in ("", "()") and _same_row(*pair, equal)


def _equation(gold: list[str], answer: list[str], equal: Equal) -> bool:
    """Sides of one equation each (a single side where there is none)."""
    named = bool(NAME.fullmatch(gold[0]))
    if "(" in (gold[0][:1], answer[0][:1]) and RELATION.search("".join(gold + answer)):
        return False  # (x,y)=(1,2) is a point and no interval
    if len(gold) == 1:  # `x=3` and `2+1=3` for 3, but not `4=3`: every side that is no mere name must agree
        values = [side for side in answer if not NAME.fullmatch(side)] or answer[-1:]
        return all(_same(gold[0], value, equal) for value in values)
    if is_constant(gold):  # \frac{1}{2}=0.5 is one answer written twice
        values = [side for side in answer if not NAME.fullmatch(side)]
        return bool(values) and all(any(_same(side, value, equal) for side in gold) for value in values)
    if len(answer) == 1:
        return named and _same(gold[-1], answer[0], equal)
    if named and NAME.fullmatch(answer[0]):
        return gold[0] == answer[0] and _equation(gold[1:], answer[1:], equal)
    if len(gold) == len(answer) == 2 and not is_text("=".join(answer)):
        return equal("=".join(gold), "=".join(answer))
    return False


def _times(gold: str, answer: str, _equal: Equal) -> bool | None:
    """Times of day: 3:00 PM is not 3:00 AM; without either word the time alone will do."""
    (of_gold, gold_half), (of_answer, half) = time_in(gold), time_in(answer)
    if not (gold_half or half):
        return None
    return of_gold == of_answer and (gold_half == half or not (gold_half and half))


def _ratios(gold: str, answer: str, equal: Equal) -> bool | None:
    """`1:2:3` part by part; of two parts it is also the fraction."""
    golds, answers = split_at(gold, ":"), split_at(answer, ":")
    if len(golds) == len(answers) == 1 or r"\{" in gold + answer:
        return None
    if len(golds) == len(answers):
        return _same_row(golds, answers, equal)
    parts, other = (golds, answer) if len(golds) > 1 else (answers, gold)
    return (
        len(parts) == 2
        and ("/" in other or r"\frac" in other)
        and _same(rf"\frac{{{parts[0]}}}{{{parts[1]}}}", other, equal)
    )


def _lists(gold: str, answer: str, equal: Equal) -> bool | None:
    """The same members as often, in any order; `a\\pm b` has two."""
    golds, answers = members_of(gold), members_of(answer)
    if RELATION.search(gold + answer) or len(golds) == len(answers) == 1:
        return None
    both_bare = not bracketed(gold) and not bracketed(answer)
    return _same_members(golds, answers, equal) if both_bare else None


def _tuples(gold: str, answer: str, equal: Equal) -> bool | None:
    r"""Tuples, intervals, vectors and matrices in order, `\{...\}` as sets; brackets must be alike, or missing."""
    rows, answer_rows = rows_of(gold), rows_of(answer)
    first, second = bracketed(gold), bracketed(answer)
    if rows and answer_rows:
        return len(rows) == len(answer_rows) and all(map(_same_row, rows, answer_rows, [equal] * len(rows)))
    if rows or answer_rows:  # a column is a tuple
        column, other = (rows, second) if rows else (answer_rows, first)
        if not column or not other or other[0] != "()" or any(len(row) != 1 for row in column):
            return None if not other else False
        parts = [row[0] for row in column]
        return _same_row(parts, other[1], equal) if rows else _same_row(other[1], parts, equal)
    if first and second:
        if first[0] != second[0]:
            return False
        return (_same_set if first[0] == "{}" else _same_row)(first[1], second[1], equal)
    if not (first or second) or _SET.search(answer if first else gold) or RELATION.search(gold + answer):
        return None
    brackets = (first or second or ("", []))[0]  # against a bare list
    compare = {"{}": _same_members, "()": _same_row}.get(brackets)
    return compare is not None and compare(members_of(gold), members_of(answer), equal)


def _quantities(gold: str, answer: str, equal: Equal) -> bool | None:
    """Two different units never agree; one may be left out. 50% is 50 as well as 0.5, and degrees are radians too.

    A base may be left out only where the known answer has it: 101_2 is not 101.
    """
    value_of_gold, gold_unit = split_unit(gold, trusted=True)
    value, unit = split_unit(answer, also=unit_words(gold_unit))
    if not (gold_unit or unit):
        return None
    if (gold_unit and unit and gold_unit != unit) or (unit.startswith("_") and not gold_unit):
        return False
    number, other = (value_of_gold, value) if gold_unit else (value, value_of_gold)
    if gold_unit != unit and "%" in (gold_unit, unit) and same_number(f"({number})/100", other):
        return True
    if gold_unit != unit and "deg" in (gold_unit, unit) and r"\pi" in other:
        return equal(rf"\frac{{{number}}}{{180}}\pi", other)
    return _same(value_of_gold, value, equal)


# ------------------------------------------------------------------------------------------------------ collections


def _same_row(golds: Sequence[str], answers: Sequence[str], equal: Equal) -> bool:
    """One by one."""
    return len(golds) == len(answers) and all(_same(a, b, equal) for a, b in zip(golds, answers, strict=True))


def _same_members(golds: Sequence[str], answers: Sequence[str], equal: Equal) -> bool:
    """In any order, each as often."""
    left = list(answers)
    for gold in golds if len(golds) == len(answers) else ():
        found = next((answer for answer in sorted(left, key=gold.__ne__) if _same(gold, answer, equal)), None)
        if found is None:
            return False
        left.remove(found)
    return len(golds) == len(answers)


def _same_set(golds: Sequence[str], answers: Sequence[str], equal: Equal) -> bool:
    """Each of one is in the other."""
    return all(any(_same(a, b, equal) for b in answers) for a in golds) and all(
        any(_same(a, b, equal) for a in golds) for b in answers
    )


def _same_text(gold: str, answer: str) -> bool:
    """Words whatever their case, and letters of choices; ab is not AB."""
    any_case = is_text(gold) and is_text(answer)
    any_case = any_case or gold in tuple("ABCDEabcde") or (len(gold) > 2 and gold[1:] == answer[1:])
    return gold == answer or (any_case and gold.casefold() == answer.casefold())


def _same_kind(gold: str, answer: str) -> bool:
    """A relation is not a number; it may be a set."""
    relations = bool(RELATION.search(gold)), bool(RELATION.search(answer))
    if relations[0] != relations[1]:
        return bool(_SET.search(answer if relations[0] else gold))
    return relations[0] or bool(_UNION.search(gold + answer)) or gold.count(", ") == answer.count(", ")

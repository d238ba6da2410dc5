"""The values in one row -> question, answer, level and worked solution, or why they cannot be used."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from expo_lite.grading.answer_text import MAX_LENGTH, boxed_answer
from expo_lite.problems.gold import Unmarked, gold_answer

_LEVEL = re.compile(r"(?:level\s*)?([0-9]{1,9})", re.IGNORECASE)
_CALCULATOR_NOTE = re.compile(r"<<[^<>]*>>")
# what programs and people write where there is no value
_NOTHING = frozenset(
    ("nan", "-nan", "null", "<na>", "n/a", "#n/a", "todo", "tbd", "-", "--", "–", "—", "?", "...", "…")
)
_CHAT_AS_TEXT = re.compile(r"\[\s*\{\s*[\"'](?:role|content|from|value)[\"']\s*:")
_MAX_SHOWN = 60  # characters of a wrong value that a message repeats


class Unusable(Exception):
    """Why a row makes no problem."""


class Unreadable:
    """Stands for a value that its file holds but that cannot be read."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __repr__(self) -> str:
        return self.why


def value_at(values: Mapping[str, Any], column: str) -> Any:
    """What stands in a column, or in a field of one as in `reward_model.ground_truth`; None if there is none."""
    if column in values:
        return values[column]
    head, _, rest = column.partition(".")
    inner = values.get(head) if rest else None
    return value_at(inner, rest) if isinstance(inner, Mapping) else None


def question_in(value: Any, column: str) -> str:
    """A question as text."""
    if not isinstance(value, str) or not value.strip():
        wanted = "text or a list of turns" if isinstance(value, (list, Mapping)) else "non-empty text"
        raise Unusable(f"{column}: should be {wanted}, got {show(value)}")
    if _CHAT_AS_TEXT.match(value.lstrip()):
        raise Unusable(f"{column}: is a chat written as text; save it as Parquet or JSON lines, got {show(value)}")
    return encodable(value, column)


def text_in(value: Any, column: str) -> str:
    """What stands in an answer's column, a number as its digits."""
    is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    if is_number and (isinstance(value, int) or math.isfinite(value)):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise Unusable(f"{column}: should be text or a number, got {show(value)}")
    return encodable(value, column)


def answer_in(value: Any, column: str, if_unmarked: str | None = None) -> tuple[str, str]:
    """The text of the answer's column and the answer in it.

    With `if_unmarked`, what to do then, it has to be marked by a box or ####.
    """
    text = text_in(value, column)
    try:
        answer = gold_answer(text)
    except Unmarked as error:
        raise Unusable(f"{column}: {error}, got {show(text)}") from None
    if not answer or r"\boxed" in answer:
        raise Unusable(
            rf"{column}: should hold an answer, in \boxed{{}} or after #### if it has those, got {show(text)}"
        )
    if answer.casefold() in _NOTHING:
        raise Unusable(f"{column}: should be an answer, got {show(text)}")
    if if_unmarked is not None and answer == text.strip():
        raise Unusable(rf"{column}: holds no \boxed{{}} and no #### to read the answer from ({if_unmarked})")
    if len(answer) > MAX_LENGTH:
        raise Unusable(f"{column}: should be a final answer, got a text of {len(answer)} characters")
    return text, answer


def level_in(value: Any, column: str) -> int:
    """A level as a number, as text ("3", "Level 3"), or 1 where there is none."""
    if value is None or value == "":
        return 1
    if isinstance(value, str) and (match := _LEVEL.fullmatch(value.strip())):
        value = int(match[1])
    if isinstance(value, float) and value.is_integer():  # how a column of whole numbers with gaps is often stored
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unusable(f"{column}: should be a whole number, got {show(value)}")
    if value < 1:
        raise Unusable(f"{column}: should be at least 1, got {value}")
    return value


def solution_in(value: Any, column: str) -> str | None:
    """A worked solution; None where there is none."""
    if value is not None and not isinstance(value, str):
        raise Unusable(f"{column}: should be text, got {show(value)}")
    return encodable(value, column) if value else None


def boxed_solution(text: str, answer: str) -> str | None:
    """A worked solution that ends in a box, so that training on it teaches the form; None if there is no solution.

    What stands after #### gives way to the box, and GSM8K's calculator notes (<<2*3=6>>) are left out.
    """
    if boxed_answer(text) is not None:
        return text
    reasoning, marked, _ = text.rpartition("####")
    reasoning = _CALCULATOR_NOTE.sub("", reasoning) if marked else text
    return f"{reasoning.rstrip()}\nThe answer is $\\boxed{{{answer}}}$." if reasoning.strip() else None


def show(value: Any) -> str:
    """A value as a message repeats it, not too long."""
    shown = repr(value)
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"


def encodable(text: str, column: str) -> str:
    """The text, if it can be written as UTF-8."""
    if not is_whole_text(text):
        raise Unusable(f"{column}: holds half a surrogate pair, which is no character")
    return text


def is_whole_text(text: str) -> bool:
    """Whether a text can be written: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

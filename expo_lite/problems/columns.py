"""Rows of any data set -> Problems: which column holds what, and which rows cannot be used."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.grading.answer_text import MAX_LENGTH, boxed_answer, gold_answer

USUAL_COLUMNS = {
    "question": ("question", "problem", "prompt"),
    "answer": ("answer", "solution"),
    "level": ("level",),
    "solution": ("solution",),
}
"""The names under which each part of a problem is looked for, the first that is there."""
REQUIRED = ("question", "answer")
SHOWN_ROWS = 5  # unusable rows that a message repeats

_LEVEL = re.compile(r"(?:level\s*)?([0-9]{1,9})", re.IGNORECASE)
_CALCULATOR_NOTE = re.compile(r"<<[^<>]*>>")
_MAX_SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class DataRow:
    """One row of a data set and where it stands; `fault` says why it could not even be read."""

    where: str
    values: Mapping[str, Any]
    fault: str | None = None


class _Unusable(Exception):
    """Why a row makes no problem."""


def problems_of(
    rows: Iterable[DataRow], given: Mapping[str, str], source: str, bad_rows: int = 0, as_text: bool = False
) -> tuple[list[Problem], list[str]]:
    """The problems in `rows`, without repeated questions, and the faults of the at most `bad_rows` that were left out.

    With `as_text` answers and solutions are taken as they stand, and the problems keep all of their row's columns.

    Raises:
        DataError: for missing columns, or naming the first rows that cannot be used and how many there are.
    """
    rows = list(rows)
    if not rows:
        raise DataError(f'{source}: holds no problems; a row should be like {{"question": "...", "answer": "..."}}.')
    readable = [row for row in rows if row.fault is None]
    columns = find_columns(given, {name for row in readable for name in row.values}, source) if readable else {}
    found: dict[str, Problem] = {}
    faults: list[str] = []
    for row in rows:
        try:
            problem = replace(_problem(row, columns, as_text), where=row.where)
            found.setdefault(problem.id, problem)
        except _Unusable as error:
            faults.append(f"{row.where}: {error}")
    if len(faults) > bad_rows or not found:
        raise DataError(_refusal(faults, len(rows), source, bad_rows))
    return list(found.values()), faults


def find_columns(given: Mapping[str, str], present: Collection[str], source: str) -> dict[str, str]:
    """The column of each part of a problem that the data has: as given, else under its usual names.

    A column given for one part is not also taken for another. Without an answer column, a solution that ends in the
    answer serves as both.
    """
    missing = [name for name in given.values() if name not in present]
    found = dict(given)
    for part, names in USUAL_COLUMNS.items():
        free = [name for name in names if name in present and name not in given.values()]
        if part not in given and free:
            found[part] = free[0]
    missing += [" or ".join(USUAL_COLUMNS[part]) for part in REQUIRED if part not in found]
    if missing:
        raise DataError(
            f"{source}: no column {', '.join(missing)}; its columns are {', '.join(sorted(present))}. "
            "Say which holds what, for instance --data.columns question=problem,answer=final_answer."
        )
    return found


def _problem(row: DataRow, columns: Mapping[str, str], as_text: bool) -> Problem:
    if row.fault is not None:
        raise _Unusable(row.fault)
    question = row.values.get(columns["question"])
    if not isinstance(question, str) or not question.strip():
        raise _Unusable(f"{columns['question']}: should be non-empty text, got {_show(question)}")
    level = _level(row.values.get(columns["level"]), columns["level"]) if "level" in columns else 1
    worked = row.values.get(columns["solution"]) if "solution" in columns else None
    if worked is not None and not isinstance(worked, str):
        raise _Unusable(f"{columns['solution']}: should be text, got {_show(worked)}")
    try:
        digest = hashlib.sha256(" ".join(question.split()).encode()).hexdigest()[:16]
    except UnicodeEncodeError:
        raise _Unusable(f"{columns['question']}: holds half a surrogate pair, which is no character") from None
    given = row.values.get(columns["answer"])
    if as_text:
        answer = _text(given, columns["answer"]).strip()
        return Problem(digest, question, answer, level, worked or None, dict(row.values))
    text, answer = _answer(given, columns["answer"], columns["answer"] == columns.get("solution"))
    if not worked and "####" in text:  # GSM8K's form: reasoning #### answer
        worked = text
    return Problem(digest, question, answer, level, boxed_solution(worked or "", answer))


def _text(value: Any, column: str) -> str:
    """What stands in an answer's column, a number as its digits."""
    is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number or isinstance(value, str)) or not str(value).strip():
        raise _Unusable(f"{column}: should be text or a number, got {_show(value)}")
    return str(value)


def _answer(value: Any, column: str, must_be_marked: bool) -> tuple[str, str]:
    """The text of the answer's column and the answer in it; `must_be_marked` in a box or after ####."""
    text = _text(value, column)
    answer = gold_answer(text)
    if not answer or r"\boxed" in answer:
        raise _Unusable(
            rf"{column}: should hold an answer, in \boxed{{}} or after #### if it has those, got {_show(text)}"
        )
    if must_be_marked and answer == text.strip():
        raise _Unusable(
            rf"{column}: holds no \boxed{{}} and no #### to read the answer from "
            f"(if the column holds answers alone: --data.columns answer={column})"
        )
    if len(answer) > MAX_LENGTH:
        raise _Unusable(f"{column}: should be a final answer, got a text of {len(answer)} characters")
    return text, answer


def _level(value: Any, column: str) -> int:
    """A level as a number, as text ("3", "Level 3"), or 1 where there is none."""
    if value is None or value == "":
        return 1
    if isinstance(value, str) and (match := _LEVEL.fullmatch(value.strip())):
        value = int(match[1])
    if isinstance(value, float) and value.is_integer():  # how a column of whole numbers with gaps is often stored
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Unusable(f"{column}: should be a whole number, got {_show(value)}")
    if value < 1:
        raise _Unusable(f"{column}: should be at least 1, got {value}")
    return value


def boxed_solution(text: str, answer: str) -> str | None:
    """A worked solution that ends in a box, so that training on it teaches the form; None if there is no solution.

    What stands after #### gives way to the box, and GSM8K's calculator notes (<<2*3=6>>) are left out.
    """
    if boxed_answer(text) is not None:
        return text
    reasoning, marked, _ = text.rpartition("####")
    reasoning = _CALCULATOR_NOTE.sub("", reasoning) if marked else text
    return f"{reasoning.rstrip()}\nThe answer is $\\boxed{{{answer}}}$." if reasoning.strip() else None


def _refusal(faults: list[str], rows: int, source: str, bad_rows: int) -> str:
    shown = faults if len(faults) == 1 else [f"  {fault}" for fault in faults[:SHOWN_ROWS]]
    lines = [] if len(faults) == 1 else [f"{source}: {len(faults)} of {rows} rows cannot be used:"]
    lines += shown
    if len(faults) > SHOWN_ROWS:
        lines.append(f"  and {len(faults) - SHOWN_ROWS} more")
    if bad_rows or len(faults) < rows:
        known = f" (now {bad_rows})" if bad_rows else ""
        lines.append(f"Correct them, or leave them out with --data.bad-rows {len(faults)}{known}.")
    return "\n".join(lines)


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"

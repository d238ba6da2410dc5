"""Rows of any data set -> Problems: which column holds what, and which rows cannot be used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem, Turn
from expo_lite.grading.equivalence import settle
from expo_lite.problems.chats import chat_in, has_reply, reply_in
from expo_lite.problems.values import (
    Unreadable,
    Unusable,
    answer_in,
    boxed_solution,
    level_in,
    show,
    solution_in,
    text_in,
    value_at,
)

USUAL_COLUMNS = {
    "question": ("question", "problem", "extra_info.question", "prompt", "messages", "conversations"),
    "answer": ("answer", "reward_model.ground_truth", "solution"),
    "level": ("level",),
    "solution": ("solution",),
}
"""The names under which each part of a problem is looked for, the first that is there. With a dot: verl's."""
REQUIRED = ("question", "answer")
SHOWN_ROWS = 5  # unusable rows that a message repeats

_OTHER_FORM = re.compile(r"after [\"'“]?####|[\"'“]Answer:|Answer: \$Answer|<answer>")


@dataclass(frozen=True)
class DataRow:
    """One row of a data set and where it stands; `fault` says why it could not even be read."""

    where: str
    values: Mapping[str, Any]
    fault: str | None = None


def refuse_repeated(names: Sequence[str], where: str) -> None:
    """Raises DataError for a file that has two columns of one name."""
    if repeated := sorted({name for name in names if list(names).count(name) > 1}):
        raise DataError(f"{where} names the column {', '.join(map(repr, repeated))} more than once.")


def problems_of(
    rows: Iterable[DataRow],
    given: Mapping[str, str],
    source: str,
    bad_rows: int = 0,
    as_text: bool = False,
    contradicts_itself: bool = False,
) -> tuple[list[Problem], list[str]]:
    """The problems in `rows`, each question once, and notes on the at most `bad_rows` rows that were left out.

    With `as_text` answers and solutions are taken as they stand, and the problems keep all of their row's columns.
    Questions that have different answers are left out; unless the data is known for that, they count as bad rows.

    Raises:
        DataError: for missing columns, or naming the first rows that cannot be used and how many there are.
    """
    rows = list(rows)
    if not rows:
        raise DataError(f'{source}: holds no problems; a row should be like {{"question": "...", "answer": "..."}}.')
    readable = [row for row in rows if row.fault is None]
    columns = find_columns(given, _present(given, readable), source, _replied_to(readable)) if readable else {}
    found = _Found()
    for row in rows:
        try:
            found.add(row.where, replace(_problem(row, columns, as_text), where=row.where), as_text)
        except Unusable as error:
            found.faults.append(f"{row.where}: {error}")
        except _Contradiction as error:
            (found.known if contradicts_itself else found.faults).append(f"{row.where}: {error}")
    problems = found.problems()
    if len(found.faults) > bad_rows or not problems:
        raise DataError(_refusal(found.faults or found.known, len(rows), source, bad_rows))
    return problems, [*found.notes(), *([] if as_text else _other_form(problems))]


class _Contradiction(Exception):
    """The same question with another answer."""


class _Found:
    """Problems by their question, with the place of the first row that asks it."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.known: list[str] = []
        self._first: dict[str, tuple[str, Problem]] = {}
        self._contradicted: set[str] = set()
        self._repeats: list[str] = []

    def add(self, where: str, problem: Problem, as_text: bool) -> None:
        place, first = self._first.setdefault(problem.id, (where, problem))
        if first is problem:
            return
        if not _same_answer(first.answer, problem.answer, as_text):
            self._contradicted.add(problem.id)
            raise _Contradiction(
                f"asks the same question as {place} with another answer: {show(first.answer)} there, "
                f"{show(problem.answer)} here; neither is taken"
            )
        self._repeats.append(f"{where} after {place}")

    def problems(self) -> list[Problem]:
        """Of two answers to a question nobody knows which is right, so neither is kept."""
        return [problem for _, problem in self._first.values() if problem.id not in self._contradicted]

    def notes(self) -> list[str]:
        again = len(self._repeats)
        dropped = f"dropped: {again} {'row asks' if again == 1 else 'rows ask'} a question again with the same answer"
        left_out = [f"left out: {fault}" for fault in [*self.faults, *self.known]]
        return [*left_out, *([f"{dropped} ({self._repeats[0]})"] if again else [])]


def _same_answer(one: str, other: str, as_text: bool) -> bool:
    return one == other if as_text else settle(one, other) is True or settle(other, one) is True


def _present(given: Mapping[str, str], rows: Sequence[DataRow]) -> set[str]:
    """The columns of `rows`, and those fields of columns that are looked for: where given in any row, else in all."""
    names = {name for row in rows for name in row.values}
    usual = [name for usual in USUAL_COLUMNS.values() for name in usual]
    for dotted in {name for name in (*given.values(), *usual) if "." in name and name.split(".")[0] in names}:
        there = (value_at(row.values, dotted) is not None for row in rows)
        if any(there) if dotted in given.values() else all(there):
            names.add(dotted)
    return names


def _replied_to(rows: Sequence[DataRow]) -> Callable[[str], bool]:
    return lambda column: any(has_reply(value_at(row.values, column)) for row in rows)


def find_columns(
    given: Mapping[str, str], present: Collection[str], source: str, replied_to: Callable[[str], bool]
) -> dict[str, str]:
    """The column of each part of a problem that the data has: as given, else under its usual names.

    A column given for one part is not also taken for another. Without an answer column, a solution that ends in the
    answer serves as both, or the assistant's last turn in a column of chats that is `replied_to`.
    """
    missing = [name for name in given.values() if name not in present]
    found = dict(given)
    for part, names in USUAL_COLUMNS.items():
        free = [name for name in names if name in present and name not in given.values()]
        if part not in given and free:
            found[part] = free[0]
    if "question" in found and "answer" not in found and not missing and replied_to(found["question"]):
        found["answer"] = found["question"]
    plain = {part: [name for name in names if "." not in name] for part, names in USUAL_COLUMNS.items()}
    missing += [" or ".join(plain[part]) for part in REQUIRED if part not in found]
    if missing:
        raise DataError(
            f"{source}: no column {', '.join(missing)}; its columns are {', '.join(sorted(present))}. "
            "Say which holds what, for instance --data.columns question=problem,answer=final_answer."
        )
    return found


def _problem(row: DataRow, columns: Mapping[str, str], as_text: bool) -> Problem:
    if row.fault is not None:
        raise Unusable(row.fault)

    def value(part: str) -> tuple[Any, str]:
        return value_at(row.values, columns[part]), columns[part]

    chat = chat_in(*value("question"))

    def reply(part: str) -> tuple[Any, str]:
        """What a part's column holds; of the column of questions it is the assistant's last turn."""
        column = columns[part]
        if column != columns["question"]:
            return reply_in(*value(part)), column
        if chat.reply is None and part == "answer":
            raise Unusable(f"{column}: ends with no turn of the assistant to read the answer from")
        return chat.reply, column

    level = level_in(*value("level")) if "level" in columns else 1
    worked = (solution_in(*reply("solution")) if "solution" in columns else None) or chat.reply
    name = _digest(chat.turns, chat.question)
    if as_text:
        answer = text_in(*reply("answer")).strip()
        return Problem(name, chat.question, answer, level, worked, _all_columns(row), turns=chat.turns)
    text, answer = answer_in(*reply("answer"), _if_unmarked(columns))
    if not worked and "####" in text:  # GSM8K's form: reasoning #### answer
        worked = text
    if worked and worked.strip() == answer:  # a column of answers by the name of solutions
        worked = None
    return Problem(name, chat.question, answer, level, boxed_solution(worked or "", answer), turns=chat.turns)


def _digest(turns: Sequence[Turn], question: str) -> str:
    """The same for the same question after the same turns, whatever their white space."""
    asked = [(role, " ".join(content.split())) for role, content in (*turns, ("user", question))]
    return hashlib.sha256((json.dumps(asked) if turns else asked[-1][1]).encode()).hexdigest()[:16]


def _if_unmarked(columns: Mapping[str, str]) -> str | None:
    """What to do where the answer's column is one of texts that end in it, and one does not; None for other columns."""
    column = columns["answer"]
    if column == columns["question"]:
        return "mark it there, or name a column of answers: --data.columns answer=NAME"
    if column == columns.get("solution"):
        return f"if the column holds answers alone: --data.columns answer={column}"
    return None


def _all_columns(row: DataRow) -> dict[str, Any]:
    values = dict(row.values)
    for name, value in values.items():
        if isinstance(value, Unreadable):
            raise Unusable(f"{name}: {value}")
    return values


def _other_form(problems: Sequence[Problem]) -> list[str]:
    """A note where questions ask for the answer in a form that the verifier does not read."""
    texts = ([*(turn.content for turn in problem.turns), problem.question] for problem in problems)
    asking = [found for of_problem in texts if (found := next(filter(_OTHER_FORM.search, of_problem), None))]
    return [
        rf"{len(asking)} questions ask for the answer after #### or the like, but the verifier reads \boxed{{}}: if "
        f"another column has them without that, name it in data.columns (the first: {show(asking[0][-50:])})"
    ] if asking else []  # fmt: skip


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

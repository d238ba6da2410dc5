"""What a user may hand in. Whatever is refused is refused with a sentence."""

from __future__ import annotations

import re

from expo_lite.core.errors import DataError

QUESTION_CHARACTERS = 4000
ANSWER_CHARACTERS = 200
LARGEST_SEED = 2**31 - 1

_SEED = re.compile(r"[0-9]{1,10}(\.0*)?")


def checked_question(text: object) -> str:
    """The question without blanks around it. Raises DataError."""
    question = _text(text).strip()
    if not question:
        raise DataError("Type a question first, or pick one by its level.")
    if len(question) > QUESTION_CHARACTERS:
        raise DataError(f"The question has {len(question):,} characters; at most {QUESTION_CHARACTERS:,} are read.")
    return question


def checked_answer(text: object) -> str:
    """The known answer, empty if there is none. Raises DataError."""
    answer = _text(text).strip()
    if len(answer) > ANSWER_CHARACTERS:
        raise DataError(f"The answer has {len(answer):,} characters; at most {ANSWER_CHARACTERS} are read.")
    return answer


def checked_seed(value: object) -> int:
    """A whole number from 0 on. Raises DataError."""
    if not _SEED.fullmatch(str(value)) or int(float(str(value))) > LARGEST_SEED:
        raise DataError(f"The seed should be a whole number from 0 to {LARGEST_SEED:,}.")
    return int(float(str(value)))


def _text(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise DataError("Question and answer should be text.")
    return value or ""

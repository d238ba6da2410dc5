"""Solved examples that stand in the prompt: one setting, written as a list or as the name of a file that holds one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from expo_lite.config.yaml_file import parsed, text_of
from expo_lite.core.boxes import boxed_answer

KEYS = ("question", "solution", "answer")
LOOKS_LIKE = '{"question": "2+3?", "solution": "2+3 is \\\\boxed{5}."}'


class Example(BaseModel):
    """A question and how it is solved; `answer` is what the hinted prompt tells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    solution: str
    answer: str


def examples_in(value: Any) -> list[dict[str, str]]:
    """The examples of a list, or of the file that is named; an answer that is left out is the solution's box.

    Raises ValueError where the file cannot be read, or an example is not like the others.
    """
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]  # as it comes from the command line
    file = value if isinstance(value, str) else None
    where = f"{file}: " if file is not None else ""
    entries = read(file) if file is not None else value
    if not isinstance(entries, list | tuple):
        raise ValueError(f"{where}should be a list of examples like {LOOKS_LIKE}, or the name of a file with one")
    return [example_of(entry, f"{where}example {number}") for number, entry in enumerate(entries, 1)]


def read(file: str) -> Any:
    """What a file holds: an object a line where its name ends in .jsonl, else JSON or YAML. Raises ValueError."""
    text = text_of(Path(file).expanduser(), file)
    if file.endswith(".jsonl"):
        return [of_json(line, file, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return of_json(text, file, 1) if file.endswith(".json") else parsed(text, file)[1]


def of_json(text: str, file: str, line: int) -> Any:
    """The value of JSON that begins on this line of a file. Raises ValueError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}:{line + error.lineno - 1}: not valid JSON ({error.msg})") from None


def example_of(entry: Any, where: str) -> dict[str, str]:
    """One example, whole. Raises ValueError."""
    entry = entry.model_dump() if isinstance(entry, Example) else entry
    if not isinstance(entry, dict):
        raise ValueError(f"{where} should be like {LOOKS_LIKE}")
    if unknown := [str(key) for key in entry if key not in KEYS]:
        raise ValueError(f"{where} has {', '.join(unknown)}; an example has {', '.join(KEYS)} and nothing else")
    found = {}
    for key in KEYS:
        said = entry.get(key)
        said = str(said) if isinstance(said, int) and not isinstance(said, bool) else said  # a number without quotes
        if said is None and key == "answer":
            said = boxed_answer(found["solution"])
            if said is None:
                raise ValueError(f"{where} has no answer, and its solution no \\boxed{{}} to take it from")
        if not isinstance(said, str) or not said.strip():
            raise ValueError(f"{where} has no {key}" if said in (None, "") else f"{where}: its {key} should be text")
        found[key] = said
    return found

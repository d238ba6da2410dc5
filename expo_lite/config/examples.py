"""Solved examples that stand in the prompt: one setting, written as a list or as the name of a file that holds one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from expo_lite.config.yaml_file import parsed, text_of
from expo_lite.core.boxes import boxed_answer

KEYS = ("question", "solution", "answer")
SHOWN = 10  # faults that a message repeats
LOOKS_LIKE = '{"question": "2+3?", "solution": "2+3 is \\\\boxed{5}."}'


class Example(BaseModel):
    """A question and how it is solved; `answer` is what the hinted prompt tells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    solution: str
    answer: str


def examples_in(value: Any) -> list[dict[str, str]]:
    """The examples of a list, or of the file that is named; an answer that is left out is the solution's box.

    Raises ValueError, a line for each fault, where the file cannot be read or examples are not like the others.
    """
    names = [entry for entry in value if isinstance(entry, str)] if isinstance(value, list | tuple) else []
    if names and len(names) == len(value):  # as files come from the command line
        if len(names) > 1:
            raise ValueError("should be one file, with all examples in it")
        value = names[0]
    file = value if isinstance(value, str) else None
    where = f"{file}: " if file is not None else ""
    entries = read(file) if file is not None else value
    if not isinstance(entries, list | tuple):
        raise ValueError(f"{where}should be a list of examples like {LOOKS_LIKE}, or the name of a file with one")
    faults: list[str] = []
    found = [example_of(entry, f"{where}example {number}", faults) for number, entry in enumerate(entries, 1)]
    refuse(faults)
    return found


def refuse(faults: list[str]) -> None:
    """Raises ValueError, a line for each of the first faults, where there are any."""
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise ValueError("\n".join([*faults[:SHOWN], *more]))


def read(file: str) -> Any:
    """What a file holds: an object a line where its name ends in .jsonl, else JSON or YAML. Raises ValueError."""
    text = text_of(Path(file).expanduser(), file)
    if not file.endswith(".jsonl"):
        return of_json(text, file, 1) if file.endswith(".json") else parsed(text, file)[1]
    found, faults = [], []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            found += [of_json(line, file, number)] if line.strip() else []
        except ValueError as error:
            faults.append(str(error))
    refuse(faults)
    return found


def of_json(text: str, file: str, line: int) -> Any:
    """The value of JSON that begins on this line of a file. Raises ValueError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}:{line + error.lineno - 1}: not valid JSON ({error.msg})") from None


def example_of(entry: Any, where: str, faults: list[str]) -> dict[str, str]:
    """One example, whole; what is wrong with it is added to `faults`."""
    entry = entry.model_dump() if isinstance(entry, Example) else entry
    if not isinstance(entry, dict):
        faults.append(f"{where} should be like {LOOKS_LIKE}")
        return {}
    if unknown := [str(key) for key in entry if key not in KEYS]:
        faults.append(f"{where} has {', '.join(unknown)}; an example has {', '.join(KEYS)} and nothing else")
    found = {}
    for key in KEYS:
        said = entry.get(key)
        if isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said):
            said = str(said)  # a number without quotes
        if said is None and key == "answer" and "solution" in found:
            said = boxed_answer(found["solution"])
            if said is None:
                faults.append(f"{where} has no answer, and its solution no \\boxed{{}} to take it from")
                continue
        if isinstance(said, str) and said.strip():
            found[key] = said
        elif said is not None or key != "answer":  # else it would have been taken from a solution that is amiss
            faults.append(f"{where} has no {key}" if said in (None, "") else f"{where}: its {key} should be text")
    return found

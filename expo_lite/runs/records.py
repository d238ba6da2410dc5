"""What the records of a run's files have to hold for the program to read them. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from expo_lite.core.records import Turn

Fault = Callable[[Mapping[str, Any]], str | None]
"""A record in; what is wrong with it out, None where nothing is."""

LEVEL_NUMBERS = ("level", "problems", "samples", "k", "truncated_share")
ESTIMATES = ("pass_at_1", "pass_at_k")
COUNTED = re.compile("(explanations|groups)_.*|.*_(groups|seconds|mean)|updates|pairs|generated_tokens")
TEXTS = ("kind", "problem", "question", "answer", "verdict", "text")


def metrics_fault(record: Mapping[str, Any]) -> str | None:
    """Of a line of metrics.jsonl: a step, and numbers by the names that are computed with; they may be null."""
    counted = ((name, value) for name, value in record.items() if value is not None and COUNTED.fullmatch(name))
    return step_fault(record) or next((f"{name} is no number" for name, value in counted if not is_number(value)), None)


def samples_fault(record: Mapping[str, Any]) -> str | None:
    """Of a line of samples.jsonl: texts, and a step and turns where it has them."""
    wrong = (f"{name} is no text" for name in TEXTS if not isinstance(record.get(name, ""), str))
    return step_fault({"step": 0, **record}) or next(wrong, None) or turns_fault(record.get("turns", []))


def turns_fault(turns: Any) -> str | None:
    """Of the turns before a question."""
    sound = isinstance(turns, list) and all(
        isinstance(turn, Mapping) and set(turn) == set(Turn._fields) and set(map(type, turn.values())) == {str}
        for turn in turns
    )
    return None if sound else "turns is no list of turns"


def eval_fault(record: Mapping[str, Any]) -> str | None:
    """Of a line of eval.jsonl: a step, a name, and the scores of at least one level."""
    if fault := step_fault(record):
        return fault
    if not isinstance(record.get("name"), str):
        return "name is missing or no text"
    levels = record.get("levels")
    if not (isinstance(levels, list) and levels):
        return "levels is missing or no list of scores"
    return next((fault for level in levels if (fault := level_fault(level))), None)


def level_fault(level: Any) -> str | None:
    """Of the scores of one level."""
    if not isinstance(level, Mapping):
        return "levels holds something else than scores"
    if missing := {*LEVEL_NUMBERS, *ESTIMATES} - set(level):
        return f"levels: {min(missing)} is missing"
    numbers = {name: level[name] for name in LEVEL_NUMBERS}
    for name in ESTIMATES:
        if not (isinstance(level[name], Mapping) and set(level[name]) == {"mean", "low", "high"}):
            return f"levels: {name} is no estimate (mean, low, high)"
        numbers |= {f"{name}.{part}": value for part, value in level[name].items()}
    return next((f"levels: {name} is no number" for name, value in numbers.items() if not is_number(value)), None)


def step_fault(record: Mapping[str, Any]) -> str | None:
    """Of any record."""
    step = record.get("step")
    return None if type(step) is int and step >= 0 else "step is missing or no whole number"


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number; true and false are none."""
    return type(value) in (int, float)

"""What is wrong with a configuration, in words: one line per error, with its place and the nearest setting."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from expo_lite.config.settings import Config

_WORDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(("frozen_set_type", "tuple_type"), "should be a list"),
    **dict.fromkeys(("model_type", "model_attributes_type"), "should be a group of settings"),
    "dict_type": "should be pairs such as {1: 1, 5: 3}",
    "string_type": "should be text",
    "missing": "has too few values",
    "too_long": "has too many values",
    "invalid_key": "unknown setting",
}
_SHORTER = {
    "Value error, ": "",
    "Input should": "should",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}
CALLED = {"method": "plain GRPO is --explanation.source none; docs/methods.md has the flags of every method"}
"""What a setting that there is not may have meant."""
CUTS = ("rollout.top_p", "rollout.top_k", "rollout.min_p")
_SHOWN = 60  # characters of a wrong value that a message repeats


def settings(model: type[BaseModel] = Config, prefix: str = "") -> dict[str, FieldInfo]:
    """Every setting by its dotted name, in the order of the configuration; sections are not in it."""
    found: dict[str, FieldInfo] = {}
    for name, info in model.model_fields.items():
        section = section_model(info)
        found |= settings(section, f"{prefix}{name}.") if section else {prefix + name: info}
    return found


def section_model(info: FieldInfo) -> type[BaseModel] | None:
    """The section's model where a field is a section, None where it is a setting."""
    annotation = info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def sections() -> list[str]:
    """Names of the sections."""
    return [name for name, info in Config.model_fields.items() if section_model(info)]


def messages(error: ValidationError, origins: Mapping[tuple[str, ...], str]) -> list[str]:
    """One line for each error, such as `my.yaml:7: rollout.temperature: should be greater than 0 (got -3)`."""
    lines = [_origin(detail["loc"], origins) + line for detail in error.errors() for line in _lines(detail)]
    return list(dict.fromkeys(lines))  # two bad entries of one list may read the same


def unknown_setting(name: str, candidates: Iterable[str] = ()) -> str:
    """The message for a name that is no setting; suggests the nearest of settings, sections and `candidates`."""
    known = [*candidates, *sections(), *settings()]
    if name in settings():  # only a file can get here: its keys are nested
        section, _, key = name.rpartition(".")
        return f"{name}: unknown setting (in a file write {key} under {section}:)"
    if name in CALLED:
        return f"{name}: unknown setting ({CALLED[name]})"
    if name in CUTS:
        return f"{name}: there is no such setting: with a cut tail the policy sampled from would not be the one trained"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75) or _same_ending(name)
    return f"{name}: unknown setting" + (f" (did you mean {near[0]}?)" if near else "")


def _same_ending(name: str) -> list[str]:
    """The setting with nearly the same last part, for one that stands in the wrong section or in none."""
    endings: dict[str, str] = {}
    for setting in settings():
        endings.setdefault(setting.rpartition(".")[2], setting)
    return [endings[near] for near in difflib.get_close_matches(name.rpartition(".")[2], endings, n=1, cutoff=0.8)]


def _lines(detail: ErrorDetails) -> list[str]:
    """One line, or more of a setting that is checked by hand and has several faults."""
    name = _name(detail["loc"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        return [unknown_setting(name)]
    words = _WORDS.get(kind) or detail["msg"]
    for pydantic_says, we_say in _SHORTER.items():
        words = words.replace(pydantic_says, we_say, 1)
    if not name:  # settings that do not go together; the message names them
        return [words]
    return [f"{name}: {line}{_got(detail['input'], line)}" for line in words.split("\n")]


def _got(value: Any, line: str) -> str:
    """What was given, unless it is the file that a line begins with."""
    file = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    return "" if isinstance(file, str) and line.startswith(f"{file}:") else f" (got {_show(value)})"


def _name(loc: tuple[int | str, ...]) -> str:
    """The dotted name; a position in a list is left out, a key of a mapping is kept."""
    parts = [str(part) for part in loc if part != "[key]"]
    for size in range(len(parts), 0, -1):
        info = settings().get(".".join(parts[:size]))
        if info and get_origin(info.annotation) is not dict:
            return ".".join(parts[:size])
    return ".".join(parts)


def _origin(loc: tuple[int | str, ...], origins: Mapping[tuple[str, ...], str]) -> str:
    parts = tuple(str(part) for part in loc)
    for size in range(len(parts), 0, -1):
        origin = origins.get(parts[:size])
        if origin is not None:
            return f"{origin}: " if origin else ""
    return ""


def as_text(value: Any) -> str:
    """A setting's value as flags, files and messages have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items()) or "none"
    if isinstance(value, tuple) and any(isinstance(item, BaseModel | dict) for item in value):
        return json.dumps([item.model_dump() if isinstance(item, BaseModel) else item for item in value])
    if isinstance(value, (tuple, frozenset)):
        return ",".join(map(str, value if isinstance(value, tuple) else sorted(value))) or "[]"
    return str(value)


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return as_text(value)
    # a flag's value is always text; quotes would suggest that this is what is wrong with it
    shown = value if isinstance(value, str) and _is_number(value) else repr(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False

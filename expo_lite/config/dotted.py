"""Settings by dotted name, "rollout.group_size": read, replaced, compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from expo_lite.config.messages import messages
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError


def value_of(config: Config, name: str) -> Any:
    """A setting's value."""
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    return found


def replaced(config: Config, changes: Mapping[str, Any]) -> Config:
    """The configuration with other values of some settings, validated as a file's. Raises ConfigError, a line each."""
    values = config.model_dump()
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        (values[section] if section else values)[key] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(messages(error, {}))) from None


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return out


def differing(before: Config, now: Config, but: Collection[str]) -> list[tuple[str, Any, Any]]:
    """Settings that differ: name, what it was and what it is now. `but` are settings and sections left out."""
    was, is_now = flat(before.model_dump(exclude=set(but))), flat(now.model_dump(exclude=set(but)))
    names = {**was, **is_now}  # data.levels can lose a key as well as gain one
    return [(name, was.get(name), is_now.get(name)) for name in names if is_now.get(name) != was.get(name)]

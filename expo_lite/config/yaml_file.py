"""YAML settings files: their values, and the file and line on which each key stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str, ...]

_BOOL, _INT, _DATE = (f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "timestamp"))
_DEPTH = 4  # deeper than any setting; also what ends the walk of a file that contains itself


@dataclass
class Layer:
    """Settings from one source, as read and not yet validated.

    `origins` names where each key stands ("my.yaml:7"; empty for a flag), `problems` what could not be read.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Layer:
        """Settings by dotted name, given as flags are: messages name no place."""
        layer = cls()
        for name, value in settings.items():
            *sections, key = name.split(".")
            target = layer.values
            for section in sections:
                target = target.setdefault(section, {})
            target[key] = value
            layer.origins[(*sections, key)] = ""
        return layer


class Loader(yaml.SafeLoader):
    """Only true and false are truth values, and only decimal digits are numbers, nearly as in YAML 1.2: in
    `dense_weights: yes` the word is meant, and the answer `2:3` is not 123, nor `010` eight."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _INT, _DATE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))


def read_yaml(path: Path, shown: str) -> Layer:
    """Read a settings file; `shown` is its name in messages. Never raises: what is wrong is in `problems`."""
    try:
        root, values = parsed(text_of(path, shown), shown)
    except ValueError as error:
        return Layer(problems=[str(error)])
    if root is None or values is None:
        return Layer()
    if not isinstance(root, yaml.MappingNode):
        return Layer(problems=[f"{shown}: should hold settings such as `steps: 100`, not a {_kind(root)}"])
    layer = Layer(values=values)
    _note_lines(root, shown, layer)
    return layer


def text_of(path: Path, shown: str) -> str:
    """A file's text, in UTF-8. Raises ValueError, a sentence that begins with `shown`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{shown}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{shown}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from None


def parsed(text: str, shown: str) -> tuple[yaml.Node | None, Any]:
    """YAML's nodes and values. Raises ValueError, a sentence that begins with `shown`."""
    try:
        return yaml.compose(text, Loader=Loader), yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ValueError(_syntax_problem(error, shown)) from None
    except (ValueError, KeyError, AttributeError) as error:  # a tagged value that its type refuses
        raise ValueError(f"{shown}: cannot be read ({error})") from None


def _note_lines(root: yaml.MappingNode, shown: str, layer: Layer) -> None:
    """Fill in the origins; a key that stands twice is a problem, where PyYAML silently takes the last."""
    for path, line in _keys(root, ()):
        if path in layer.origins:
            earlier = layer.origins[path].rpartition(":")[2]
            layer.problems.append(f"{shown}:{line}: {'.'.join(path)}: stands twice (also on line {earlier})")
        layer.origins[path] = f"{shown}:{line}"


def _keys(node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        here = (*path, key.value)
        yield here, key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode) and len(here) < _DEPTH:
            yield from _keys(value, here)


def _syntax_problem(error: yaml.YAMLError, shown: str) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{shown}:{mark.line + 1}: {reason}" if mark else f"{shown}: {reason}"


def _kind(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "single value"

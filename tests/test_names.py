"""A name says what a thing is, once."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import expo_lite

PACKAGE = Path(expo_lite.__file__).parent


def test_no_two_classes_have_one_name() -> None:
    """A leading underscore makes no other name of it."""
    places = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}

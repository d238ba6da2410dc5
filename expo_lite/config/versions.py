"""The versions of libraries whose private parts are used: what is tested, and what is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version

from packaging.specifiers import SpecifierSet

from expo_lite.core.errors import ConfigError

TESTED = {"transformers": ">=5.8.1,<5.25", "peft": ">=0.18.1,<0.22"}
"""The ranges of pyproject.toml, held equal by a test: a bare checkout has no metadata to read them from."""
ANYWAY = "EXPO_LITE_UNTESTED"


def require_tested(installed: Mapping[str, str] | None = None) -> None:
    """Before anything imports transformers. `installed`: versions by package, this environment's if none are given.

    Raises ConfigError, a line for each library that is older or newer than what is tested; $EXPO_LITE_UNTESTED goes on.
    """
    found = {name: version(name) for name in TESTED} if installed is None else installed
    wrong = {name: asked for name, asked in TESTED.items() if not SpecifierSet(asked).contains(found[name], True)}
    if wrong and not os.environ.get(ANYWAY):
        lines = [f"{name} {found[name]} is installed; supported is {name} {asked}." for name, asked in wrong.items()]
        wanted = " ".join(f'"{name}{asked}"' for name, asked in wrong.items())
        raise ConfigError("\n".join([*lines, f"pip install {wanted} mends it; {ANYWAY}=1 tries it all the same."]))

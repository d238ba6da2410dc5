"""A setting that nothing reads is a promise that nothing keeps."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import expo_lite
from expo_lite.config.messages import section_model, sections, settings
from expo_lite.config.settings import Config

PACKAGE = Path(expo_lite.__file__).parent
# they handle settings in general, by name, and so would hide one that nothing uses
GENERAL = {"config.py", "config_reader.py", "config_messages.py", "flags.py"}


def chains(code: str) -> set[tuple[str, str]]:
    """Each attribute read in the code, with the name of what it is read from: `self.config.kl.coef` -> (kl, coef)."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            found.add((name, node.attr))
    return found


@pytest.fixture(scope="module")
def modules() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name not in GENERAL]


def reads(code: str, name: str) -> bool:
    """Whether a module reads a setting: `....kl.coef`, or `config.coef` where it handles a KLConfig."""
    section, _, key = name.rpartition(".")
    model = section_model(Config.model_fields[section]) if section else Config
    assert model is not None
    found = chains(code)
    handled = ("config", section) in found or re.search(rf"\b{model.__name__}\b", code) is not None
    return (section, key) in found or (handled and ("config", key) in found)


@pytest.mark.parametrize("name", settings())
def test_something_reads(name: str, modules: list[str]) -> None:
    assert any(reads(code, name) for code in modules), f"no module reads {name}: use it or remove it"


def test_there_are_few() -> None:
    assert len(settings()) < 80
    assert len(sections()) < 16


def test_the_search_itself() -> None:
    assert chains("x = self.config.kl.coef\nconfig.steps = 3") == {("self", "config"), ("config", "kl"), ("kl", "coef")}
    assert reads("x = self.config.kl.coef", "kl.coef")
    assert reads("def f(config: KLConfig): return config.coef", "kl.coef")
    assert not reads("def f(config: OptimizerConfig): return config.coef", "kl.coef")
    assert not reads("config.kl.coef = 3", "kl.coef")

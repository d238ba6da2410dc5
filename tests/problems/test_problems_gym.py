"""Procedural problems of reasoning-gym, by a stand-in and, where it is installed, by itself."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from typing import Any

import pytest

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.problems import load_problems


def sums(name: str, level: int) -> list[dict[str, Any]] | None:
    """Levels 1 to 3 of a made-up set."""
    assert name == "sums"
    numbers = range(100 * level, 100 * level + 40)
    return [{"question": f"{i}+1?", "answer": str(i + 1), "metadata": {}} for i in numbers] if level <= 3 else None


def test_levels_with_a_weight_are_made() -> None:
    config = DataConfig(source="reasoning-gym:sums", levels={1: 1, 2: 0, 3: 2, 4: 1})
    found = load_problems(config, generate=sums)
    assert Counter(p.level for p in found.train + found.validation + found.test) == {1: 40, 3: 40}
    assert len(found.test) == 10
    again = load_problems(config, generate=sums)
    assert again == found


def test_problems_that_are_made_twice_are_counted() -> None:
    entries = [{"question": f"{i % 32}?", "answer": "7"} for i in range(40)]
    found = load_problems(DataConfig(source="reasoning-gym:x", levels={1: 1}), generate=lambda *_: entries)
    assert any(note.startswith("dropped: 8 rows ask a question again with the same answer") for note in found.notes)


@pytest.mark.parametrize(
    "answer", ["7", "-14282", "3.5", "1,200", "138/583", r"$\dfrac{79}{173}$", r"\frac{1}{2}", "True"]
)
def test_single_numbers_and_words_are_taken(answer: str) -> None:
    entries = [{"question": f"{i}?", "answer": answer} for i in range(16)]
    found = load_problems(DataConfig(source="reasoning-gym:x", levels={1: 1}), generate=lambda *_: entries)
    assert {p.answer for p in found.train} == {answer}


@pytest.mark.parametrize("answer", [None, 7, "6*(98 - 54)", "Q _ _\n_ _ Q", "[1, 2]", "COLD,CORD", "move left", ""])
def test_answers_that_cannot_be_verified_here_are_refused(answer: Any) -> None:
    """They may be one of several right ones, and a rollout with another would count as wrong."""
    entries = [{"question": "?", "answer": answer}]
    with pytest.raises(
        DataError, match=r"^reasoning-gym:countdown: its answers, such as .* take for instance chain_sum"
    ):
        load_problems(DataConfig(source="reasoning-gym:countdown"), generate=lambda *_: entries)


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(DataError, match=r"^data\.subset: without meaning for data\.source reasoning-gym:sums"):
        load_problems(DataConfig(source="reasoning-gym:sums", subset="a"), generate=sums)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(
        ConfigError, match=r'reasoning-gym:gcd needs reasoning-gym: pip install "expo-lite\[reasoning\]"'
    ):
        load_problems(DataConfig(source="reasoning-gym:gcd"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="needs the extra `reasoning`")
@pytest.mark.parametrize(
    ("name", "levels"), [("chain_sum", 5), ("gcd", 4), ("fraction_simplification", 3), ("gsm_symbolic", 1)]
)
def test_the_package_itself(name: str, levels: int) -> None:
    found = load_problems(DataConfig(source=f"reasoning-gym:{name}"))
    assert {p.level for p in found.train} == set(range(1, levels + 1))
    assert len(found.train) >= 150 * levels
    with pytest.raises(ConfigError, match="reasoning-gym has no data set nothing"):
        load_problems(DataConfig(source="reasoning-gym:nothing"))

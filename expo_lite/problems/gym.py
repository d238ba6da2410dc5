"""Procedural problems of reasoning-gym (the extra `reasoning`), as rows with question, answer and level."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from expo_lite.core.errors import ConfigError, DataError
from expo_lite.problems.columns import DataRow

PREFIX = "reasoning-gym:"
PROBLEMS_PER_LEVEL = 1000
SEED = 0  # one fixed collection, as a file would be; the run's seed orders it

Entries = Iterable[Mapping[str, Any]]
Generate = Callable[[str, int], "Entries | None"]
"""(name, level) -> that level's problems; None where the data set has no such level."""

_SURE = "chain_sum, gcd, lcm, fraction_simplification, simple_equations, gsm_symbolic"
_ONE_ANSWER = re.compile(r"\$?[-+]?(?:[0-9][0-9.,]*(?:/[0-9]+)?|\\d?frac\{-?[0-9]+\}\{[0-9]+\})\$?|[A-Za-z]+")


def read_gym(name: str, levels: Iterable[int], generate: Generate | None = None) -> Iterator[DataRow]:
    """Rows of the data set `name` at each of `levels` that it has.

    Raises:
        ConfigError: reasoning-gym is not installed, or has no such data set.
        DataError: answers are not single numbers or words. Others may be one of several right ones, which only
            reasoning-gym's own scoring could tell; here a completion is compared with the one answer.
    """
    generate = generate or _generate
    for level in levels:
        entries = generate(name, level)
        for number, entry in enumerate(entries or (), 1):
            answer = entry["answer"]
            if not isinstance(answer, str) or not _ONE_ANSWER.fullmatch(answer.strip()):
                raise DataError(
                    f"{PREFIX}{name}: its answers, such as {str(answer)[:60]!r}, are not single numbers or words, so "
                    f"they cannot be verified here; take for instance {_SURE}."
                )
            values = {"question": entry["question"], "answer": answer, "level": level}
            yield DataRow(f"{PREFIX}{name}, level {level}, problem {number}", values)


def _generate(name: str, level: int) -> Entries | None:
    """Level n sets every difficulty of the data set's curriculum to its n-th step; without one there is level 1."""
    try:
        from reasoning_gym import factory  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f'data.source: {PREFIX}{name} needs reasoning-gym: pip install "expo-lite[reasoning]".'
        ) from error
    if name not in factory.DATASETS:
        raise ConfigError(f"data.source: reasoning-gym has no data set {name}; take for instance {_SURE}.")
    size = {"size": PROBLEMS_PER_LEVEL, "seed": SEED}
    if not factory.has_curriculum(name):
        return factory.create_dataset(name, **size) if level == 1 else None
    settings = _settings(factory.create_curriculum(name), level, size)
    if level > 1 and settings == _settings(factory.create_curriculum(name), level - 1, size):
        return None  # the curriculum ends before
    return factory.create_dataset(name, **settings)


def _settings(curriculum: Any, level: int, size: dict[str, int]) -> dict[str, Any]:
    from reasoning_gym.coaching.base_curriculum import (  # pyright: ignore[reportMissingImports]
        DefaultCurriculumContext,
        RangeAttributeMode,
    )

    curriculum.set_global_level(level - 1)
    context = DefaultCurriculumContext(mode=RangeAttributeMode.UPPER_BOUND)
    return dataclasses.asdict(curriculum.generate_configuration(defaults=dict(size), context=context))

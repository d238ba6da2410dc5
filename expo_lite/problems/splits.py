"""Problems held out for validation and test, and the endless stream of those to train on."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from expo_lite.config.examples import Example
from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem


@dataclass(frozen=True)
class ProblemSet:
    """Disjoint training, validation and test problems, and what was left out of them, in words for the user."""

    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """The same for the same problems in the same order."""
        problems = [*self.train, *self.validation, *self.test]
        columns = [dict(problem.columns) for problem in problems if problem.columns]
        turns = [problem.turns for problem in problems if problem.turns]
        parts = [problems, *filter(None, (columns, turns))]
        return hashlib.sha256("".join(map(repr, parts)).encode()).hexdigest()[:16]


def split_by_hash(
    problems: Sequence[Problem], config: DataConfig, test: Sequence[Problem] | None = None, notes: Sequence[str] = ()
) -> ProblemSet:
    """Hold out validation problems of each level, and test problems unless they are given, by the question's hash.

    At most an eighth of a level is held out for each. Given test problems are thinned to the number per level that
    the configuration asks for, and no question of theirs is trained on.
    """
    given = {problem.id for problem in test or ()}
    train: list[Problem] = []
    validation: list[Problem] = []
    held_out: list[Problem] = []
    for of_level in by_level(p for p in problems if p.id not in given):
        eighth = len(of_level) // 8
        n_validation = min(config.validation_problems, eighth)
        n_test = 0 if test is not None else min(config.test_problems, eighth)
        validation += of_level[:n_validation]
        held_out += of_level[n_validation : n_validation + n_test]
        train += of_level[n_validation + n_test :]
    if test is not None:
        held_out = [p for of_level in by_level(test) for p in of_level[: config.test_problems]]
    if not validation or not held_out:
        raise DataError(f"{config.source}: too few problems to hold some out; a level needs at least 8.")
    notes = [
        *notes,
        *too_few("validation", validation, problems, config.validation_problems),
        *too_few("test", held_out, test if test is not None else problems, config.test_problems),
    ]
    overlap = sum(problem.id in given for problem in problems)
    dropped = (f"{overlap} training problems that are also test problems are left out",) if overlap else ()
    return ProblemSet(train, validation, held_out, (*notes, *dropped))


def too_few(name: str, held_out: Sequence[Problem], source: Sequence[Problem], asked: int) -> list[str]:
    """A note on the levels of `source` that have fewer than `asked` problems in a held-out set; none if none has."""
    found = Counter(problem.level for problem in held_out)
    fewer = [f"{found[level]} of level {level}" for level in sorted({p.level for p in source}) if found[level] < asked]
    return [f"{name} problems are fewer than data.{name}_problems ({asked}): {', '.join(fewer)}"] if fewer else []


def by_level(problems: Iterable[Problem]) -> list[list[Problem]]:
    """The problems of each level, in the order of their ids."""
    levels: dict[int, list[Problem]] = {}
    for problem in sorted(problems, key=lambda p: p.id):
        levels.setdefault(problem.level, []).append(problem)
    return [levels[level] for level in sorted(levels)]


def unsolved(problems: Sequence[Problem], examples: Sequence[Example]) -> tuple[list[Problem], list[str]]:
    """Those that the prompt's examples do not show solved, and a note on the others: they would be no test."""
    solved = {example.question.strip() for example in examples}
    kept = [problem for problem in problems if problem.asked.strip() not in solved]
    left_out = len(problems) - len(kept)
    return kept, [f"{left_out} held-out problems that prompt.examples show solved are left out"] if left_out else []


def drawn_levels(problems: Sequence[Problem], weights: Mapping[int, float]) -> dict[int, list[Problem]]:
    """The problems of each level that has a weight. Raises DataError, listing the levels there are, if none has."""
    named = [level for level, weight in sorted(weights.items()) if weight > 0]
    levels = {level: [p for p in problems if p.level == level] for level in named}
    if not any(levels.values()):
        present = sorted({p.level for p in problems})
        raise DataError(f"data.levels: no training problems at levels {named}; the data has levels {present}.")
    return {level: of_level for level, of_level in levels.items() if of_level}


def draw_problems(
    problems: list[Problem], level_weights: Mapping[int, float], seed: int, skip: int = 0
) -> Iterator[Problem]:
    """An endless stream: a level by weight, then the level's next problem, reshuffled after each pass.

    The stream is a function of the seed alone; `skip` problems are passed over, so a resumed run
    goes on where it stopped. Raises DataError if no level with weight has problems.
    """
    return islice(_draw(drawn_levels(problems, level_weights), level_weights, seed), skip, None)


def _draw(levels: dict[int, list[Problem]], weights: Mapping[int, float], seed: int) -> Iterator[Problem]:
    rng = random.Random(f"{seed}/levels")
    orders = {level: _passes(of_level, f"{seed}/{level}") for level, of_level in levels.items()}
    while True:
        (level,) = rng.choices(list(levels), [weights[level] for level in levels])
        yield next(orders[level])


def _passes(problems: list[Problem], seed: str) -> Iterator[Problem]:
    rng = random.Random(seed)
    while True:
        yield from rng.sample(problems, len(problems))

"""Where problems come from: the embedded world or a local JSONL file -> Problem, split and drawn by level."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from expo_lite.answers import gold_answer
from expo_lite.config import DataConfig
from expo_lite.errors import DataError
from expo_lite.tiny import world
from expo_lite.types import Problem

TINY_TRAIN_PROBLEMS = 2000  # per level; more than a run of a few hundred steps draws
COLUMNS = ("question", "answer", "level", "solution")


@dataclass(frozen=True)
class ProblemSet:
    """Disjoint training, validation and test problems."""

    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]


def load_problems(config: DataConfig) -> ProblemSet:
    """The problems that `config` names. Raises DataError, naming file and line, for what cannot be used."""
    if config.source == "tiny":
        return ProblemSet(
            train=[p for level in world.LEVELS for p in world.problems("train", level, TINY_TRAIN_PROBLEMS)],
            validation=[p for n in world.LEVELS for p in world.problems("validation", n, config.validation_problems)],
            test=[p for level in world.LEVELS for p in world.problems("test", level, config.test_problems)],
        )
    return split_by_hash(read_jsonl_problems(Path(config.source)), config)


def read_jsonl_problems(path: Path) -> list[Problem]:
    """One problem a line: question, answer, and optionally level (1) and solution. Repeated questions are dropped."""
    if not path.is_file():
        raise DataError(
            f'data.source: no file {path}; give "tiny" or a .jsonl file with question and answer on each line.'
        )
    found: dict[str, Problem] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            row = parse_row(line, f"{path}:{number}")
            found.setdefault(row.question, row)
    if not found:
        raise DataError(f'{path}: holds no problems; each line should be like {{"question": "...", "answer": "..."}}.')
    return list(found.values())


def parse_row(line: bytes, where: str) -> Problem:
    """One line of a JSONL file. Raises DataError that starts with `where`."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text (byte {error.start}); save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON: {error.msg} (column {error.colno}).") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: should be an object with {', '.join(COLUMNS[:2])}, got {type(row).__name__}.")
    question, answer, level, solution = (row.get(column) for column in COLUMNS)
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: question: should be non-empty text, got {question!r}.")
    if not isinstance(answer, (str, int, float)) or isinstance(answer, bool) or not str(answer).strip():
        raise DataError(f"{where}: answer: should be text or a number, got {answer!r}.")
    if level is not None and (not isinstance(level, int) or isinstance(level, bool)):
        raise DataError(f"{where}: level: should be a whole number, got {level!r}.")
    if solution is not None and not isinstance(solution, str):
        raise DataError(f"{where}: solution: should be text, got {solution!r}.")
    digest = hashlib.sha256(question.encode()).hexdigest()[:16]
    return Problem(digest, question, gold_answer(str(answer)), 1 if level is None else level, solution)


def split_by_hash(problems: list[Problem], config: DataConfig) -> ProblemSet:
    """Hold out validation and test problems of each level, chosen by the hash of the question.

    At most a quarter of a level is held out, half of it for each.
    """
    train: list[Problem] = []
    validation: list[Problem] = []
    test: list[Problem] = []
    for level in sorted({p.level for p in problems}):
        of_level = sorted((p for p in problems if p.level == level), key=lambda p: p.id)
        eighth = len(of_level) // 8
        n_validation, n_test = min(config.validation_problems, eighth), min(config.test_problems, eighth)
        validation += of_level[:n_validation]
        test += of_level[n_validation : n_validation + n_test]
        train += of_level[n_validation + n_test :]
    if not validation or not test:
        raise DataError(f"{config.source}: too few problems to hold some out; a level needs at least 8.")
    return ProblemSet(train, validation, test)


def draw_problems(
    problems: list[Problem], level_weights: Mapping[int, float], seed: int, skip: int = 0
) -> Iterator[Problem]:
    """An endless stream: a level by weight, then the level's next problem, reshuffled after each pass.

    The stream is a function of the seed alone; `skip` problems are passed over, so a resumed run
    goes on where it stopped. Raises DataError if no level with weight has problems.
    """
    levels = {
        level: [p for p in problems if p.level == level]
        for level, weight in sorted(level_weights.items())
        if weight > 0
    }
    levels = {level: of_level for level, of_level in levels.items() if of_level}
    if not levels:
        present = sorted({p.level for p in problems})
        raise DataError(
            f"data.levels: no training problems at levels {sorted(level_weights)}; the data has levels {present}."
        )
    return islice(_draw(levels, level_weights, seed), skip, None)


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

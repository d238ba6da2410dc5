"""What the configuration names -> training, validation and test problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from expo_lite.config.examples import Example
from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems.columns import problems_of
from expo_lite.problems.embedded import EMBEDDED
from expo_lite.problems.gym import PREFIX, Generate, read_gym
from expo_lite.problems.hub import Loader
from expo_lite.problems.procedural import Split
from expo_lite.problems.sources import Source, find_source
from expo_lite.problems.splits import ProblemSet, by_level, drawn_levels, split_by_hash, too_few, unsolved

TRAIN_PROBLEMS = 2000  # per level, of what is made here; more than a run of a few hundred steps draws

Part = tuple[list[Problem], list[str]]
"""Problems, and notes on what was left out of them."""


def load_problems(
    config: DataConfig,
    load_dataset: Loader | None = None,
    generate: Generate | None = None,
    examples: Sequence[Example] = (),
) -> ProblemSet:
    """The problems that `config` names; none that `examples` show solved is held out.

    `load_dataset` and `generate` can stand in for the Hub and reasoning-gym.

    Raises:
        DataError: for what cannot be used, naming file and line (or data set, split and row), with what to do.
        ConfigError: for a procedural source that is not installed, or a setting that the source has no use for.
    """
    if config.source in EMBEDDED:
        _refuse_unused(config)
        found = _embedded(config)
    elif config.source.startswith(PREFIX):
        _refuse_unused(config)
        found = _made(config, generate)
    else:
        found = _read(config, load_dataset)
    drawn_levels(found.train, config.levels)  # its error now, not after the model is loaded
    (validation, some), (test, more) = (unsolved(part, examples) for part in (found.validation, found.test))
    return replace(found, validation=validation, test=test, notes=(*found.notes, *some, *more))


def _embedded(config: DataConfig) -> ProblemSet:
    levels, problems = EMBEDDED[config.source]

    def part(split: Split, count: int) -> list[Problem]:
        return [p for level in levels for p in problems(split, level, count)]

    train = part("train", TRAIN_PROBLEMS)
    validation, test = part("validation", config.validation_problems), part("test", config.test_problems)
    notes = (
        *too_few("validation", validation, train, config.validation_problems),
        *too_few("test", test, train, config.test_problems),
    )
    return ProblemSet(train, validation, test, notes)


def _made(config: DataConfig, generate: Generate | None) -> ProblemSet:
    levels = [level for level, weight in sorted(config.levels.items()) if weight > 0]
    rows = read_gym(config.source.removeprefix(PREFIX), levels, generate)
    problems, notes = problems_of(rows, {}, config.source, as_text=config.answers == "text")
    return split_by_hash(problems, config, notes=notes)


def _read(config: DataConfig, load_dataset: Loader | None) -> ProblemSet:
    source = find_source(config, "source")
    train_split = source.train_split(config)
    train, notes = _part(source, train_split, config, load_dataset)
    test_source = find_source(config, "test_source") if config.test_source else source
    split = test_source.test_split(config)
    if split is None and test_source is source:
        test = None
    else:
        test, more_notes = _part(test_source, split, config, load_dataset)
        notes += more_notes
    notes += source.unread({train_split, split if test_source is source else None})
    return split_by_hash(train, config, test, [*notes, *_never_drawn(train, config)])


def read_test_source(config: DataConfig, load_dataset: Loader | None = None, examples: Sequence[Example] = ()) -> Part:
    """All of `data.test_source` that `examples` do not solve, thinned to `data.test_problems` per level.

    Raises DataError.
    """
    source = find_source(config, "test_source")
    problems, notes = _part(source, source.test_split(config), config, load_dataset)
    problems, more_notes = unsolved(problems, examples)
    return [p for of_level in by_level(problems) for p in of_level[: config.test_problems]], [*notes, *more_notes]


def _part(source: Source, split: str | None, config: DataConfig, load_dataset: Loader | None) -> Part:
    name = f"{source.name} ({split})" if split else source.name
    bad_rows = source.known.bad_rows if config.bad_rows is None else config.bad_rows
    rows, as_text = source.rows(split, load_dataset), config.answers == "text"
    contradicts = source.known.contradicts_itself and config.bad_rows is None
    return problems_of(rows, source.columns, name, bad_rows, as_text, contradicts)


def _never_drawn(problems: Sequence[Problem], config: DataConfig) -> list[str]:
    unnamed = sorted({p.level for p in problems} - set(config.levels))
    return [f"levels {unnamed} of the data are not in data.levels and so never trained on"] if unnamed else []


def _refuse_unused(config: DataConfig) -> None:
    given = {
        "columns": config.columns,
        "subset": config.subset,
        "split": config.split,
        "test_source": config.test_source,
        "test_split": config.test_split,
        "bad_rows": config.bad_rows,
    }
    if unused := [f"data.{name}" for name, value in given.items() if value not in (None, {})]:
        raise DataError(f"{', '.join(unused)}: without meaning for data.source {config.source}; leave out.")

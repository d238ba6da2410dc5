"""Problems to evaluate on: those that a training holds out, or all of a test source, none of them trained on."""

from __future__ import annotations

from collections.abc import Sequence

from expo_lite.config.examples import Example
from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems.load import Part, load_problems, read_test_source


def load_test(config: DataConfig, trained: DataConfig | None = None, examples: Sequence[Example] = ()) -> Part:
    """Test problems, at most `test_problems` per level, with notes, and none that `examples` show solved.

    `trained` says what the weights were trained on. With a `test_source`, only that is read. Raises DataError where
    there are none, or all were trained on.
    """
    if config.test_source is not None:
        problems, notes = read_test_source(config, examples=examples)
    else:
        found = load_problems(config, examples=examples)
        problems, notes = found.test, list(found.notes)
    if trained is None or trained == config:
        return problems, notes
    kept, note = without_trained(problems, trained)
    return kept, [*notes, note] if note else notes


def without_trained(problems: Sequence[Problem], trained: DataConfig) -> tuple[list[Problem], str]:
    """The problems that a training on `trained` does not see, and a note. Raises DataError if it sees them all."""
    try:
        seen = {problem.id for problem in load_problems(trained).train}
    except DataError as error:  # moved or deleted since
        return list(problems), f"it is not known whether this run was trained on some of these problems: {error}"
    kept = [problem for problem in problems if problem.id not in seen]
    if not kept:
        raise DataError("data: this run was trained on all of these problems; choose others")
    left_out = len(problems) - len(kept)
    return kept, f"{left_out} of this run's training problems are left out" if left_out else ""

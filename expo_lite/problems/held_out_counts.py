"""How many problems a run holds out, without loading any: exact for data sets that are known, else at most so many."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from expo_lite.config.settings import DataConfig
from expo_lite.problems.embedded import EMBEDDED
from expo_lite.problems.gym import PREFIX
from expo_lite.problems.hub import KNOWN_SETS, HubSet


def held_out_counts(config: DataConfig) -> tuple[int, int]:
    """Numbers of validation and of test problems, over all levels.

    Of a source that is not known, and so is not looked at, every level with a weight in `data.levels` counts in full.
    """
    drawn = [inf for weight in config.levels.values() if weight > 0]
    if embedded := EMBEDDED.get(config.source):
        validation = sum(len(embedded.problems("validation", n, config.validation_problems)) for n in embedded.levels)
        return validation, sum(len(embedded.problems("test", n, config.test_problems)) for n in embedded.levels)
    known = HubSet() if config.source.startswith(PREFIX) else KNOWN_SETS.get(config.source, HubSet())
    training = known.sizes or drawn
    eighths = [size / 8 for size in training]  # as split_by_hash holds out
    if config.test_source:
        test = KNOWN_SETS.get(config.test_source, HubSet()).test_sizes or drawn
    else:
        test = known.test_sizes or eighths
    return _at_most(config.validation_problems, eighths), _at_most(config.test_problems, test)


def _at_most(wanted: int, sizes: Sequence[float]) -> int:
    return sum(int(min(wanted, size)) for size in sizes)

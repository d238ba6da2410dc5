"""What a comparison is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expo_lite.config.settings import Config
from expo_lite.studies.methods.variants import STANDARD, Variant, ablations, methods


@dataclass(frozen=True)
class StudyRequest:
    """A read command line: `words` as typed, `settings` the flags that all trainings share, `config` what they make.

    Seeds and learning rates ascend, and nothing is named twice.
    """

    words: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    steps: int
    ablations: bool
    problems: int
    samples: int
    k: int
    jobs: int
    to: Path
    settings: tuple[str, ...]
    config: Config

    @property
    def compared(self) -> list[Variant]:
        """The methods."""
        return methods(self.methods)

    @property
    def searched(self) -> list[Variant]:
        """Those that learning rates are searched for: the methods, and the one that ablations change."""
        needed = [STANDARD] if self.ablations else []
        return methods(list(dict.fromkeys([*self.methods, *needed])))

    @property
    def changed(self) -> list[Variant]:
        """The ablations, if they are asked for."""
        return ablations() if self.ablations else []

    @property
    def ks(self) -> list[int]:
        """The k of pass@k, largest first."""
        return sorted({self.k, 1}, reverse=True)

    def trainings(self, variant: Variant) -> int:
        """How often a variant is trained for `steps` steps."""
        return len(self.seeds) + (len(self.rates) - 1 if variant in self.searched else 0)

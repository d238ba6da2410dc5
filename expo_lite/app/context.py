"""What every tab is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expo_lite.app.opening import Opening
from expo_lite.app.worker import ModelWorker
from expo_lite.core.records import Problem
from expo_lite.studies.before_after import Comparer


@dataclass(frozen=True)
class AppContext:
    """The worker that owns the model, what the app was opened with, and held-out problems by level."""

    worker: ModelWorker[Comparer]
    opening: Opening
    problems: dict[int, list[Problem]]

    @property
    def root(self) -> Path:
        """The folder of runs; nothing outside it is shown."""
        return self.opening.root

    @property
    def in_tiny_world(self) -> bool:
        """Whether questions are sums, so that any that is typed has a known answer."""
        return self.opening.config.data.source == "tiny"

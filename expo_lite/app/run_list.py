"""The runs below the app's root, as every tab finds them. Users give names, never paths; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from expo_lite.app.places import lies_in
from expo_lite.config import methods
from expo_lite.config.read import read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import DataError, ExpoLiteError
from expo_lite.runs.folder import RunDir

MOST_KEPT = 512
"""Configurations that are kept in memory."""


@dataclass(frozen=True)
class MethodWords:
    """A way of training: its name, and what its explanations are called."""

    name: str
    explanations: str


_NAMES = {"expo": "ExPO", "expert": "GRPO with expert solutions"}  # what users see; for the others the paper's
_EXPLANATIONS = {"self": "self-explanation", "expert": "expert's solution", "none": "explanation"}


def method_of(config: Config) -> MethodWords:
    """The method of a run. The one place where a tab reads it from the configuration."""
    name = methods.method_of(config)
    return MethodWords(_NAMES.get(name, methods.METHODS[name].title), _EXPLANATIONS[config.explanation.source])


@dataclass(frozen=True)
class Run:
    """A run's folder, with what it says of itself."""

    name: str
    folder: RunDir
    config: Config
    state: str
    step: int
    heartbeat: float

    @property
    def title(self) -> str:
        """Its name and its method, as users choose it and see it named."""
        return titled(self.name, self.config)

    @property
    def explains_itself(self) -> bool:
        """Whether it trains on self-explanations, which is what the page is about; others are its controls."""
        return self.config.explanation.source == "self"

    @property
    def adapter(self) -> Path | None:
        """Its adapter (the best so far), if there is one yet."""
        return self.folder.adapter if self.folder.adapter.is_dir() else None


def titled(name: str, config: Config) -> str:
    """The name with the method, where users see only one of many."""
    return f"{name} · {method_of(config).name}"


def list_runs(root: Path) -> list[Run]:
    """The readable runs directly below `root`, newest first."""
    found = [run for name in _names(root) if (run := _read(root, name)) is not None]
    return sorted(found, key=lambda run: run.heartbeat, reverse=True)


def to_open(runs: Sequence[Run]) -> Run | None:
    """Of runs, newest first, the one to show before anyone has chosen: one that explains itself, if there is one."""
    return next((run for run in runs if run.explains_itself), next(iter(runs), None))


def choices(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What a Dropdown takes: titles and names."""
    return [(run.title, run.name) for run in runs]


def find_run(root: Path, name: str) -> Run:
    """The run of that name. Raises DataError for anything that is not the name of a run directly below `root`."""
    run = _read(root, name) if name in _names(root) else None
    if run is None:
        raise DataError(f"There is no run {str(name)[:80]!r}.")
    return run


def own_models(root: Path) -> list[str]:
    """Models that the runs name: Hub ids, and folders of this machine, which only they may name."""
    return sorted({run.config.policy.model for run in list_runs(root)})


def _names(root: Path) -> list[str]:
    return [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []


def _read(root: Path, name: str) -> Run | None:
    """None where the folder holds no run, one that another version wrote, or one whose files lie elsewhere."""
    if not lies_in(root, name):
        return None
    folder = RunDir(root / name)
    config = config_of(folder)
    if config is None:
        return None
    try:
        status = folder.read_status()
        return Run(
            name,
            folder,
            config,
            str(status.get("state", "new")),
            int(status.get("step", 0)),
            float(status.get("heartbeat") or folder.config.stat().st_mtime),
        )
    except (ExpoLiteError, OSError, ValueError, TypeError):
        return None


def config_of(folder: RunDir) -> Config | None:
    """A run's configuration, read anew only when its file has changed; None where there is none for this version."""
    try:
        found = folder.config.stat()
    except OSError:
        return None
    return _config(folder.config.absolute(), (found.st_mtime_ns, found.st_size))


@lru_cache(MOST_KEPT)
def _config(path: Path, _: tuple[int, int]) -> Config | None:
    try:
        return read_config(path)
    except (ExpoLiteError, OSError, ValueError, TypeError):
        return None

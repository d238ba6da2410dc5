"""The runs below the app's root, as every tab finds them. Visitors give names, never paths; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expo_lite.config import Config
from expo_lite.config_reader import read_config
from expo_lite.errors import DataError, ExpoLiteError
from expo_lite.run_dir import RunDir


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
    def adapter(self) -> Path | None:
        """Its adapter (the best so far), if there is one yet."""
        return self.folder.adapter if self.folder.adapter.is_dir() else None


def list_runs(root: Path) -> list[Run]:
    """The readable runs directly below `root`, newest first."""
    found = [run for name in _names(root) if (run := _read(root / name)) is not None]
    return sorted(found, key=lambda run: run.heartbeat, reverse=True)


def find_run(root: Path, name: str) -> Run:
    """The run of that name. Raises DataError for anything that is not the name of a run directly below `root`."""
    run = _read(root / name) if name in _names(root) else None
    if run is None:
        raise DataError(f"There is no run {name[:80]!r} in {root}.")
    return run


def _names(root: Path) -> list[str]:
    return [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []


def _read(path: Path) -> Run | None:
    """None where the folder holds no run, or one that another version wrote."""
    folder = RunDir(path)
    try:
        config = read_config(folder.config)
        status = folder.read_status()
        return Run(
            path.name,
            folder,
            config,
            str(status.get("state", "new")),
            int(status.get("step", 0)),
            float(status.get("heartbeat") or folder.config.stat().st_mtime),
        )
    except (ExpoLiteError, OSError, ValueError, TypeError):
        return None

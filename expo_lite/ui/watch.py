"""What visitors see of the runs below the root: where each stands, and its views once there is something new."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from expo_lite.config import Config
from expo_lite.config_reader import read_config
from expo_lite.errors import ExpoLiteError
from expo_lite.run_dir import RunDir
from expo_lite.ui import live
from expo_lite.ui.live import Follower, Story
from expo_lite.ui.live_charts import charts_html
from expo_lite.ui.live_view import Standing, feed_html, progress_html
from expo_lite.ui.training import ENDED, Trainings

FOLLOWED = 8
"""Runs whose records stay in memory."""


@dataclass(frozen=True)
class Shown:
    """What there is to see of a run; `stamp` is the same for as long as nothing changes."""

    stamp: str
    standing: Standing | None
    progress: str
    charts: str
    feed: str


class Watch:
    """One for all visitors; may be used from any thread."""

    def __init__(self, trainings: Trainings) -> None:
        self.trainings = trainings
        self._turn = threading.Lock()
        self._followers: dict[str, Follower] = {}
        self._configs: dict[str, tuple[int, Config]] = {}

    def look(self, name: str, seen: str = "") -> Shown | None:
        """What there is to see, or None if the visitor has `seen` it."""
        with self._turn:
            standing = self.standing(name)
            story = self._story(name) if standing else Story()
            has_config = standing is not None and standing.config is not None
            state = standing.state if standing else "none"
            stamp = f"{name} {state} {has_config} {len(story.metrics)} {len(story.scores)}"
            if stamp == seen:
                return None
            shown = live.feed(story, running=state == "running")
            source = standing.config.explanation.source if standing and standing.config else "self"
            charts = charts_html(standing.config if standing else None, story)
            return Shown(stamp, standing, progress_html(standing, story), charts, feed_html(shown, source))

    def standing(self, name: str) -> Standing | None:
        """Where the run is; None if there is neither a run of that name nor the log of one that could not start."""
        trainings = self.trainings
        pid = trainings.running(name)
        if pid is None and not trainings.has_trace(name):
            return None
        folder = RunDir(trainings.root / name)
        config, status = self._config(name, folder.config), _status(folder)
        if pid is not None:
            begun = "running" if status.get("pid") == pid else "starting"
            return Standing(name, "stopping" if trainings.is_stopping(name) else begun, config)
        state = self._last_state(name, status)
        return Standing(name, state, config, trainings.last_words(name) if state in ("failed", "lost") else "")

    def _last_state(self, name: str, status: dict[str, object]) -> str:
        """The status file's word, if it is the last process's own."""
        state, last_pid = status.get("state"), self.trainings.last_pid(name)
        if state in ENDED and last_pid in (None, status.get("pid")):
            return str(state)
        return "stopped" if self.trainings.was_stopped(name) else "lost"

    def _story(self, name: str) -> Story:
        if name not in self._followers:
            while len(self._followers) >= FOLLOWED:
                del self._followers[next(iter(self._followers))]
            self._followers[name] = Follower(RunDir(self.trainings.root / name))
        return self._followers[name].look()

    def _config(self, name: str, path: Path) -> Config | None:
        """Read anew only when the file has changed; None while there is none, or where another version wrote it."""
        try:
            changed = path.stat().st_mtime_ns
            if name not in self._configs or self._configs[name][0] != changed:
                self._configs[name] = (changed, read_config(path))
            return self._configs[name][1]
        except (OSError, ExpoLiteError):
            return None


def _status(folder: RunDir) -> dict[str, object]:
    try:
        return folder.read_status()
    except (OSError, ValueError):
        return {}

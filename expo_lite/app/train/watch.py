"""What visitors see of the runs below the root: where each stands, and its views once there is something new."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from expo_lite.app.train import live
from expo_lite.app.train.charts import charts_html, numbers_html
from expo_lite.app.train.live import Follower, Story
from expo_lite.app.train.trainings import ENDED, Trainings
from expo_lite.app.train.view import Standing, feed_html, progress_html
from expo_lite.config.read import read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import ExpoLiteError
from expo_lite.runs.folder import RunDir

FOLLOWED = 8
"""Runs whose records stay in memory."""


@dataclass(frozen=True)
class RunView:
    """What there is to see of a run; `stamp` is the same for as long as nothing changes."""

    stamp: str
    standing: Standing | None
    progress: str
    charts: str
    numbers: str
    feed: str


class Watch:
    """One for all visitors; may be used from any thread. Who reads a long run keeps only its own visitors waiting.

    `fits` tells whether Compare can show the run of a name.
    """

    def __init__(self, trainings: Trainings, fits: Callable[[str], bool] = bool) -> None:
        self.trainings, self.fits = trainings, fits
        self._turn = threading.Lock()  # for the followed runs as a whole; each has a turn of its own as well
        self._followed: dict[str, _Followed] = {}

    def look(self, name: str, seen: str = "") -> RunView | None:
        """What there is to see, or None if the visitor has `seen` it."""
        standing = self.standing(name)
        if standing is None:
            return _shown(name, None, Story(), seen)
        followed = self._follow(name)
        with followed.turn:
            return _shown(name, standing, followed.follower.look(), seen)

    def standing(self, name: str) -> Standing | None:
        """Where the run is; None if there is neither a run of that name nor the log of one that could not start."""
        trainings = self.trainings
        pid = trainings.running(name)
        if pid is None and not trainings.has_trace(name):
            return None
        folder = RunDir(trainings.root / name)
        config, status = self._follow(name).config(), _status(folder)
        if pid is not None:
            begun = "running" if status.get("pid") == pid else "starting"
            return Standing(name, "stopping" if trainings.was_told_to_stop(name) else begun, config)
        state = self._last_state(name, status)
        return Standing(name, state, config, trainings.last_words(name) if state in ("failed", "lost") else "")

    def _last_state(self, name: str, status: dict[str, object]) -> str:
        """The status file's word, if it is the last process's own."""
        state, last_pid = status.get("state"), self.trainings.last_pid(name)
        if state in ENDED and last_pid in (None, status.get("pid")):
            return str(state)
        return "stopped" if self.trainings.was_told_to_stop(name) else "lost"

    def _follow(self, name: str) -> _Followed:
        with self._turn:
            if name not in self._followed:
                while len(self._followed) >= FOLLOWED:
                    del self._followed[next(iter(self._followed))]
                self._followed[name] = _Followed(RunDir(self.trainings.root / name))
            return self._followed[name]


class _Followed:
    """A run that somebody looks at: its records so far, and its settings."""

    def __init__(self, run: RunDir) -> None:
        self.turn = threading.Lock()
        self.follower = Follower(run)
        self._path = run.config
        self._read: tuple[int, Config | None] = (0, None)

    def config(self) -> Config | None:
        """Read anew only when the file has changed; None while there is none, or where another version wrote it."""
        try:
            changed = self._path.stat().st_mtime_ns
            if self._read[0] != changed:
                self._read = (changed, read_config(self._path))
            return self._read[1]
        except (OSError, ExpoLiteError):
            return None


def _shown(name: str, standing: Standing | None, story: Story, seen: str) -> RunView | None:
    config = standing.config if standing else None
    state = standing.state if standing else "none"
    stamp = f"{name} {state} {config is not None} {len(story.metrics)} {len(story.scores)}"
    if stamp == seen:
        return None
    failed = live.feed(story, running=state == "running")
    feed = feed_html(failed, config.explanation.source if config else "self")
    charts, numbers = charts_html(config, story), numbers_html(story)
    return RunView(stamp, standing, progress_html(standing, story), charts, numbers, feed)


def _status(folder: RunDir) -> dict[str, object]:
    try:
        return folder.read_status()
    except (OSError, ValueError):
        return {}

"""What users see of the runs below the root: where each stands, and its views once there is something new."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from expo_lite.app.run_list import config_of
from expo_lite.app.train import live
from expo_lite.app.train.charts import charts_html, numbers_html, waiting_html
from expo_lite.app.train.live import NEWEST, FeedPage, Follower, Story
from expo_lite.app.train.trainings import ENDED, Trainings
from expo_lite.app.train.view import Standing, feed_html, feed_title_html, progress_html, sentence
from expo_lite.core.errors import DataError
from expo_lite.runs.folder import RunDir

FOLLOWED = 8
"""Runs whose records stay in memory."""


@dataclass(frozen=True)
class FeedView:
    """A page of the failed problems, and the pages beside it."""

    title: str
    problems: str
    page: FeedPage


@dataclass(frozen=True)
class RunView:
    """What there is to see of a run; `stamp` is the same for as long as nothing changes.

    `sentence` says where the run stands, as its `progress` does.
    """

    stamp: str
    standing: Standing | None
    sentence: str
    progress: str
    charts: str
    numbers: str
    feed: FeedView

    @property
    def is_active(self) -> bool:
        """Whether there will be more to see."""
        return self.standing is not None and self.standing.is_active


class Watch:
    """One for all users; may be used from any thread. Who reads a long run keeps only its own users waiting.

    `fits` tells whether Compare can show the run of a name.
    """

    def __init__(self, trainings: Trainings, fits: Callable[[str], bool] = bool) -> None:
        self.trainings, self.fits = trainings, fits
        self._turn = threading.Lock()  # for the followed runs as a whole; each has a turn of its own as well
        self._followed: dict[str, Follower] = {}

    def look(self, name: str, seen: str = "", page: int = NEWEST) -> RunView | None:
        """What there is to see, with that page of the feed, or None if the user has `seen` it."""
        standing = self.standing(name)
        if standing is None:
            return _shown(name, None, Story(), seen, page)
        follower = self._follow(name)
        with follower.turn:
            return _shown(name, standing, follower.look(), seen, page)

    def feed(self, name: str, page: int) -> FeedView:
        """That page of the failed problems alone."""
        standing = self.standing(name)
        if standing is None:
            return _feed(None, Story(), page)
        follower = self._follow(name)
        with follower.turn:
            return _feed(standing, follower.look(), page)

    def standing(self, name: str) -> Standing | None:
        """Where the run is; None if there is neither a run of that name nor the log of one that could not start."""
        trainings = self.trainings
        pid = trainings.running(name)
        if pid is None and not trainings.has_trace(name):
            return None
        folder = RunDir(trainings.root / name)
        config, status = config_of(folder), _status(folder)
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

    def _follow(self, name: str) -> Follower:
        with self._turn:
            if name not in self._followed:
                while len(self._followed) >= FOLLOWED:
                    del self._followed[next(iter(self._followed))]
                self._followed[name] = Follower(RunDir(self.trainings.root / name))
            return self._followed[name]


def _shown(name: str, standing: Standing | None, story: Story, seen: str, page: int) -> RunView | None:
    config = standing.config if standing else None
    state = standing.state if standing else "none"
    stamp = f"{name} {state} {config is not None} {len(story.metrics)} {len(story.scores)}"
    if stamp == seen:
        return None
    feed = _feed(standing, story, page)
    has_only_begun = config is None and standing is not None and standing.is_active
    charts = waiting_html() if has_only_begun else charts_html(config, story)
    said = sentence(standing, story) if standing else ""
    return RunView(stamp, standing, said, progress_html(standing, story), charts, numbers_html(story), feed)


def _feed(standing: Standing | None, story: Story, page: int) -> FeedView:
    source = standing.config.explanation.source if standing and standing.config else "self"
    found = live.feed(story, standing is not None and standing.state == "running", page)
    return FeedView(feed_title_html(found, source), feed_html(found.prompts, source), found)


def _status(folder: RunDir) -> dict[str, object]:
    try:
        return folder.read_status()
    except DataError:
        return {}

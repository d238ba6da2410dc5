"""How far the trainings of a study are: rows on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from expo_lite.core.terminal import say
from expo_lite.memory.forecast import in_words
from expo_lite.runs.bars import ProgressRow, rows_within
from expo_lite.runs.display import LOG_SECONDS, REFRESHES
from expo_lite.runs.folder import RunDir
from expo_lite.studies.methods.jobs import Job


@dataclass
class Tally:
    """How many of `total` are done, those of an earlier call among them, and how long the rest takes."""

    total: int
    what: str
    at_once: int
    done: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    def add(self, name: str, seconds: float) -> str:
        """Count one that has ended, and say where things stand."""
        self.done.add(name)
        self.seconds.append(seconds)
        left = self.total - len(self.done)
        rest = left * sum(self.seconds) / len(self.seconds) / min(self.at_once, max(1, left))
        to_go = f", about {in_words(rest)} to go" if left else ""
        return f"{name}: {in_words(seconds)}; {len(self.done)} of {self.total} {self.what}{to_go}"


class JobsDisplay:
    """The jobs under way, each with its step, below how many are done. Use it as a context.

    On a terminal rows that stay in their place; elsewhere a line at the beginning, then one in `LOG_SECONDS`. `folder`
    holds the runs, by the jobs' names; what is none, or has not begun, shows no step.
    """

    def __init__(
        self, console: Console, tally: Tally, folder: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.tally, self.folder, self.clock = console, tally, folder, clock
        self.running: Sequence[Job] = ()
        self.began = self.changed = clock()
        self.share = self.share_before = len(tally.done) / max(1, tally.total)
        self.last_line: float | None = None
        is_live = console.is_terminal and not console.is_dumb_terminal
        rows = Live(console=console, get_renderable=self.rows, transient=True, refresh_per_second=REFRESHES)
        self.live = rows if is_live else None

    def __enter__(self) -> JobsDisplay:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running = ()
        if self.live:
            self.live.stop()

    def watch(self, running: Sequence[Job]) -> None:
        """These are under way."""
        self.running = running
        now = self.clock()
        if self.live is None and running and (self.last_line is None or now - self.last_line >= LOG_SECONDS):
            self.last_line = now
            at = [f"{job.name} {self._step_text(job)}".rstrip() for job in running]
            say(self.console, f"{len(self.tally.done)} of {self.tally.total} {self.tally.what}; now {', '.join(at)}")

    def rows(self) -> Group:
        """What a terminal shows now."""
        if not self.running:
            return Group()
        steps = [self._step(job) for job in self.running]
        shares = [step / of if of else 0.0 for step, of in steps]
        share = (len(self.tally.done) + sum(shares)) / max(1, self.tally.total)
        known = [(job, *at) for job, at in zip(self.running, steps, strict=True) if at[1]]
        others = [Text(job.name) for job, at in zip(self.running, steps, strict=True) if not at[1]]
        done = len(self.tally.done)
        whole = ProgressRow(self.tally.what, done, self.tally.total, share, self._left(share), others)
        each = [ProgressRow("  step", step, of, step / of, None, [Text(job.name)]) for job, step, of in known]
        return rows_within(self.console.width, [whole, *each])

    def _left(self, share: float) -> float | None:
        """Seconds, if the rest goes on as from the beginning to the last step that ended."""
        if share != self.share:
            self.share, self.changed = share, self.clock()
        gained = share - self.share_before
        if gained <= 0:
            return None
        return max(0.0, (self.changed - self.began) * (1 - share) / gained - (self.clock() - self.changed))

    def _step(self, job: Job) -> tuple[int, int]:
        """The step that a training has finished, and how many it has; zeros where there is none."""
        run = RunDir(self.folder / job.name)
        status = run.read_status() if run.path.is_dir() else {}
        return (status.get("step", 0), status.get("steps", 0)) if status.get("state") == "running" else (0, 0)

    def _step_text(self, job: Job) -> str:
        step, of = self._step(job)
        return f"step {step}/{of}" if of else ""

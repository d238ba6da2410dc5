"""What a run shows in a terminal or a log: how far it is, notes, and tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from expo_lite.core.progress import OnProgress, PhaseProgress
from expo_lite.core.terminal import say
from expo_lite.grading.evaluator import Evaluation
from expo_lite.runs.bars import Moment, ProgressRow, figure, rows_within, time_left
from expo_lite.runs.folder import RunDir
from expo_lite.training.metrics import PHASES

LOG_SECONDS = 30.0
"""Between two lines of progress in a log."""
REFRESHES = 4
"""A second, on a terminal."""


class PhaseDisplay:
    """What is under way, as `on_progress` is told. Use it as a context.

    On a terminal a row that stays in its place, below the rows that `above` gives. Elsewhere, and in a notebook, a line
    that `prefix` begins, in `LOG_SECONDS` at most.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        above: Callable[[], list[ProgressRow]] = list,
        beside: Callable[[], list[Text]] = list,
        prefix: Callable[[], str] = str,
    ) -> None:
        self.console = console
        self.clock = clock
        self.above, self.beside, self.prefix = above, beside, prefix
        self.moment: Moment | None = None
        self.last_line = clock()  # of a log, or what stands for one
        is_live = console.is_terminal and not console.is_dumb_terminal
        rows = Live(console=console, get_renderable=self.rows, transient=True, refresh_per_second=REFRESHES)
        self.live = rows if is_live else None

    def __enter__(self) -> PhaseDisplay:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def on_progress(self, progress: PhaseProgress) -> None:
        """Show how far the phase under way is."""
        now = self.clock()
        self.moment = Moment.after(self.moment, progress, now)
        if self.live is None and now - self.last_line >= LOG_SECONDS:
            self.last_line = now
            say(self.console, self.prefix() + self.moment.line(now))

    def rows(self) -> Group:
        """What a terminal shows now."""
        under_way = [self.moment.row(self.clock(), self.beside())] if self.moment else []
        return rows_within(self.console.width, [*self.above(), *under_way])


class Display:
    """What a run shows: a row for the run above that of the phase, or lines in a log. Use it as a context around it.

    In a log each step that takes `LOG_SECONDS` has a line of its own, and of shorter ones one in as many seconds.
    """

    def __init__(self, console: Console, steps: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.steps, self.done = steps, done
        self.metrics: Mapping[str, float] | None = None  # of the last step
        self.times = [clock()]  # when steps began, and when each ended
        self.last_line = clock()  # of a step, in a log
        self.phases = PhaseDisplay(console, clock, self.run_row, self.seconds_beside, lambda: f"{self.step_text()}  ")

    def __enter__(self) -> Display:
        self.phases.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.phases.__exit__()

    @property
    def on_progress(self) -> OnProgress:
        """Shows how far the phase under way is."""
        return self.phases.on_progress

    def begin_steps(self) -> None:
        """The base is scored: what comes now is what the time of a step is taken from."""
        self.times = [self.clock()]

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        """A step is finished."""
        now = self.clock()
        self.done, self.metrics = number, metrics
        self.times.append(now)
        if self.phases.live is None and now - min(self.last_line, self.times[-2]) >= LOG_SECONDS:
            self.last_line = now
            figures = map(str, [*learning(metrics), phase_seconds(metrics)])
            self.note("  ".join([self.step_text(), time_left(self.seconds_left(now)), *figures]))
        self.phases.last_line = now  # within the next one there are lines from its own half minute on

    def seconds_left(self, now: float) -> float | None:
        """Until the last step, if steps and validations take as long as so far in this session."""
        finished = len(self.times) - 1
        if not finished:
            return None
        a_step = (self.times[-1] - self.times[0]) / finished
        return max(0.0, a_step * (self.steps - self.done) - (now - self.times[-1]))

    def run_row(self) -> list[ProgressRow]:
        """The run, for a terminal."""
        left = self.seconds_left(self.clock())
        return [ProgressRow("step", self.done, self.steps, self.done / self.steps, left, learning(self.metrics))]

    def seconds_beside(self) -> list[Text]:
        """The last step's seconds, which stand beside the phase."""
        return [phase_seconds(self.metrics)] if self.metrics else []

    def step_text(self) -> str:
        """How many steps are finished, in the same width for all steps."""
        return f"step {self.done:>{len(str(self.steps))}}/{self.steps}"

    def note(self, text: str, style: str = "") -> None:
        """A line above the rows."""
        say(self.console, text, style)

    def validation(self, step: int, evaluation: Evaluation, forgotten: float) -> None:
        """One line with pass@1 by level, and how far the worst level is below the base, in points."""
        scores = "  ".join(f"L{s.level} {100 * s.pass_at_1.mean:3.0f}" for s in evaluation.levels)
        fallen = f"  worst -{100 * forgotten:.0f}" if forgotten > 0.005 else ""
        number = f"step {step:>{len(str(self.steps))}}"
        self.note(f"{number}  validation pass@1 %  {scores}{'  (base)' if step == 0 else fallen}")


def what_next(run: RunDir) -> str:
    """What a finished run is looked at with, a line each."""
    return (
        f"Learning curves: {run.curves}\n"
        f"Before and after in the browser: python app.py --run {run.path}\n"
        f"Why it learned, or did not: expo-lite doctor {run.path}\n"
        f"More problems and samples: expo-lite evaluate {run.path}"
    )


def learning(metrics: Mapping[str, float] | None) -> list[Text]:
    """The last step's reward, rescued groups (or that there was no signal) and kinds of groups, by importance."""

    def count(name: str) -> Text:
        value = None if metrics is None else metrics[f"{name}_groups"]
        return Text(f"{name} {figure(value, 3, 0)}")

    reward = Text(f"reward {figure(None if metrics is None else metrics['reward_mean'])}")
    learned = count("rescued") if metrics is None or metrics["updates"] else Text("no signal  ", style="yellow")
    return [reward, learned, *map(count, ("failed", "mixed", "solved"))]


def phase_seconds(metrics: Mapping[str, float]) -> Text:
    """How long the phases of the last step took."""
    return Text("seconds  " + "  ".join(f"{p} {figure(metrics[f'{p}_seconds'], 6, 1)}" for p in PHASES), style="dim")

"""What a run shows in the terminal: two rows that stay in their place, notes above them, and tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from expo_lite.bars import Moment, Row, figure, rows_within, time_left
from expo_lite.evaluation import Evaluation
from expo_lite.metrics import PHASES
from expo_lite.progress import PhaseProgress

LOG_SECONDS = 30.0
"""Between two lines of progress in a log."""
REFRESHES = 4
"""A second, on a terminal."""


class Display:
    """Use it as a context around the run: a row for the run and one for the phase of the step that is under way.

    Without a terminal, and in a notebook, there are plain lines instead: one for each step that takes `LOG_SECONDS`,
    or one for several shorter ones, and within what takes longer one in `LOG_SECONDS`.
    """

    def __init__(self, console: Console, steps: int, done: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.steps, self.done = steps, done
        self.moment: Moment | None = None
        self.metrics: Mapping[str, float] | None = None  # of the last step
        self.times = [clock()]  # when steps began, and when each ended
        self.last_line = clock()  # of a log
        is_live = console.is_terminal and not console.is_dumb_terminal
        rows = Live(console=console, get_renderable=self.rows, transient=True, refresh_per_second=REFRESHES)
        self.live = rows if is_live else None

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def on_progress(self, progress: PhaseProgress) -> None:
        """Show how far the phase under way is."""
        now = self.clock()
        self.moment = Moment.after(self.moment, progress, now)
        if self.live is None and now - max(self.last_line, self.times[-1]) >= LOG_SECONDS:
            self.log(f"{self.step_text(self.done)}  {self.moment.line(now)}", now)

    def begin_steps(self) -> None:
        """The base is scored: what comes now is what the time of a step is taken from."""
        self.times = [self.clock()]

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        """A step is finished."""
        now = self.clock()
        self.done, self.metrics = number, metrics
        self.times.append(now)
        was_long = now - min(self.last_line, self.times[-2]) >= LOG_SECONDS
        if self.live is None and was_long:
            figures = [*learning(metrics), phase_seconds(metrics)]
            self.log("  ".join([self.step_text(number), time_left(self.seconds_left(now)), *map(str, figures)]), now)

    def log(self, line: str, now: float) -> None:
        """One line of progress in a log."""
        self.last_line = now
        self.note(line)

    def seconds_left(self, now: float) -> float | None:
        """Until the last step, if steps and validations take as long as so far in this session."""
        finished = len(self.times) - 1
        if not finished:
            return None
        a_step = (self.times[-1] - self.times[0]) / finished
        return max(0.0, a_step * (self.steps - self.done) - (now - self.times[-1]))

    def rows(self) -> Table:
        """What is shown now."""
        now, moment = self.clock(), self.moment
        done = self.done / self.steps
        rows = [Row("step", self.done, self.steps, done, self.seconds_left(now), learning(self.metrics))]
        if moment is not None:
            rows.append(moment.row(now, [phase_seconds(self.metrics)] if self.metrics else []))
        return rows_within(self.console.width, rows)

    def step_text(self, number: int) -> str:
        """Which step, in the same width for all steps."""
        return f"step {number:>{len(str(self.steps))}}/{self.steps}"

    def note(self, text: str, style: str = "") -> None:
        """A line above the rows."""
        say(self.console, text, style)

    def validation(self, step: int, evaluation: Evaluation, forgotten: float) -> None:
        """One line with pass@1 by level, and how far the worst level is below the base, in points."""
        scores = "  ".join(f"L{s.level} {100 * s.pass_at_1.mean:3.0f}" for s in evaluation.levels)
        fallen = f"  worst -{100 * forgotten:.0f}" if forgotten > 0.005 else ""
        number = f"step {step:>{len(str(self.steps))}}"
        self.note(f"{number}  validation pass@1 %  {scores}{'  (base)' if step == 0 else fallen}")


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence: between words it goes on in the next line of a terminal, and a log has it in one line."""
    soft_wrap = not console.is_terminal
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=soft_wrap)  # it may quote the model


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


def comparison_table(before: Evaluation, after: Evaluation) -> Table:
    """Before and after by level, with 95 % intervals."""
    first = before.levels[0]
    k = f"pass@{first.k}"
    title = f"Held-out problems, {first.problems} a level, {first.samples} samples each; % with 95 % intervals"
    table = Table(title=title)
    for name in ("level", "pass@1\nbefore", "pass@1\nafter", f"{k}\nbefore", f"{k}\nafter"):
        table.add_column(name, justify="right", no_wrap=True)
    for old, new in zip(before.levels, after.levels, strict=True):
        table.add_row(str(old.level), str(old.pass_at_1), str(new.pass_at_1), str(old.pass_at_k), str(new.pass_at_k))
    return table

"""What a run shows in the terminal: a live progress bar, notes above it, and tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from expo_lite.evaluation import Evaluation
from expo_lite.metrics import PHASES

WIDE = 140  # columns


class Display:
    """Use it as a context around the loop. Without a terminal only notes and tables are printed."""

    def __init__(self, console: Console, steps: int, done: int) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=8),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.task = self.progress.add_task("", total=steps, completed=done)

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        """Advance the bar to a finished step."""
        wide = self.console.width >= WIDE
        self.progress.update(self.task, completed=number, description=step_line(metrics, wide))

    def note(self, text: str, style: str = "") -> None:
        """A line above the bar."""
        self.console.print(text, style=style, highlight=False, markup=False)  # it may quote the model

    def validation(self, step: int, evaluation: Evaluation, forgotten: float) -> None:
        """One line with pass@1 by level, and by how much the worst level fell below the base."""
        scores = "  ".join(f"L{s.level} {100 * s.pass_at_1.mean:3.0f} %" for s in evaluation.levels)
        fallen = f"  (a level fell by {100 * forgotten:.0f})" if forgotten > 0.005 else ""
        self.note(f"step {step:>4}  validation pass@1  {scores}{'  (base)' if step == 0 else fallen}")


def step_line(metrics: Mapping[str, float], wide: bool) -> str:
    """Reward, groups and rescued, and if there is room the seconds by phase, of one step."""
    groups = " ".join(f"{kind} {metrics[f'{kind}_groups']:.0f}" for kind in ("failed", "mixed", "solved"))
    line = f"reward {metrics['reward_mean']:.2f}  {groups}  rescued {metrics['rescued_groups']:.0f}"
    if not metrics["updates"]:
        line += "  [yellow]no signal[/yellow]"
    if wide:
        line += "  [dim]seconds: " + " ".join(f"{p} {metrics[f'{p}_seconds']:.2f}" for p in PHASES) + "[/dim]"
    return line


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

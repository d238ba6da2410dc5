"""Progress as rows of fixed columns on a terminal, and as plain lines for a log.

Every number has a fixed width, so that nothing moves but its digits. What does not fit into the terminal is left out
whole, the least important first, never cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from expo_lite.core.progress import PhaseProgress

LABEL, COUNT, BAR, LEFT, GAP = 15, 11, 8, 13, 2  # columns; more for a count that is longer


@dataclass(frozen=True)
class ProgressRow:
    """What, how much of it is done, a bar for `share`, the seconds left if known, and figures by importance."""

    label: str
    done: int
    total: int
    share: float
    left: float | None
    figures: Sequence[Text]


def rows_within(width: int, rows: Sequence[ProgressRow]) -> Group:
    """The rows below each other in at most `width` columns; time left and bar are there if each first figure is."""
    first = max((row.figures[0].cell_len for row in rows if row.figures), default=0)
    count = max([COUNT, *(2 * len(str(row.total)) + 1 for row in rows)])
    room = width - (LABEL + GAP + count + GAP + first)
    with_left = room >= LEFT + GAP
    with_bar = room >= LEFT + GAP + BAR + GAP
    rest = room + first - with_left * (LEFT + GAP) - with_bar * (BAR + GAP)
    columns = [LABEL, count, *[BAR] * with_bar, *[LEFT] * with_left, rest]
    table = Table.grid(padding=(0, GAP, 0, 0))
    for column in columns:
        table.add_column(width=max(1, column), no_wrap=True, overflow="crop")
    for row in rows:
        cells = [Text(row.label), Text(f"{f'{row.done}/{row.total}':>{count}}")]
        bar = [ProgressBar(total=1.0, completed=row.share, width=BAR)] * with_bar
        table.add_row(*cells, *bar, *[Text(time_left(row.left))] * with_left, fitting(row.figures, rest))
    return Group(table, "")  # the cursor rests in an empty line: ^C echoed at the end of a full one would move all rows


def fitting(figures: Sequence[Text], room: int) -> Text:
    """As many figures, from the first on, as fit into `room` columns."""
    return Text(" " * GAP).join(fig for n, fig in enumerate(figures) if columns_of(figures[: n + 1]) <= room)


def columns_of(figures: Sequence[Text]) -> int:
    """How wide figures are side by side."""
    return sum(figure.cell_len + GAP for figure in figures) - GAP


def time_left(seconds: float | None) -> str:
    """Thirteen columns: " 0:02:10 left", "  3d 04h left", or " -:--:-- left" where it is not known."""
    if seconds is None:
        return " -:--:-- left"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24:>3}d {hours % 24:02}h left" if hours > 99 else f"{hours:>2}:{minutes:02}:{rest:02} left"


def figure(value: float | None, width: int = 5, decimals: int = 2) -> str:
    """A number in `width` columns, with fewer decimals where it is large; a dash where there is none."""
    if value is None:
        return f"{'-':>{width}}"
    texts = [f"{value:{width}.{places}f}" for places in range(decimals, -1, -1)]
    return next((text for text in texts if len(text) <= width), f"{value:{width}.0e}")


class Moment(NamedTuple):
    """The phase under way: what was told last, when, and when the phase began (seconds), with which share behind it."""

    progress: PhaseProgress
    began: float
    told: float
    share_before: float

    @classmethod
    def after(cls, before: Moment | None, progress: PhaseProgress, now: float) -> Moment:
        """What was told at `now`; it begins a phase if the phase is another, or says that nothing is done yet."""
        if before is None or progress.phase != before.progress.phase or progress.done == progress.tokens == 0:
            return cls(progress, now, now, progress.share)
        return before._replace(progress=progress, told=now)

    @property
    def tokens_per_second(self) -> float | None:
        """Mean over the phase so far; None where nothing went through the model yet."""
        seconds = self.told - self.began
        return self.progress.tokens / seconds if self.progress.tokens and seconds > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Until the phase is over, if it goes on as so far; None where nothing is done yet."""
        share, seconds = self.progress.share - self.share_before, self.told - self.began
        if share <= 0 or seconds <= 0:
            return None
        return max(0.0, seconds * (1 - self.progress.share) / share - (now - self.told))

    def row(self, now: float, more: Sequence[Text]) -> ProgressRow:
        """For the terminal."""
        rate = self.tokens_per_second
        speed = Text(f"{figure(rate, 7, 0)} tok/s" if rate else " " * 13)
        p = self.progress
        return ProgressRow(p.phase, p.done, p.total, p.share, self.seconds_left(now), [speed, *more])

    def line(self, now: float) -> str:
        """For a log."""
        p, rate, left = self.progress, self.tokens_per_second, self.seconds_left(now)
        parts = [f"{p.phase:{LABEL}}", f"{f'{p.done}/{p.total}':>{COUNT}} {p.unit}"]
        parts += [f"{figure(rate, 7, 0)} tok/s"] if rate else []
        return "  ".join([*parts, *([time_left(left)] if left is not None else [])])

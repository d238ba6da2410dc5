"""How every picture of the package looks: one style, curves with their intervals, and names at their ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window, and no figure of a user's own is touched
from matplotlib.ticker import MaxNLocator

from expo_lite.core.charts import GRID, INK, MUTED, spread

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "ytick.major.pad": 7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "savefig.dpi": 150,
}
PANEL = (4.6, 3.3)  # inches
PER_CENT = (-3, 103)  # room for a line at 0 or 100
NAME = 11.5  # points from one name to the next


@dataclass(frozen=True)
class Series:
    """A curve: (x, y, low, high) by x, low and high None without an interval; `dash` and `marker` are matplotlib's."""

    name: str
    colour: str
    points: Sequence[tuple[float, float, float | None, float | None]]
    marker: str = "o"
    dash: str = "-"


@contextmanager
def picture(path: Path, columns: int, rows: int = 1, panel: tuple[float, float] = PANEL) -> Iterator[list[Axes]]:
    """The panels to draw in, row by row; at the end the picture is in `path`."""
    with rc_context(STYLE):
        figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr]
        panels = figure.subplots(rows, columns, squeeze=False)
        yield list(panels.flat)
        figure.savefig(path)


def curves(axes: Axes, series: Sequence[Series], unit: str = "", digits: int = 0) -> None:
    """Draw them with bands for intervals and names at their ends; where there is one x only, numbers instead."""
    drawn = [one for one in series if one.points]
    places = sorted({point[0] for one in drawn for point in one.points})
    if len(places) < 2:
        numbers(axes, [(one.name, _reading(one.points[0], unit, digits)) for one in drawn])
        return
    for one in drawn:
        x, y, low, high = zip(*one.points, strict=True)
        if None not in low and None not in high:
            axes.fill_between(x, low, high, color=one.colour, alpha=0.13, linewidth=0)
        axes.plot(x, y, color=one.colour, marker=one.marker, linestyle=one.dash, clip_on=False)
    axes.set_xlim(places[0], places[-1])
    ends = [(one, one.points[-1]) for one in drawn]
    name_ends(axes, [(f"{one.name}  {_number(end[1], digits)}{unit}", end, one.colour) for one, end in ends])


def smoothed(axes: Axes, steps: Sequence[int], series: Sequence[tuple[str, str, str, Sequence[float]]]) -> None:
    """(name, colour, dash, a value a step) as means over `window` steps, with the values as dots behind.

    A value that is NaN is left out. With one step there are numbers instead.
    """
    if len(steps) < 2:
        numbers(axes, [(name, f"{value:g}") for name, _, _, values in series for value in values if value == value])
        return
    ends = []
    for name, colour, dash, values in series:
        known = [(step, value) for step, value in zip(steps, values, strict=True) if not np.isnan(value)]
        if not known:
            continue
        x, y = zip(*known, strict=True)
        means = running_mean(y, window(len(steps)))
        axes.plot(x, y, color=colour, marker=".", markersize=4, linestyle="none", alpha=0.4, markeredgewidth=0)
        axes.plot(x, means, color=colour, linestyle=dash)
        ends.append((f"{name}  {means[-1]:.1f}".removesuffix(".0"), (x[-1], means[-1]), colour))
    axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(bottom=0)
    name_ends(axes, ends)


def whole_steps(axes: Axes) -> None:
    """There is no step 1.5."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def window(steps: int) -> int:
    """Over how many steps curves of so many are smoothed: an odd number, a tenth of them; 1 where there are few."""
    return 1 + 2 * (steps // 20)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """The mean of `width` values around each, of as many as there are at the ends."""
    half = width // 2
    return [float(np.mean(values[max(0, n - half) : n + half + 1])) for n in range(len(values))]


def name_ends(axes: Axes, ends: Sequence[tuple[str, Sequence[float | None], str]]) -> None:
    """Write names beside the last points (x, y, ...) of curves, none over another, each with a line of its colour."""
    bottom, top = axes.get_ylim()
    gap = NAME / (axes.bbox.height * 72 / axes.figure.dpi)
    ends = ends[::-1]  # where curves end together, the first is named on top
    heights = [(float(end[1] or 0) - bottom) / (top - bottom) for _, end, _ in ends]
    edge = axes.get_xlim()[1]
    for (text, end, colour), height in zip(ends, spread(heights, gap, 1.0), strict=True):
        lead = {"lw": 1.2} if end[0] == edge else {"lw": 0.8, "ls": ":"}  # it should not look like more of the curve
        axes.annotate(
            text,
            (end[0], end[1]),  # type: ignore[arg-type]
            (1.07, height),
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "shrinkA": 0, "shrinkB": 3, "relpos": (0, 0.5), **lead},
        )


def numbers(axes: Axes, named: Sequence[tuple[str, str]]) -> None:
    """Where a curve would be a single point: what it is, and the number."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for row, (name, value) in enumerate(named or [("nothing yet", "")]):
        height = 0.9 - row * min(0.2, 0.9 / max(1, len(named)))
        axes.text(0.0, height, value, va="center", fontsize=12 if len(named) < 6 else 9, weight="bold")
        axes.text(0.45, height, name, va="center", color=MUTED)


def _reading(point: tuple[float, float, float | None, float | None], unit: str, digits: int) -> str:
    _, y, low, high = point
    between = "" if low is None or high is None else f" [{_number(low, digits)}, {_number(high, digits)}]"
    return f"{_number(y, digits)}{unit}{between}"


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.0

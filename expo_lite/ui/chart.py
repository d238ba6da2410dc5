"""A line chart as HTML: curves in a small SVG that stretches, words beside them in the page's own type.

Text in a stretched SVG would stretch too, so axis numbers and the curves' names are HTML. The names stand at the
curves' ends, and curves differ in dashes as well as in colour. A sentence for screen readers says what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

MOST_POINTS = 240
LABEL_GAP = 10.0
"""Per cent of the plot's height between two names."""


@dataclass(frozen=True)
class Line:
    """One curve; `style` is one of the classes s1 to s5 (see style.css), `dots` marks each point."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True)
class Axes:
    """The ranges (from 0), the marks of the vertical axis, and how its numbers are written."""

    right: float
    top: float
    marks: Sequence[float]
    text: Callable[[float], str]


def per_cent(share: float) -> str:
    """A share as a person writes it."""
    return f"{100 * share:.0f} %"


def chart_html(title: str, note: str, lines: Sequence[Line], axes: Axes) -> str:
    """The whole figure; without points it says that they are still to come."""
    drawn = [line for line in lines if line.points]
    spoken = "; ".join(f"{line.label} {axes.text(line.points[-1][1])}" for line in drawn)
    grid = "".join(f'<path class="grid" d="M0 {_y(mark, axes)}H1000"/>' for mark in axes.marks)
    numbers = "".join(
        f'<span class="y" style="top:{_y(mark, axes) / 10:.1f}%">{axes.text(mark)}</span>' for mark in axes.marks
    )
    steps = "".join(
        f'<span class="x" style="left:{100 * part:.0f}%">{"step " if part == 0 else ""}{axes.right * part:.0f}</span>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    )
    body = (
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{grid}'
        f"{''.join(_curve(line, axes) for line in drawn)}</svg>{numbers}{steps}{_names(drawn, axes)}"
    )
    if not drawn:
        body += '<span class="still">comes with the first step</span>'
    label = escape(f"{title}. " + (f"Latest: {spoken}." if drawn else "Nothing yet."))
    return (
        f'<figure class="live-chart"><figcaption><h3>{escape(title)}</h3><p>{escape(note)}</p></figcaption>'
        f'<div class="live-plot" role="img" aria-label="{label}">{body}</div></figure>'
    )


def _x(value: float, axes: Axes) -> float:
    return round(1000 * value / axes.right, 1)


def _y(value: float, axes: Axes) -> float:
    return round(1000 - 1000 * min(value, axes.top) / axes.top, 1)


def _curve(line: Line, axes: Axes) -> str:
    points = [(_x(x, axes), _y(y, axes)) for x, y in thinned(line.points)]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
    dots = "".join(f"M{x:g} {y:g}h0" for x, y in points) if line.dots or len(points) == 1 else ""
    return f'<path class="line {line.style}" d="{path}"/>' + (
        f'<path class="dot {line.style}" d="{dots}"/>' if dots else ""
    )


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about MOST_POINTS of them, evenly, with the last."""
    every = max(1, len(points) // MOST_POINTS)
    return [*points[:-1:every], *points[-1:]]


def _names(lines: Sequence[Line], axes: Axes) -> str:
    wanted = [_y(line.points[-1][1], axes) / 10 for line in lines]
    return "".join(
        f'<span class="name {line.style}" style="top:{place:.1f}%"><i></i>{escape(line.label)} '
        f"<b>{axes.text(line.points[-1][1])}</b></span>"
        for line, place in zip(lines, spread(wanted), strict=True)
    )


def spread(wanted: Sequence[float], gap: float = LABEL_GAP, top: float = 100.0) -> list[float]:
    """Places near the wanted ones, none nearer than `gap` to another, in the same order, between 0 and `top`."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    places = [0.0] * len(wanted)
    lowest = 0.0
    for n in order:
        places[n] = lowest = max(wanted[n], lowest)
        lowest += gap
    highest = top
    for n in reversed(order):
        places[n] = highest = min(places[n], highest)
        highest -= gap
    return places


def meter(name: str, gib: float, limit: float) -> str:
    """A bar with its numbers in words."""
    share = min(100.0, 100 * gib / limit)
    over = " over" if gib > limit else ""
    track = f'<span class="live-track"><i style="width:{share:.1f}%"></i></span>'
    return f'<div class="live-meter{over}"><span>{name}</span>{track}<b>{gib:.2f} GiB</b></div>'

"""Line charts as HTML: curves in a small SVG that stretches, words beside them in the page's own type.

Text in a stretched SVG would stretch too, so axis numbers and the curves' names are HTML. The names stand at the
curves' ends, and curves differ in dashes as well as in colour. A sentence for screen readers says what is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

from expo_lite.app.text import harmless
from expo_lite.core.charts import spread

MOST_POINTS = 240
NO_POINTS = "nothing yet"


@dataclass(frozen=True)
class Curve:
    """One curve; `style` is a class of style.css (s1 to s5 are levels, r0 to r5 runs), `dots` marks each point.

    `intervals` are (step, low, high), shaded. `name` is read out in full where `label`, at the curve's end, is short.
    """

    label: str
    style: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    intervals: Sequence[tuple[float, float, float]] = ()
    name: str = ""


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


def chart_html(
    title: str, note: str, lines: Sequence[Curve], axes: Axes, heading: str = "h3", read: bool = False
) -> str:
    """The whole figure, its title in a `heading`; without points it says that they are still to come.

    With `read` it carries its numbers, and a script can show those at the pointer (curves.js).
    """
    drawn = [line for line in lines if line.points]
    grid = "".join(f'<path class="grid" d="M0 {_y(mark, axes)}H1000"/>' for mark in axes.marks)
    body = (
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{grid}'
        f"{''.join(_curve(line, axes, read) for line in drawn)}</svg>{_numbers(axes)}{_names(drawn, axes)}"
    )
    if not drawn:
        body += f'<span class="still">{NO_POINTS}</span>'
    last = f' data-last="{axes.right:g}"' if read else ""
    spoken = _spoken(title, drawn, axes)
    plot = f'<div class="live-plot" role="img" aria-label="{spoken}"{last}>{body}</div>'
    return figure_html(title, note, plot, heading)


def figure_html(title: str, note: str, body: str, heading: str = "h3", small: bool = False) -> str:
    """`body` below its title and a note."""
    head = f"<figcaption><{heading}>{escape(title)}</{heading}><p>{escape(note)}</p></figcaption>"
    return f'<figure class="live-chart{" small" if small else ""}">{head}{body}</figure>'


def skeleton_html(title: str, note: str, heading: str = "h3") -> str:
    """One place holder for all charts that are still to come; `note` says when and which."""
    return figure_html(title, note, '<div class="bones" aria-hidden="true"><i></i><i></i><i></i></div>', heading)


def numbers_table(label: str, heads: Sequence[str], bodies: str, caption: str = "") -> str:
    """A table in HTML below its column heads; one that is too wide scrolls, also by the keyboard."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    above = f"<caption>{caption}</caption>" if caption else ""
    table = f"<table>{above}<thead><tr>{head}</tr></thead>{bodies}</table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def _spoken(title: str, drawn: Sequence[Curve], axes: Axes) -> str:
    """The chart in a sentence, as it may stand in an attribute."""
    latest = "; ".join(f"{harmless(line.name or line.label)} {axes.text(line.points[-1][1])}" for line in drawn)
    return escape(title) + (f". Latest: {latest}." if drawn else ". Nothing yet.")


def _x(value: float, axes: Axes) -> float:
    return round(1000 * value / axes.right, 1)


def _y(value: float, axes: Axes) -> float:
    return round(1000 - 1000 * min(value, axes.top) / axes.top, 1)


def _curve(line: Curve, axes: Axes, read: bool) -> str:
    shown = thinned(line.points)
    points = [(_x(x, axes), _y(y, axes)) for x, y in shown]
    dots = "".join(f"M{x:g} {y:g}h0" for x, y in points) if line.dots or len(points) == 1 else ""
    numbers = f' data-name="{harmless(line.label)}" data-values="{_values(shown, axes)}"' if read else ""
    return (
        _band(line, axes)
        + f'<path class="line {line.style}" d="{_path(points)}"{numbers}/>'
        + (f'<path class="dot {line.style}" d="{dots}"/>' if dots else "")
    )


def _values(points: Sequence[tuple[float, float]], axes: Axes) -> str:
    """Steps and their numbers in words, as JSON in an attribute."""
    return escape(json.dumps([[x, axes.text(y)] for x, y in points]))


def _band(line: Curve, axes: Axes) -> str:
    """The intervals around a curve, shaded."""
    if len(line.intervals) < 2:
        return ""
    upper = [(_x(x, axes), _y(high, axes)) for x, _, high in line.intervals]
    lower = [(_x(x, axes), _y(low, axes)) for x, low, _ in reversed(line.intervals)]
    return f'<path class="band {line.style}" d="{_path(upper + lower)}Z"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most about MOST_POINTS of them, evenly, with the last."""
    every = max(1, len(points) // MOST_POINTS)
    return [*points[:-1:every], *points[-1:]]


def _numbers(axes: Axes) -> str:
    """Those of both axes; steps are whole."""
    steps = [step for step in ticks(axes.right, 4) if step <= axes.right and step.is_integer()]
    return "".join(
        f'<span class="y" style="top:{_y(mark, axes) / 10:.1f}%">{axes.text(mark)}</span>' for mark in axes.marks
    ) + "".join(
        f'<span class="x" style="left:{_x(step, axes) / 10:.1f}%">{"" if step else "step "}{step:,.0f}</span>'
        for step in steps
    )


def _names(lines: Sequence[Curve], axes: Axes) -> str:
    wanted = [_y(line.points[-1][1], axes) / 10 for line in lines]
    return "".join(
        f'<span class="name {line.style}" style="top:{place:.1f}%"><i></i>{harmless(line.label)} '
        f"<b>{axes.text(line.points[-1][1])}</b></span>"
        for line, place in zip(lines, spread(wanted), strict=True)
    )


def ticks(top: float, most: int = 5) -> list[float]:
    """Round numbers from 0 up to at least `top` (above 0), at most `most` steps of them."""
    size = 10.0 ** floor(log10(top / most))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10, 20) if size * factor * most >= top * (1 - 1e-9))
    count = next(n for n in range(1, most + 1) if n * step >= top * (1 - 1e-9))
    return [round(n * step, 10) for n in range(count + 1)]


def meter(name: str, gib: float, limit: float) -> str:
    """A bar with its numbers in words."""
    share = min(100.0, 100 * gib / limit)
    over = " over" if gib > limit else ""
    track = f'<span class="live-track"><i style="width:{share:.1f}%"></i></span>'
    return f'<div class="live-meter{over}"><span>{name}</span>{track}<b>{gib:.2f} GiB</b></div>'

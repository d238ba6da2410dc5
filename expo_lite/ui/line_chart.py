"""Small line charts as SVG: readable without colour (dashes, marks and letters), and by screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from expo_lite.ui.text import harmless

STYLES = 6
"""Lines that can be told apart; style.css has their colours and dashes."""
WIDTH, HEIGHT = 380, 216
LEFT, RIGHT, TOP, BOTTOM = 40, 24, 10, 26
LETTER_GAP = 12  # between the letters at the ends of lines


@dataclass(frozen=True)
class Point:
    """A value at a step, with its interval where it has one."""

    step: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One run's values; `style` is its place among the runs shown."""

    name: str
    style: int
    points: Sequence[Point]

    @property
    def letter(self) -> str:
        """What stands at its end, and before its name in the legend."""
        return "ABCDEF"[self.style]


@dataclass(frozen=True)
class Panel:
    """One chart. `unit` follows every number; `top` is the end of the axis, found from the values where None."""

    title: str
    note: str
    unit: str
    lines: Sequence[Line]
    last_step: float
    top: float | None = None


def panel_html(panel: Panel) -> str:
    """A heading, a place where the pointer's values are read, and the chart."""
    return (
        f'<figure class="panel"><figcaption><strong>{harmless(panel.title)}</strong> '
        f'<span class="note">{harmless(panel.note)}</span><span class="readout" aria-hidden="true"></span>'
        f"</figcaption>{_svg(panel)}</figure>"
    )


def spoken(panel: Panel) -> str:
    """The chart in a sentence: where each line starts and ends."""
    told = [
        f"{line.letter} {line.name}: {_number(line.points[0].value)}{panel.unit} at step {line.points[0].step:g}, "
        f"{_number(line.points[-1].value)}{panel.unit} at step {line.points[-1].step:g}"
        for line in panel.lines
        if line.points
    ]
    return f"{panel.title}, by step. " + ("; ".join(told) or "No values yet") + "."


@dataclass(frozen=True)
class _Scale:
    last_step: float
    top: float

    def x(self, step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / self.last_step, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top, 1)


def _svg(panel: Panel) -> str:
    highest = max((p.value for line in panel.lines for p in line.points), default=0.0)
    scale = _Scale(max(1.0, panel.last_step), panel.top or ticks(max(highest, 1e-9))[-1])
    if not any(line.points for line in panel.lines):
        return '<p class="nothing">No values yet.</p>'
    inside = _axes(panel, scale) + "".join(_line(line, panel.unit, scale) for line in panel.lines)
    inside += f'<line class="cross" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="-9" x2="-9"/>' + _letters(panel, scale)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{harmless(spoken(panel))}" '
        f'data-left="{LEFT}" data-right="{WIDTH - RIGHT}" data-width="{WIDTH}" data-last="{scale.last_step:g}" '
        f'data-unit="{harmless(panel.unit)}">{inside}</svg>'
    )


def _axes(panel: Panel, scale: _Scale) -> str:
    parts = []
    for value in ticks(scale.top):
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(value)}</text>')
    for step in (tick for tick in ticks(scale.last_step) if tick <= scale.last_step):
        parts.append(
            f'<text class="tick" x="{scale.x(step)}" y="{HEIGHT - 8}" text-anchor="middle">{_number(step)}</text>'
        )
    return "".join(parts)


def _line(line: Line, unit: str, scale: _Scale) -> str:
    if not line.points:
        return ""
    path = " ".join(f"{scale.x(p.step)},{scale.y(p.value)}" for p in line.points)
    marks = "".join(
        f'<circle cx="{scale.x(p.step)}" cy="{scale.y(p.value)}" r="3" data-step="{p.step:g}" '
        f'data-letter="{line.letter}" data-value="{_number(p.value)}">'
        f"<title>{harmless(_told(line, p, unit))}</title></circle>"
        for p in line.points
    )
    return f'<g class="line r{line.style}">{_band(line, scale)}<polyline points="{path}"/>{marks}</g>'


def _band(line: Line, scale: _Scale) -> str:
    """The interval around a line, shaded."""
    known = [(p.step, p.low, p.high) for p in line.points if p.low is not None and p.high is not None]
    if len(known) < 2:
        return ""
    upper = [f"{scale.x(step)},{scale.y(high)}" for step, _, high in known]
    lower = [f"{scale.x(step)},{scale.y(low)}" for step, low, _ in reversed(known)]
    return f'<polygon points="{" ".join(upper + lower)}"/>'


def _letters(panel: Panel, scale: _Scale) -> str:
    """Each line's letter at its end, moved apart where ends meet."""
    lines = [line for line in panel.lines if line.points]
    lines.sort(key=lambda line: scale.y(line.points[-1].value))
    heights = apart([scale.y(line.points[-1].value) + 4 for line in lines], LETTER_GAP, HEIGHT - BOTTOM + 4)
    return "".join(
        f'<text class="letter r{line.style}" x="{scale.x(line.points[-1].step) + 8}" y="{y:.1f}">{line.letter}</text>'
        for line, y in zip(lines, heights, strict=True)
    )


def apart(wanted: Sequence[float], gap: float, limit: float) -> list[float]:
    """Places in the order of `wanted`, at least `gap` from each other, and none below `limit` (greater is lower)."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    for index in reversed(range(len(places))):
        limit = places[index] = min(places[index], limit)
        limit -= gap
    return places


def _told(line: Line, point: Point, unit: str) -> str:
    between = "" if point.low is None else f" [{_number(point.low)}, {_number(point.high or 0)}]"
    return f"{line.letter} {line.name}, step {point.step:g}: {_number(point.value)}{unit}{between}"


def ticks(top: float, most: int = 5) -> list[float]:
    """Round numbers from 0 up to at least `top`, at most `most` steps of them."""
    size = 10.0 ** floor(log10(top / most))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10, 20) if size * factor * most >= top * (1 - 1e-9))
    count = next(n for n in range(1, most + 1) if n * step >= top * (1 - 1e-9))
    return [round(n * step, 10) for n in range(count + 1)]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

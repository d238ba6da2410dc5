"""The curves of a run while it is trained, as HTML: pass rates, failed problems, reward, seconds and memory."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from expo_lite.app.chart import Axes, Curve, chart_html, figure_html, meter, numbers_table, per_cent, skeleton_html
from expo_lite.app.train import live
from expo_lite.app.train.live import Story
from expo_lite.config.settings import Config
from expo_lite.memory.budget import plan_on
from expo_lite.memory.cards import Place
from expo_lite.memory.plan import GIB

MOST_ROWS = 20
"""In the table of the curves' numbers."""
TO_COME = "Pass rates by level, failed and rescued problems, reward, seconds and memory come with the first step"
STYLES = ("s1", "s2", "s3", "s4", "s5")


def charts_html(config: Config | None, story: Story) -> str:
    """All curves, the seconds by phase and the memory; nothing where there is no run.

    Before the first step there is one place holder, beside the base's scores once there are any.
    """
    if config is None:
        return ""
    steps = float(config.steps)
    shares = Axes(steps, 1.0, (0, 0.5, 1), per_cent)
    held_out = chart_html(
        "Held-out problems, pass rate",
        f"pass@1 by level, every {config.evaluation.every} steps; step 0 is the base",
        _by_level(live.held_out_by_level(story), dots=True),
        shares,
    )
    if not story.metrics:
        return waiting_html(held_out if story.scores else "")
    prompts = config.rollout.prompts_per_step
    counts = Axes(steps, float(prompts), (0, prompts / 2, prompts), lambda n: f"{n:.1f}".removesuffix(".0"))
    figures = [
        chart_html(
            "Training problems, pass rate",
            f"Right attempts among {config.rollout.group_size} a problem, by level; last {live.WINDOW} steps",
            _by_level(live.passed_by_level(story)),
            shares,
        ),
        held_out,
        chart_html(
            "Problems where every attempt failed",
            f"Of {prompts} a step, and how many of them were rescued; mean of {live.WINDOW} steps",
            [
                Curve("failed", "failed", live.averaged(story, "failed_groups")),
                Curve("rescued", "rescued", live.averaged(story, "rescued_groups")),
            ],
            counts,
        ),
        chart_html(
            "Reward",
            f"Share of right attempts; mean of {live.WINDOW} steps",
            [Curve("reward", "reward", live.averaged(story, "reward_mean"))],
            Axes(steps, 1.0, (0, 0.5, 1), lambda share: f"{share:.2f}".removesuffix(".00")),
        ),
        phases_html(live.seconds_by_phase(story)),
        memory_html(config, story),
    ]
    return f'<div class="live-charts">{"".join(figures)}</div>'


def waiting_html(known: str = "") -> str:
    """One place holder for the curves of a run that has begun, beside the chart that there is already."""
    return f'<div class="live-charts waiting">{known}{skeleton_html("Learning curves", TO_COME)}</div>'


def _by_level(curves: dict[int, live.Points], dots: bool = False) -> list[Curve]:
    """Hard levels are drawn last, above the others."""
    first = min(curves, default=1)
    return [Curve(f"L{n}", STYLES[(n - first) % len(STYLES)], points, dots) for n, points in curves.items()]


def numbers_html(story: Story) -> str:
    """What the curves show, as a table of at most MOST_ROWS steps, the newest first; nothing before the first."""
    if not story.metrics:
        return ""
    columns = [(f"L{n}", points, per_cent) for n, points in live.passed_by_level(story).items()]
    columns += [(name, live.averaged(story, f"{name}_groups"), "{:.1f}".format) for name in ("failed", "rescued")]
    columns += [("reward", live.averaged(story, "reward_mean"), "{:.2f}".format)]
    title = f"Training problems: pass rate by level, failed and rescued ones, reward; means of {live.WINDOW} steps"
    rows = ""
    for metric in story.metrics[:: -ceil(len(story.metrics) / MOST_ROWS)]:
        cells = (_latest(points, metric["step"], text) for _, points, text in columns)
        rows += f'<tr><th scope="row">{metric["step"]}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    return numbers_table(title, ["Step", *(name for name, _, _ in columns)], f"<tbody>{rows}</tbody>", title)


def _latest(points: live.Points, step: float, text: Callable[[float], str]) -> str:
    """Where the curve stands at a step: not every step has problems of every level."""
    known = [value for at, value in points if at <= step]
    return text(known[-1]) if known else "–"


def phases_html(seconds: dict[str, float]) -> str:
    """A step's seconds by phase, as one bar and in numbers; phases differ in pattern as well as in colour."""
    whole = sum(seconds.values())
    parts = "".join(f'<i class="{p}" style="width:{100 * s / whole:.1f}%"></i>' for p, s in seconds.items() if whole)
    words = "".join(
        f'<li><i class="{p}"></i>{p} <b>{s:.2f} s</b> {per_cent(s / whole if whole else 0.0)}</li>'
        for p, s in seconds.items()
    )
    shown = f'<div class="live-phases" aria-hidden="true">{parts}</div><ul class="live-phase-names">{words}</ul>'
    note = f"{whole:.1f} s a step, mean of the last {live.WINDOW}"
    return figure_html("Seconds by phase", note, shown, small=True)


def memory_html(config: Config, story: Story) -> str:
    """What a GPU really held against the budget. A CPU is not measured, and its plan stands at the top already."""
    peak = live.peak_gib(story)
    budget = config.memory.budget_gib
    if peak is not None:
        note = "the most that was reserved on the GPU" + (f", of {budget:g} GiB" if budget else "")
        body = meter("Peak", peak, budget or peak)
    elif config.policy.device == "cpu":
        note, body = "Planned only: on a CPU it is not measured", _planned_meters(config)
    else:
        note, body = "Measured from the first step on", ""
    return figure_html("Memory", note, body, small=True)


def _planned_meters(config: Config) -> str:
    planned = plan_on(config, Place(on_gpu=False))
    peaks = (("Generating", planned.plan.generation_peak), ("Training", planned.plan.training_peak))
    return "".join(meter(name, peak / GIB, planned.limit / GIB) for name, peak in peaks)

"""Learning curves of a run folder, results of an evaluation, and the two properties of texts, as PNGs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window, and no figure of a user's own is touched

from expo_lite.grading.scores import ADAPTER, BASE, LevelResult
from expo_lite.runs.diagnosis.evidence import Evidence, Step
from expo_lite.runs.history import validations
from expo_lite.training.metrics import SOUND


def plot_learning_curves(run: Evidence, path: Path) -> None:
    """Validation pass@1 by level, failed and rescued groups, and what became of explanations, against steps."""
    explained = [record for record in run.metrics if record.get("explanations_written")]
    figure = Figure(figsize=(15 if explained else 11, 4), layout="constrained")
    panels = figure.subplots(1, 3 if explained else 2)
    plot_levels(panels[0], validations(run.evaluations))
    plot_groups(panels[1], run.metrics)
    if explained:
        plot_explanations(panels[2], explained)
    figure.savefig(path, dpi=120)


def plot_levels(axes: Axes, scored: Mapping[int, Mapping[int, Mapping[str, Any]]]) -> None:
    """One line a level, with its interval shaded, of scores by step and level."""
    levels = sorted({level for scores in scored.values() for level in scores})
    colors = colormaps["viridis"]
    for index, level in enumerate(levels):
        steps = [step for step, scores in scored.items() if level in scores]
        estimates = [scored[step][level]["pass_at_1"] for step in steps]
        color = colors(0.9 * index / max(1, len(levels) - 1))
        axes.plot(steps, [100 * e["mean"] for e in estimates], color=color, marker=".", label=f"level {level}")
        low, high = [100 * e["low"] for e in estimates], [100 * e["high"] for e in estimates]
        axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(title="Held-out problems solved", xlabel="step", ylabel="pass@1 (%)", ylim=(-2, 102))
    axes.legend(frameon=False)


def plot_groups(axes: Axes, records: Sequence[Step]) -> None:
    """What became of each step's prompts."""
    steps = [record["step"] for record in records]
    for name, color, width in (
        ("failed_groups", "tab:red", 3),  # wide, to be seen behind the line of those that were rescued
        ("rescued_groups", "tab:green", 1.5),
        ("mixed_groups", "tab:blue", 1),
    ):
        values = [record.get(name, math.nan) for record in records]
        axes.plot(steps, values, color=color, linewidth=width, label=name.replace("_", " "))
    axes.set(title="Prompts per step", xlabel="step")
    axes.legend(frameon=False)


def plot_explanations(axes: Axes, records: Sequence[Step]) -> None:
    """The share that passes the filters and, where steps can be checked, the share of sound ones among the right."""
    accepted = [100 * (record.get("explanations_accepted") or 0) / record["explanations_written"] for record in records]
    axes.plot([record["step"] for record in records], accepted, color="tab:green", label="accepted, of those written")
    checked = [record for record in records if record.get(SOUND) is not None]
    if checked:
        sound = [100 * record[SOUND] for record in checked]
        label = "every step right, of those with a right answer"
        axes.plot([record["step"] for record in checked], sound, color="tab:purple", label=label)
    axes.set(title="Explanations (%)", xlabel="step", ylim=(-2, 102))
    axes.legend(frameon=False, loc="lower left")


def plot_results(results: Sequence[LevelResult], path: Path) -> None:
    """A panel for each k: pass@k by level, base beside adapter, with intervals."""
    ks = list(next(iter(results[0].pass_at.values())))
    size = (max(4.0, 3.6 * len(ks)), 3.6)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(ks), sharey=True, squeeze=False)
    for axes, k in zip(panels[0], ks, strict=True):
        plot_bars(axes, results, k)
    panels[0][0].set(ylabel="test problems solved (%)", ylim=(0, 105))
    figure.legend(*panels[0][0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


def plot_bars(axes: Axes, results: Sequence[LevelResult], k: int) -> None:
    """pass@k of each level and model."""
    models = list(results[0].pass_at)
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        scores = [result.pass_at[model][k] for result in results]
        below_and_above = [[100 * (e.mean - e.low) for e in scores], [100 * (e.high - e.mean) for e in scores]]
        places = [at + (number - (len(models) - 1) / 2) * width for at in range(len(results))]
        color = {BASE: "lightgray", ADAPTER: "tab:green"}[model]
        heights = [100 * e.mean for e in scores]
        axes.bar(places, heights, width * 0.95, yerr=below_and_above, color=color, label=model, error_kw={"lw": 1})
    axes.set(title=f"pass@{k}", xlabel="level", xticks=range(len(results)))
    axes.set_xticklabels([str(result.level) for result in results])


def plot_properties(rows: list[dict], path: Path) -> None:
    """Negative log-likelihood per token, and log pi(a* | q, c), by level and kind of text, from `MeanReading`s."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    (left, right) = figure.subplots(1, 2)
    plot_kinds(left, [row for row in rows if row["measure"] == "nll_nats_per_token"])
    left.set(title="How unlikely a text is without the hint", ylabel="NLL per token (nats)")
    plot_kinds(right, [row for row in rows if row["measure"] == "answer_logprob_nats"])
    right.set(title="How likely the true answer is after it", ylabel="log π(a* | q, c) (nats)")
    right.legend(*left.get_legend_handles_labels(), frameon=False, fontsize="small")
    figure.savefig(path, dpi=120)


def plot_kinds(axes: Axes, rows: list[dict]) -> None:
    """A point with its interval for each kind and level; the base hollow where the trained model stands beside it."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    sides = list(dict.fromkeys(row["side"] for row in rows))
    for number, (side, kind) in enumerate((side, kind) for side in sides for kind in kinds):
        own = [row for row in rows if (row["side"], row["kind"]) == (side, kind) and row["level"] is not None]
        means = [row["mean"] for row in own]
        reach = [[abs(row["mean"] - row[end]) for row in own] for end in ("low", "high")]
        shift = 0.08 * (number - (len(kinds) * len(sides) - 1) / 2)  # side by side, not on top of each other
        color = f"C{kinds.index(kind)}"
        face = color if side == sides[-1] else "none"
        label = f"{kind}, {side}" if len(sides) > 1 else kind
        places = [row["level"] + shift for row in own]
        axes.errorbar(places, means, reach, color=color, marker="o", linestyle="none", label=label, mfc=face)
    axes.set(xlabel="level", xticks=sorted({row["level"] for row in rows if row["level"] is not None}))

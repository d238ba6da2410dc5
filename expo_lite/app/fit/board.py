"""The answer of the tab "Will it fit?" as HTML: verdict, two stacked bars, numbers, units and forecast."""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.app.fit.answer import Fit
from expo_lite.app.text import harmless
from expo_lite.memory.forecast import assumptions, in_words, within
from expo_lite.memory.plan import GIB, MemoryPlan

PARTS = {
    "weights": "Base model",
    "adapters": "LoRA adapter",
    "optimizer": "Optimizer",
    "kv_cache": "KV cache of the rollouts",
    "sampling_copies": "Copies for sampling",
    "decoding": "Prompts and sampling",
    "gradients": "Gradients",
    "activations": "Activations",
    "logprobs": "Log-probabilities",
    "updating": "Update",
    "reserve": "CUDA context, fragmentation",
}
"""In the order of the bars; the class of a part's segment is its name."""
ROOM_FOR_LABEL = 11.0  # per cent of the bar's width
ROOM_BEYOND = 1.04


@dataclass(frozen=True)
class Bar:
    """One phase: bytes by part, which add up to its peak."""

    title: str
    parts: dict[str, int]

    @property
    def peak(self) -> int:
        """All of it."""
        return sum(self.parts.values())


def bars(plan: MemoryPlan) -> tuple[Bar, Bar]:
    """Generation and training, each at its peak."""
    return (
        _with_reserve("Generating", plan.generation_parts, plan.generation_peak),
        _with_reserve("Training", plan.training_parts, plan.training_peak),
    )


def _with_reserve(title: str, parts: dict[str, int], peak: int) -> Bar:
    return Bar(title, {**parts, "reserve": peak - sum(parts.values())})


def fit_html(fit: Fit) -> str:
    """The plan, below the verdict."""
    return f'<div class="fit">{_bars_html(fit)}{_table(fit)}{_units(fit)}{_forecast(fit)}</div>'


def error_html(sentence: str) -> str:
    """What is wrong with the settings, a line each."""
    lines = "".join(f"<p>{harmless(line)}</p>" for line in sentence.splitlines())
    return f'<div class="verdict-box unsure"><h3>Please check a value</h3>{lines}</div>'


def verdict_html(fit: Fit) -> str:
    """Whether it fits; if not, what to change."""
    if fit.refusal:
        sentence = fit.refusal.removeprefix("memory.budget_gib: ")
        return (
            '<div class="verdict-box wrong"><h3>✗ It does not fit</h3>'
            f"<p>{harmless(sentence[0].upper() + sentence[1:])}.</p></div>"
        )
    return (
        '<div class="verdict-box right"><h3>✓ It fits</h3>'
        f"<p>{harmless(fit.planned.shape.name)} uses up to {gib(fit.planned.plan.peak)} of {gib(fit.planned.limit)} "
        "usable GiB: how much is alive at once follows from the budget. There would be room for completions of "
        f"{fit.longest:,} tokens (<code>rollout.max_new_tokens</code>).</p></div>"
    )


def _bars_html(fit: Fit) -> str:
    both = bars(fit.planned.plan)
    budget = fit.planned.budget_gib * GIB
    scale = 100 / (ROOM_BEYOND * max(budget, *(bar.peak for bar in both)))
    marks = _mark("usable", fit.planned.limit * scale, f"usable {gib(fit.planned.limit)}")
    marks += _mark("budget", budget * scale, f"budget {gib(int(budget))}")
    rows = "".join(_bar_html(bar, scale, fit.planned.limit) for bar in both)
    return f'<div class="bars">{rows}<div class="limits" aria-hidden="true">{marks}</div></div>'


def _mark(kind: str, place: float, label: str) -> str:
    return f'<span class="limit {kind}" style="left:{place:.2f}%"><b>{label}</b></span>'


def _bar_html(bar: Bar, scale: float, limit: int) -> str:
    segments = "".join(
        f'<span class="seg {name}" style="width:{size * scale:.2f}%" title="{PARTS[name]}: {gib(size)} GiB">'
        f"{gib(size) if size * scale >= ROOM_FOR_LABEL else ''}</span>"
        for name, size in bar.parts.items()
        if size
    )
    told = ", ".join(f"{PARTS[name]} {gib(size)}" for name, size in bar.parts.items() if size)
    over = f' <span class="over">✗ {gib(bar.peak - limit)} too much</span>' if bar.peak > limit else ""
    return (
        f'<div class="bar-row"><p>{bar.title} <strong>{gib(bar.peak)} GiB</strong>{over}</p>'
        f'<div class="stack" role="img" aria-label="{bar.title}, {gib(bar.peak)} GiB: {told}">{segments}</div></div>'
    )


def _table(fit: Fit) -> str:
    both = bars(fit.planned.plan)
    rows = "".join(
        f'<tr><th scope="row"><i class="seg {name}"></i>{label}</th>'
        + "".join(f"<td>{gib(bar.parts[name]) if name in bar.parts else ''}</td>" for bar in both)
        + "</tr>"
        for name, label in PARTS.items()
        if any(bar.parts.get(name) for bar in both)
    )
    peaks = "".join(f"<td>{gib(bar.peak)}</td>" for bar in both)
    return (
        '<table class="parts"><thead><tr><th scope="col">GiB</th><th scope="col">Generating</th>'
        f'<th scope="col">Training</th></tr></thead><tbody>{rows}</tbody><tfoot><tr><th scope="row">Peak</th>{peaks}'
        "</tr></tfoot></table>"
    )


def _units(fit: Fit) -> str:
    units = fit.planned.units
    facts = (
        (f"{units.rollouts_alive:,}", f"rollouts alive at once, of {units.sequence_tokens:,} tokens each"),
        (f"{units.micro_batch_tokens:,}", "tokens per micro-batch in training"),
        (f"{units.logprob_chunk:,}", "tokens whose logits exist at once"),
    )
    cells = "".join(f"<div><dt>{words}</dt><dd>{number}</dd></div>" for number, words in facts)
    return f'<dl class="units">{cells}</dl>'


def _forecast(fit: Fit) -> str:
    if fit.refusal:
        return '<p class="forecast">There is a forecast of the hours once it fits.</p>'
    if fit.seconds is None:
        return '<p class="forecast">Choose a card for a forecast of the hours.</p>'
    rows = "".join(
        f'<tr><th scope="row">{harmless(part.name)}</th><td>{in_words(part.seconds)}</td>'
        f"<td>{harmless(part.how)}</td></tr>"
        for part in fit.seconds.parts
    )
    return (
        f'<p class="forecast">On the {harmless(str(fit.asked.card))}: about <strong>{fit.hours:.1f} h</strong> for '
        f"{fit.config.steps:,} steps, {within()}.</p>"
        '<table class="parts hours"><thead><tr><th scope="col">Part</th><th scope="col">Time</th>'
        f'<th scope="col">Counted as</th></tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="forecast">{harmless(assumptions(fit.config))} {harmless(fit.spare)}</p>'
    )


def gib(size: float) -> str:
    """Bytes in GiB."""
    return f"{size / GIB:.2f}"

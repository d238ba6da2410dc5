"""The Train tab's views as HTML: pure functions of what a run has recorded. Text of models goes through `app.text`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from expo_lite.app.chart import meter
from expo_lite.app.run_list import titled
from expo_lite.app.text import harmless, with_math
from expo_lite.app.train import live
from expo_lite.app.train.choice import Prepared
from expo_lite.app.train.live import FeedPage, Prompt, Story
from expo_lite.config.settings import Config
from expo_lite.core.records import why_rejected
from expo_lite.memory.plan import GIB

LONGEST_TEXT = 1200
"""Characters of an attempt or explanation; a feed is no archive."""


@dataclass(frozen=True)
class Standing:
    """Where a run is: its name and settings, and what its process and its status file say together.

    `state` is starting, running, stopping, finished, stopped, failed, or lost (the process is gone without a word).
    """

    name: str
    state: str
    config: Config | None
    last_words: str = ""

    @property
    def title(self) -> str:
        """Its name, with its method once it has said what it is."""
        return titled(self.name, self.config) if self.config else self.name

    @property
    def is_active(self) -> bool:
        """Whether a process works on it."""
        return self.state in ("starting", "running", "stopping")

    @property
    def can_resume(self) -> bool:
        """Whether it has a folder to go on from, and something left to do."""
        return self.config is not None and self.state in ("stopped", "failed", "lost")


# --------------------------------------------------------------------------------------------------------------- plan


def plan_html(prepared: Prepared, held: float = 0.0) -> str:
    """What the preset is for, and its two memory peaks against the usable part of the budget.

    `held` is what this app itself keeps on the GPU, in GiB.
    """
    planned, plan = prepared.planned, prepared.planned.plan
    where = "GPU" if planned.workload.on_gpu else "CPU"
    usable = planned.limit / GIB
    bars = "".join(
        meter(name, peak / GIB, usable)
        for name, peak in (("Generating", plan.generation_peak), ("Training", plan.training_peak))
    )
    units = harmless(str(planned.units))
    refusal = (
        f'<p class="live-refusal"><strong>Cannot run here.</strong> {harmless(prepared.refusal)}</p>'
        if prepared.refusal
        else ""
    )
    return (
        f'<div class="live-plan"><p class="about">{harmless(prepared.summary)}</p>{refusal}'
        f"<h3>Memory plan: {usable:.2f} of {prepared.planned.budget_gib:g} GiB on the {where} may be used</h3>"
        f'<div class="peaks">{bars}</div>'
        f'<p class="units">{units[0].upper()}{units[1:]}. {room(prepared, held)}</p></div>'
    )


def command_html(command: str, name: str = "") -> str:
    """The command line with a button to copy it: what Start would run, or what has begun under that name."""
    title = f"The command that runs {harmless(name)}" if name else "The command that Start runs"
    words = " ".join(f"<span>{harmless(word)}</span>" for word in command.split(" "))
    return (
        f'<div class="live-command"><div><span>{title}</span><button type="button">Copy</button></div>'
        f'<pre tabindex="0" role="group" aria-label="{title}"><code>{words}</code></pre></div>'
    )


def room(prepared: Prepared, held: float = 0.0) -> str:
    """Whether it fits, also beside the model that this app keeps on the same GPU (`held` GiB)."""
    if not prepared.planned.fits:
        return "It does not fit."
    if prepared.card is None or not held:
        return "It fits."
    free = prepared.card - held
    beside = f"Compare's model holds {held:.1f} of this GPU's {prepared.card:.1f} GiB"
    if prepared.planned.plan.peak / GIB > free:
        return f"It fits alone, but {beside}, and the rest is too little: end the app, and train from a terminal."
    return f"It fits: {beside}, and {free:.1f} GiB are left."


# ----------------------------------------------------------------------------------------------------------- progress


def progress_html(standing: Standing | None, story: Story) -> str:
    """Where the run is, in words and as a bar, with the numbers that matter."""
    if standing is None:
        return (
            '<div class="live-run empty"><p>No run yet. Press Start, and watch the hard levels climb from 0.</p></div>'
        )
    steps = standing.config.steps if standing.config else 0
    share = 100 * story.step / steps if steps else 0
    head = f'<div class="live-run-head"><h3>{harmless(standing.title)}</h3><p>{sentence(standing, story)}</p></div>'
    kind = "waiting" if standing.is_active and not story.metrics else standing.state
    bar = (
        f'<div class="live-bar {kind}" role="progressbar" aria-label="Steps done" aria-valuemin="0" '
        f'aria-valuemax="{steps}" aria-valuenow="{story.step}"><i style="width:{share:.1f}%"></i></div>'
    )
    words = f'<pre class="last-words">{harmless(standing.last_words)}</pre>' if standing.last_words else ""
    return f'<div class="live-run">{head}{bar}{_numbers(standing, story) if story.metrics else ""}{words}</div>'


def sentence(standing: Standing, story: Story) -> str:
    """One sentence on where the run stands."""
    if standing.config is None and not standing.is_active:
        stopped = standing.state == "stopped"
        return (
            "Stopped before it began; nothing was kept." if stopped else "It could not start. Its last words are below."
        )
    steps = standing.config.steps if standing.config else 0
    done = f"step {story.step} of {steps}"
    if standing.state in ("starting", "running") and not story.metrics:
        return _beginning(standing, story)
    if standing.state == "running" and story.step >= steps:
        return f"All {steps} steps are done; testing on held-out problems."
    left = live.seconds_left(story, steps)
    remaining = f", {duration(left)} left" if left else ""
    return {
        "starting": f"Loading the model, to go on after {done}",
        "running": f"Training: {done}{remaining}",
        "stopping": f"Stopping: {done}; it saves after the step under way",
        "finished": f"Finished: {done}. Compare shows what it learned",
        "stopped": f"Stopped after {done}; saved, and ready to be resumed",
        "failed": f"Failed after {done}. Its last words are below",
        "lost": f"Ended without a word after {done}. Its last words are below",
    }[standing.state] + "."


def _beginning(standing: Standing, story: Story) -> str:
    """What goes on before the first step."""
    if standing.state == "starting":
        return "Loading the model."
    scored = {str(score.get("name")) for score in story.scores}
    return "At the first step." if "base_test" in scored else "Scoring the base on held-out problems."


def duration(seconds: float) -> str:
    """About how long, as a person says it."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


def _numbers(standing: Standing, story: Story) -> str:
    source = standing.config.explanation.source if standing.config else "self"
    failed, rescued = live.total(story, "failed_groups"), live.total(story, "rescued_groups")
    learned = {"self": "rescued by an explanation", "expert": "rescued by the data's solution"}
    fate = (
        f"<b>{rescued}</b> {learned[source]}"
        if source in learned
        else "<b>0</b> rescued: GRPO learns nothing from them"
    )
    reward = live.averaged(story, "reward_mean")[-1][1]
    return (
        f'<ul class="live-numbers"><li><b>{failed}</b> times every attempt failed</li><li>{fate}</li>'
        f"<li><b>{reward:.2f}</b> reward now</li></ul>"
    )


# --------------------------------------------------------------------------------------------------------------- feed


def feed_html(shown: Sequence[Prompt], source: str) -> str:
    """Failed problems with what became of them; each a block of its own, so that only what is new is drawn."""
    return "\n\n".join(_rescue(prompt, source) for prompt in shown)


def feed_title_html(page: FeedPage, source: str) -> str:
    """What the problems of the feed have in common, and which of them are shown; nothing where there are none."""
    if not page.prompts:
        return ""
    if page.prompts[0].rescuer is None:
        title = "Not rescued: every attempt failed" + (
            ", so GRPO had nothing to learn from" if source == "none" else ""
        )
    else:
        teacher = "the data's solution" if source == "expert" else "an explanation"
        title = f"Rescued: every attempt failed, {teacher} taught the way"
    last = page.place + len(page.prompts) - 1
    count = f"{page.place}\N{EN DASH}{last} of {'the newest ' if page.is_cut else ''}{page.total:,}, newest first"
    return f'<div class="feed-title"><h3>{title}</h3><p>{count}</p></div>'


def _rescue(prompt: Prompt, source: str) -> str:
    head = (
        f'<div class="rescue-head"><strong>{with_math(_short(prompt.question))}</strong>'
        f"<span>answer {with_math(_short(prompt.answer))} · level {prompt.level} · step {prompt.step}</span></div>"
    )
    cells = _cell("wrong", "✗ One of its wrong attempts", prompt.attempt)
    if prompt.rescuer is not None:
        whose = "Its own explanation" if source == "self" else "The data's solution"
        cells += _cell("right", f"✓ {whose}, learned from", prompt.rescuer)
    cells += "".join(_turned_down(reason, texts) for reason, texts in _by_reason(prompt).items())
    return f'<div class="rescue">{head}<div class="live-cells">{cells}</div></div>'


def _by_reason(prompt: Prompt) -> dict[str, list[str]]:
    """The explanations that were turned down."""
    found: dict[str, list[str]] = defaultdict(list)
    for reason, text in prompt.rejected:
        found[reason].append(text)
    return found


def _turned_down(reason: str, texts: Sequence[str]) -> str:
    """The first explanation turned down for a reason, and how many there are; the others fold away."""
    first, *others = texts
    count = f" ({len(texts)})" if others else ""
    return _cell("rejected", f"– Turned down: {harmless(why_rejected(reason))}{count}", first, _folded(others))


def _folded(texts: Sequence[str]) -> str:
    shown = "".join(f'<div class="text">{with_math(_short(text))}</div>' for text in texts)
    return f"<details><summary>{len(texts)} more</summary>{shown}</details>" if texts else ""


def _cell(kind: str, title: str, text: str, more: str = "") -> str:
    shown = f'<div class="text">{with_math(_short(text))}</div>'
    return f'<div class="live-cell {kind}"><h4>{title}</h4>{shown}{more}</div>'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"

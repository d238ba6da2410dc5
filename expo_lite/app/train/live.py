"""What a run has recorded so far, read while it is being written, and its curves. Imports neither torch nor gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.history import Tail, validation_curves

PHASES = ("generate", "verify", "explain", "train")
WINDOW = 5
"""Steps that a live curve is averaged over: one step holds too few problems of a level."""
MOST_KEPT = 500
"""Newest failed problems whose texts are kept for the feed."""
SHOWN = 3
"""Problems on one page of the feed."""
NEWEST = 0
"""The page of the feed that follows the run."""
SECONDS_TO_READ = 6.0
"""The feed stays as it is for about so long."""

Points = list[tuple[float, float]]


@dataclass
class Prompt:
    """A problem that failed in a step: a wrong attempt, and the explanations of its answer."""

    step: int
    question: str
    answer: str
    level: int
    attempt: str
    explanations: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def rescuer(self) -> str | None:
        """The explanation that was trained on."""
        return next((str(e["text"]) for e in self.explanations if e.get("trained")), None)

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """Reason and text of each explanation that was turned down."""
        return [(str(e["rejected"]), str(e["text"])) for e in self.explanations if e.get("rejected")]


@dataclass
class Story:
    """A run's records. `passed` holds, by level and step, the sum of problems' pass rates, and their number.

    `failed` are the newest MOST_KEPT problems that failed, by step and problem, in the order of the steps.
    """

    metrics: list[Mapping[str, Any]] = field(default_factory=list)
    scores: list[Mapping[str, Any]] = field(default_factory=list)
    passed: dict[int, dict[int, tuple[float, int]]] = field(default_factory=dict)
    failed: dict[tuple[int, str], Prompt] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The last complete step."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0


class Follower:
    """Reads a run's growing files; `look` gives the story so far. For one thread at a time, which holds `turn`."""

    def __init__(self, run: RunDir) -> None:
        self.turn = Lock()
        self._run = run
        self._begin()

    def _begin(self) -> None:
        self.story = Story()
        # a damaged line is the run's to report
        self._tails = {name: Tail(self._run.path / name, skips_damaged=True) for name in (METRICS, SAMPLES, EVAL)}

    def look(self) -> Story:
        """Read what is new; from the start where a resumed run has dropped its last records."""
        if not all(tail.goes_on() for tail in self._tails.values()):
            self._begin()
        self.story.metrics += self._tails[METRICS].new()
        self.story.scores += self._tails[EVAL].new()
        for record in self._tails[SAMPLES].new():
            with suppress(KeyError, TypeError, ValueError):  # another version's record
                _add_sample(self.story, record)
        return self.story


def _add_sample(story: Story, record: Mapping[str, Any]) -> None:
    step, problem = int(record["step"]), str(record["problem"])
    if record["kind"] == "explanation":
        if (prompt := story.failed.get((step, problem))) is not None:
            prompt.explanations.append(record)
        return
    level, rate = int(record["level"]), float(record["pass_rate"])
    if record["group"] == "failed":
        question, answer, text = (str(record[name]) for name in ("question", "answer", "text"))
        story.failed[step, problem] = Prompt(step, question, answer, level, text)
        if len(story.failed) > MOST_KEPT:
            del story.failed[next(iter(story.failed))]
    passed, tried = story.passed.setdefault(level, {}).get(step, (0.0, 0))
    story.passed[level][step] = (passed + rate, tried + 1)


# ------------------------------------------------------------------------------------------------------------- curves


def passed_by_level(story: Story) -> dict[int, Points]:
    """By level: the share of right attempts at the problems of the last WINDOW steps."""
    curves = {}
    for level, by_step in sorted(story.passed.items()):
        points: Points = []
        for step in sorted(by_step):
            recent = [by_step[s] for s in range(step - WINDOW + 1, step + 1) if s in by_step]
            points.append((step, sum(passed for passed, _ in recent) / sum(tried for _, tried in recent)))
        curves[level] = points
    return curves


def held_out_by_level(story: Story) -> dict[int, Points]:
    """By level: pass@1 on validation problems; step 0 is the base."""
    curves: dict[int, Points] = {}
    for step, shares in validation_curves(story.scores).items():
        for level, share in shares.items():
            curves.setdefault(level, []).append((step, share))
    return dict(sorted(curves.items()))


def averaged(story: Story, name: str) -> Points:
    """A metric over steps, each the mean of the last WINDOW."""
    values = [(float(m["step"]), float(m[name])) for m in story.metrics if m.get(name) is not None]
    windows = (values[max(0, end - WINDOW) : end] for end in range(1, len(values) + 1))
    return [(window[-1][0], sum(value for _, value in window) / len(window)) for window in windows]


def total(story: Story, name: str) -> int:
    """A count over the whole run."""
    return int(sum(m.get(name) or 0 for m in story.metrics))


def seconds_by_phase(story: Story) -> dict[str, float]:
    """Mean seconds of each phase in the last WINDOW steps; empty before the first."""
    recent = story.metrics[-WINDOW:]
    return {p: sum(m.get(f"{p}_seconds") or 0.0 for m in recent) / len(recent) for p in PHASES} if recent else {}


def seconds_left(story: Story, steps: int) -> float | None:
    """Until the last step, if the next ones take as long as the last; None before the first."""
    phases = seconds_by_phase(story)
    return sum(phases.values()) * max(0, steps - story.step) if phases else None


def peak_gib(story: Story) -> float | None:
    """The most that was reserved on the GPU so far; None on a CPU."""
    peaks = [float(m["peak_reserved_gib"]) for m in story.metrics if m.get("peak_reserved_gib") is not None]
    return max(peaks, default=None)


# --------------------------------------------------------------------------------------------------------------- feed


@dataclass(frozen=True)
class FeedPage:
    """Some failed problems, newest first: the first is number `place` of `total`.

    Where `is_cut`, only the newest are kept. `newer` and `older` name the pages beside it, None where there is none.
    """

    prompts: Sequence[Prompt] = ()
    place: int = 0
    total: int = 0
    is_cut: bool = False
    newer: int | None = None
    older: int | None = None


def feed(story: Story, running: bool, page: int = NEWEST) -> FeedPage:
    """A page of the rescued problems; where none was rescued, of those that failed.

    A page is named by how many problems there are up to its first, from the oldest on: it stays what it is while
    newer ones come. NEWEST moves only every few seconds while the run goes on, so that it can be read.
    """
    rescued = [prompt for prompt in story.failed.values() if prompt.rescuer is not None]
    found = sorted(rescued or story.failed.values(), key=lambda prompt: (prompt.step, *_tells(prompt)))
    held = _held(story, running)
    total = sum(prompt.step <= held for prompt in found)
    top = min(page, total) or total
    above = top + SHOWN if top + SHOWN < total else NEWEST
    return FeedPage(
        prompts=found[max(0, top - SHOWN) : top][::-1],
        place=total - top + 1,
        total=total,
        is_cut=len(story.failed) == MOST_KEPT,
        newer=above if top < total else None,
        older=top - SHOWN if top > SHOWN else None,
    )


def _held(story: Story, running: bool) -> int:
    """The step that the feed has come to."""
    last, pace = story.step, sum(seconds_by_phase(story).values())
    if running and pace > 0:
        hold = max(1, round(SECONDS_TO_READ / pace))
        last = max(last - last % hold, min((step for step, _ in story.failed), default=0))
    return last


def _tells(prompt: Prompt) -> tuple[bool, int]:
    """What makes a prompt worth showing first of its step: the filters had work, it is hard."""
    return bool(prompt.rejected), prompt.level

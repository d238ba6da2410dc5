"""Scores and records of all trainings -> report.md, report.json and report.png."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from expo_lite import __version__, files
from expo_lite.comparing.pictures import plot_comparison
from expo_lite.comparing.trials import Trial
from expo_lite.comparing.variants import STANDARD, Variant
from expo_lite.intervals import paired_difference, seed_and_problem_interval
from expo_lite.memory.speed import in_words
from expo_lite.results import ADAPTER, BASE, signed

Counts = dict[int, npt.NDArray[np.int64]]
"""Right answers by level, (R seeds, P problems)."""


@dataclass(frozen=True)
class Line:
    """One line of a table: a variant with all its seeds."""

    title: str
    trials: list[Trial]

    @cached_property
    def counts(self) -> Counts:
        """The adapters' right answers."""
        return stacked([read_counts(trial.scores, ADAPTER) for trial in self.trials])

    def mean(self, name: str) -> float | None:
        """A number of the trials' outcomes, averaged over seeds; None where none has it."""
        values = [value for trial in self.trials if (value := getattr(trial.outcome, name)) is not None]
        return float(np.mean(values)) if values else None


def write_report(
    given: argparse.Namespace,
    searched: Mapping[str, Sequence[Trial]],
    equal_steps: Mapping[Variant, list[Trial]],
    equal_tokens: Mapping[Variant, list[Trial]],
    changed: Mapping[Variant, list[Trial]],
) -> None:
    """Write the three files into `given.to`."""
    first = next(iter(equal_steps.values()))[0]
    base = stacked([read_counts(first.scores, BASE)])
    tables = {
        name: [Line(variant.title, trials) for variant, trials in of_table.items()]
        for name, of_table in (("steps", equal_steps), ("tokens", equal_tokens), ("ablations", changed))
    }
    text = "\n".join(
        [
            heading(given, first),
            *score_tables(given, base, tables["steps"], "after equal steps"),
            *score_tables(given, base, tables["tokens"], "after equal generated tokens"),
            differences(given, equal_steps, base),
            costs(tables["steps"], base, given),
            rates(searched),
            *(ablation_table(given, tables["ablations"]) if changed else []),
        ]
    )
    files.write_text(given.to / "report.md", text)
    files.write_text(given.to / "report.json", files.to_json(record(given, tables, base, searched), indent=1) + "\n")
    plot_comparison(tables["steps"], base, given.samples, given.k, given.to / "report.png")


def read_counts(folder: Path, model: str) -> dict[int, list[int]]:
    """Right answers of each problem by level, as an evaluation left them."""
    out: dict[int, list[int]] = {}
    for answered in files.read_jsonl(folder / "answers.jsonl"):
        if answered["model"] == model:
            out.setdefault(answered["level"], []).append(answered["correct"])
    return out


def stacked(of_seeds: Sequence[dict[int, list[int]]]) -> Counts:
    """Counts by level with a row per seed."""
    return {level: np.array([of_seed[level] for of_seed in of_seeds]) for level in sorted(of_seeds[0])}


def heading(given: argparse.Namespace, trial: Trial) -> str:
    """What was done, and how to do it again."""
    config = trial.outcome.config
    return (
        f"# Comparison on {config.data.source} with {config.policy.model}\n\n"
        f"    {shlex.join(['python', '-m', 'expo_lite.compare', *sys.argv[1:]])}\n\n"
        f"ExPO-Lite {__version__}. {len(set(given.seeds))} seeds; {trial.steps} steps of "
        f"{config.rollout.prompts_per_step} problems and {config.rollout.group_size} rollouts. The same "
        "problems in the same order for every method. Scores: the adapter that was best on validation, "
        f"{given.problems} test problems a level, {given.samples} answers each at temperature "
        f"{config.rollout.temperature:g}; per cent, with 95 % intervals over seeds and problems.\n\n"
        "![Learning curves and scores](report.png)\n"
    )


def score_tables(given: argparse.Namespace, base: Counts, lines: Sequence[Line], when: str) -> list[str]:
    """pass@k and pass@1 by level."""
    out = []
    for k in dict.fromkeys((given.k, 1)):
        rows = [["base", *cells(base, given.samples, k), "0", "0"]]
        for line in lines:
            steps = np.mean([trial.steps for trial in line.trials])
            tokens = line.mean("generated_tokens") or 0
            rows.append([line.title, *cells(line.counts, given.samples, k), f"{steps:.0f}", f"{tokens / 1000:.0f}k"])
        out.append(f"## pass@{k} {when}\n\n" + markdown([f"pass@{k} (%)", *levels(base), "steps", "tokens"], rows))
    return out


def differences(given: argparse.Namespace, trials: Mapping[Variant, list[Trial]], base: Counts) -> str:
    """Each method minus each other, in pairs of the same seed and problem."""
    lines = {variant: Line(variant.title, of_variant) for variant, of_variant in trials.items()}
    rows = []
    for number, (variant, line) in enumerate(lines.items()):
        for other, other_line in list(lines.items())[:number]:
            paired = [
                signed(paired_difference(line.counts[n], other_line.counts[n], given.samples, given.k)) for n in base
            ]
            rows.append([f"{variant.title} − {other.title}", *paired])
    if not rows:
        return ""
    return f"## Differences of pass@{given.k}, paired, after equal steps\n\n" + markdown(["", *levels(base)], rows)


def costs(lines: Sequence[Line], base: Counts, given: argparse.Namespace) -> str:
    """What the trainings took, and what became of the prompts."""
    rows = []
    for line in lines:
        rows.append(
            [
                line.title,
                in_words(line.mean("seconds") or 0),
                per_cent(line.mean("taught_nothing_share")),
                per_cent(line.mean("rescued_share")),
                per_cent(line.mean("wrong_steps_share")),
                f"{100 * forgetting(line.counts, base, given.samples):.0f}",
            ]
        )
    head = ["", "time", "taught nothing", "rescued", "wrong step", "forgetting"]
    legend = (
        "Time of training, without validation. Taught nothing: prompts without signal, and without an explanation "
        "trained on. Rescued: failed prompts with one. Wrong step: explanations trained on whose answer is right and a "
        "step is not (known for the tiny world only). All in per cent. Forgetting: the most that a level's pass@1 lies "
        "below the base's, in points."
    )
    return f"## What it took\n\n{markdown(head, rows)}\n{legend}\n"


def forgetting(counts: Counts, base: Counts, samples: int) -> float:
    """The most that a level's pass@1 lies below the base's; 0 where none does."""
    return max(0.0, *(float(base[level].mean() - counts[level].mean()) / samples for level in base))


def rates(searched: Mapping[str, Sequence[Trial]]) -> str:
    """Validation pass@1 of the first seed by learning rate."""
    named = [trial.rate for trial in next(iter(searched.values()))]
    rows = []
    for name, trials in searched.items():
        best = max(trial.outcome.validation for trial in trials)
        shown = [f"{100 * trial.outcome.validation:.1f}" for trial in trials]
        first = next(i for i, trial in enumerate(trials) if trial.outcome.validation == best)
        shown[first] = f"**{shown[first]}**"
        rows.append([name, *shown])
    return "## Learning rates\n\nValidation pass@1 (%), mean over levels, best step, first seed.\n\n" + markdown(
        ["", *(f"{rate:g}" for rate in named)], rows
    )


def ablation_table(given: argparse.Namespace, lines: Sequence[Line]) -> list[str]:
    """ExP-GRPO and its ablations: pass@1 on the two hardest levels, the difference, and the cost."""
    standard = lines[0]
    hardest = list(standard.counts)[-2:]
    rows = []
    for line in lines:
        scores = [str(seed_and_problem_interval(line.counts[n], given.samples, 1)) for n in hardest]
        change = [signed(paired_difference(line.counts[n], standard.counts[n], given.samples, 1)) for n in hardest]
        rest = [list(line.counts)[:-2], list(standard.counts)[:-2]]
        easier = float(np.mean([line.counts[n].mean() for n in rest[0]])) / given.samples if rest[0] else float("nan")
        tokens, seconds = line.mean("generated_tokens") or 0, line.mean("seconds") or 0
        wrong = per_cent(line.mean("wrong_steps_share"))
        changes = ["", ""] if line is standard else change
        rows.append(
            [line.title, *scores, *changes, f"{100 * easier:.0f}", wrong, f"{tokens / 1000:.0f}k", in_words(seconds)]
        )
    names = [f"L{n}" for n in hardest]
    head = ["", *names, *(f"{name} − standard" for name in names), "easier levels", "wrong step", "tokens", "seconds"]
    return [f"## {STANDARD} with one setting changed: pass@1 (%)\n\n" + markdown(head, rows)]


def record(
    given: argparse.Namespace,
    tables: Mapping[str, Sequence[Line]],
    base: Counts,
    searched: Mapping[str, Sequence[Trial]],
) -> dict[str, Any]:
    """The same as plain values, with the scores of every seed."""

    def estimates(counts: Counts) -> dict[str, dict[str, Any]]:
        return {
            f"pass_at_{k}": {str(n): asdict(seed_and_problem_interval(counts[n], given.samples, k)) for n in counts}
            for k in dict.fromkeys((1, given.k))
        }

    def of_line(line: Line) -> dict[str, Any]:
        seeds = {
            str(trial.seed): {
                "rate": trial.rate,
                "steps": trial.steps,
                "pass_at_1": {str(n): float(line.counts[n][row].mean() / given.samples) for n in line.counts},
                **{name: value for name, value in asdict(trial.outcome).items() if name != "config"},
            }
            for row, trial in enumerate(line.trials)
        }
        return {**estimates(line.counts), "seeds": seeds}

    return {
        "version": __version__,
        "base": estimates(base),
        **{name: {line.title: of_line(line) for line in lines} for name, lines in tables.items()},
        "validation_by_rate": {
            name: {f"{trial.rate:g}": trial.outcome.validation for trial in trials} for name, trials in searched.items()
        },
    }


def cells(counts: Counts, samples: int, k: int) -> list[str]:
    """pass@k of each level in words."""
    return [str(seed_and_problem_interval(counts[level], samples, k)) for level in counts]


def levels(base: Counts) -> list[str]:
    """Names of the levels."""
    return [f"L{level}" for level in base]


def per_cent(share: float | None) -> str:
    """A share in per cent, or a dash."""
    return "–" if share is None else f"{100 * share:.1f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))

"""Scores and records of all trainings -> report.md, report.json and report.png."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from expo_lite import __version__
from expo_lite.grading.intervals import seed_and_problem_interval
from expo_lite.runs import files
from expo_lite.studies.methods.lines import Counts, Lines, VariantLine
from expo_lite.studies.methods.pictures import plot_comparison
from expo_lite.studies.methods.request import StudyRequest
from expo_lite.studies.methods.tables import all_tables, paired_differences
from expo_lite.studies.methods.trials import StudyTrials


def write_report(asked: StudyRequest, trained: StudyTrials) -> None:
    """Write the three files into `asked.to`."""
    lines = Lines.of(trained)
    text = "\n".join([heading(asked, lines), *all_tables(asked, lines, trained.searched)])
    files.write_text(asked.to / "report.md", text)
    files.write_text(asked.to / "report.json", files.to_json(record(asked, lines, trained), indent=1) + "\n")
    plot_comparison(lines.steps, lines.base, asked.samples, asked.k, asked.to / "report.png")


def heading(asked: StudyRequest, lines: Lines) -> str:
    """What was done, and how to do it again."""
    config = asked.config
    problems = max(counts.shape[1] for counts in lines.base.values())
    seeds = "1 seed" if len(asked.seeds) == 1 else f"{len(asked.seeds)} seeds"
    over = "problems" if len(asked.seeds) == 1 else "seeds and problems"
    return (
        f"# Comparison on {config.data.source} with {config.policy.model}\n\n"
        f"    {shlex.join(['expo-lite', 'study', *asked.words])}\n\n"
        f"ExPO-Lite {__version__}. {seeds}; {asked.steps} steps of "
        f"{config.rollout.prompts_per_step} problems and {config.rollout.group_size} rollouts. The same "
        "problems in the same order for every method. Scores: the adapter that was best on validation, "
        f"{problems} test problems a level, {asked.samples} answers each at temperature "
        f"{config.rollout.temperature:g}; per cent, with 95 % intervals over {over}.\n\n"
        "![Learning curves and scores](report.png)\n"
    )


def record(asked: StudyRequest, lines: Lines, trained: StudyTrials) -> dict[str, Any]:
    """The same as plain values, with the scores of every seed."""
    tables = {"steps": lines.steps, "tokens": lines.tokens, "ablations": lines.ablations}
    return {
        "version": __version__,
        "base": _estimates(asked, lines.base),
        **{name: {line.title: _of_line(asked, line) for line in of_table} for name, of_table in tables.items()},
        "differences": {
            name: {
                pair: {str(level): asdict(estimate) for level, estimate in by_level.items()}
                for pair, by_level in paired_differences(asked, of_table).items()
            }
            for name, of_table in (("steps", lines.steps), ("tokens", lines.tokens))
        },
        "validation_by_rate": {
            variant.name: {f"{trial.rate:g}": trial.outcome.validation for trial in trials}
            for variant, trials in trained.searched.items()
        },
    }


def _estimates(asked: StudyRequest, counts: Counts) -> dict[str, dict[str, Any]]:
    return {
        f"pass_at_{k}": {str(n): asdict(seed_and_problem_interval(counts[n], asked.samples, k)) for n in counts}
        for k in asked.ks[::-1]
    }


def _of_line(asked: StudyRequest, line: VariantLine) -> dict[str, Any]:
    seeds = {
        str(trial.seed): {
            "rate": trial.rate,
            "steps": trial.steps,
            "pass_at_1": {str(n): float(line.counts[n][row].mean() / asked.samples) for n in line.counts},
            **{name: value for name, value in asdict(trial.outcome).items() if name != "config"},
        }
        for row, trial in enumerate(line.trials)
    }
    return {**_estimates(asked, line.counts), "seeds": seeds}

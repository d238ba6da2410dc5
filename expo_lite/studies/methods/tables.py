"""The tables of a report, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from expo_lite.config.methods import METHODS
from expo_lite.core.tables import TextTable
from expo_lite.grading.intervals import Estimate, paired_difference, seed_and_problem_interval
from expo_lite.grading.scores import signed
from expo_lite.memory.forecast import in_words
from expo_lite.studies.methods.lines import Counts, Lines, VariantLine, forgetting
from expo_lite.studies.methods.request import StudyRequest
from expo_lite.studies.methods.trials import Trial
from expo_lite.studies.methods.variants import STANDARD, Variant

HARDEST = 2  # levels that ablations are looked at on


def score_tables(asked: StudyRequest, base: Counts, lines: Sequence[VariantLine], when: str) -> list[str]:
    """pass@k and pass@1 by level."""
    out = []
    for k in asked.ks:
        rows = [["base", *_scores(base, asked.samples, k), "0", "0"]]
        rows += [
            [line.title, *_scores(line.counts, asked.samples, k), f"{line.steps:.0f}", _tokens(line)] for line in lines
        ]
        head = [f"pass@{k} (%)", *_levels(base), "steps", "tokens"]
        out.append(TextTable(f"pass@{k} {when}", head, rows).section())
    return out


def differences(asked: StudyRequest, lines: Sequence[VariantLine], when: str) -> str:
    """The same as a table."""
    rows = [[name, *map(signed, by_level.values())] for name, by_level in paired_differences(asked, lines).items()]
    table = TextTable(f"Differences of pass@{asked.k}, paired, {when}", ["", *_levels(lines[0].counts)], rows)
    note = "Each interval stands for itself; of many, some miss by chance."
    return f"{table.section()}\n{note}\n" if rows else ""


def paired_differences(asked: StudyRequest, lines: Sequence[VariantLine]) -> dict[str, dict[int, Estimate]]:
    """pass@k by level of each method minus each one above it, in pairs of the same seed and problem."""
    pairs = sorted(combinations(range(len(lines)), 2), key=lambda pair: pair[::-1])
    return {
        f"{lines[lower].title} − {lines[upper].title}": {
            level: paired_difference(counts, lines[upper].counts[level], asked.samples, asked.k)
            for level, counts in lines[lower].counts.items()
        }
        for upper, lower in pairs
    }


def costs(asked: StudyRequest, lines: Sequence[VariantLine], base: Counts) -> str:
    """What the trainings took, and what became of the prompts."""
    shares = ("taught_nothing_share", "rescued_share", "wrong_steps_share")
    rows = [
        [
            line.title,
            in_words(line.mean("seconds") or 0),
            *(_per_cent(line.mean(name)) for name in shares),
            f"{100 * forgetting(line.counts, base, asked.samples):.0f}",
        ]
        for line in lines
    ]
    head = ["", "time", "taught nothing", "rescued", "wrong step", "forgetting"]
    legend = (
        "Time of training, without validation. Taught nothing: prompts without signal, and without an explanation "
        "trained on. Rescued: failed prompts with one. Wrong step: explanations trained on whose answer is right and a "
        "step is not (known for sums only). All in per cent. Forgetting: the most that a level's pass@1, "
        "its mean over seeds, lies below the base's, in points."
    )
    return f"{TextTable('What it took', head, rows).section()}\n{legend}\n"


def rates(asked: StudyRequest, searched: Mapping[Variant, Sequence[Trial]]) -> str:
    """Validation pass@1 of the first seed by learning rate; the chosen one is bold, and marked at the grid's end."""
    rows = []
    for variant, trials in searched.items():
        found = [trial.outcome.validation for trial in trials]
        shown = [f"{100 * value:.1f}" for value in found]
        best = found.index(max(found))
        at_the_end = len(found) > 1 and best in (0, len(found) - 1)
        shown[best] = f"**{shown[best]}**" + (" (end of the grid)" if at_the_end else "")
        rows.append([variant.title, *shown])
    head = ["", *(f"{rate:g}" for rate in asked.rates)]
    about = "Validation pass@1 (%), mean over levels, best step, first seed (which counts among the seeds above, too)."
    return f"## Learning rates\n\n{about}\n\n{TextTable('', head, rows).markdown()}"


def ablation_table(asked: StudyRequest, lines: Sequence[VariantLine]) -> str:
    """ExP-GRPO and its ablations: pass@1 on the hardest levels, the difference, and the cost."""
    standard = lines[0]
    levels = list(standard.counts)
    names = [f"L{n}" for n in levels[-HARDEST:]]
    rows = [_ablation(asked, line, standard, levels) for line in lines]
    changes = [f"{name} − standard" for name in names]
    head = ["", *names, *changes, "easier levels", "wrong step", "tokens", "time"]
    return TextTable(f"{METHODS[STANDARD].title} with one setting changed: pass@1 (%)", head, rows).section()


def _ablation(asked: StudyRequest, line: VariantLine, standard: VariantLine, levels: Sequence[int]) -> list[str]:
    hardest, easier = levels[-HARDEST:], levels[:-HARDEST]
    scores = _scores({n: line.counts[n] for n in hardest}, asked.samples, 1)
    paired = [paired_difference(line.counts[n], standard.counts[n], asked.samples, 1) for n in hardest]
    changes = ["" for _ in hardest] if line is standard else map(signed, paired)
    rest = float(np.mean([line.counts[n].mean() for n in easier])) / asked.samples if easier else None
    wrong, time = _per_cent(line.mean("wrong_steps_share")), in_words(line.mean("seconds") or 0)
    return [line.title, *scores, *changes, _per_cent(rest, 0), wrong, _tokens(line), time]


def all_tables(asked: StudyRequest, lines: Lines, searched: Mapping[Variant, Sequence[Trial]]) -> list[str]:
    """Every table, in the order of the report."""
    found = [
        *score_tables(asked, lines.base, lines.steps, "after equal steps"),
        *score_tables(asked, lines.base, lines.tokens, "after equal generated tokens"),
        differences(asked, lines.steps, "after equal steps"),
        differences(asked, lines.tokens, "after equal generated tokens"),
        costs(asked, lines.steps, lines.base),
        rates(asked, searched),
        ablation_table(asked, lines.ablations) if lines.ablations else "",
    ]
    return [table for table in found if table]


def _scores(counts: Counts, samples: int, k: int) -> list[str]:
    return [str(seed_and_problem_interval(counts[level], samples, k)) for level in counts]


def _levels(base: Counts) -> list[str]:
    return [f"L{level}" for level in base]


def _tokens(line: VariantLine) -> str:
    return f"{(line.mean('generated_tokens') or 0) / 1000:.0f}k"


def _per_cent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"

"""A comparison from its first training to its report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from expo_lite.comparing.jobs import Job, run_all
from expo_lite.comparing.report import write_report
from expo_lite.comparing.trials import Trial, begin_from
from expo_lite.comparing.variants import STANDARD, Variant, ablations, methods
from expo_lite.config import Config
from expo_lite.memory.speed import in_words


class Study:
    """Everything lies below `given.to`; what is finished is not done again."""

    def __init__(
        self,
        given: argparse.Namespace,
        rates: Sequence[float],
        settings: Sequence[str],
        config: Config,
        console: Console,
    ) -> None:
        self.given = given
        self.rates = rates
        self.settings = tuple(settings)
        self.steps = given.steps or config.steps
        self.console = console
        self.seeds = sorted(set(given.seeds))

    def to_the_end(self) -> None:
        """Search learning rates, train, train on to equal tokens, score, report."""
        compared = methods(self.given.methods)
        searched = {variant.name: self.search(variant) for variant in compared}
        best = {name: max(trials, key=quality).rate for name, trials in searched.items()}
        for name, rate in best.items():
            self.console.print(f"{name}: learning rate {rate:g}", highlight=False)
        equal_steps = {variant: self.trained(variant, best[variant.name]) for variant in compared}
        equal_tokens = self.to_equal_tokens(equal_steps)
        changed: dict[Variant, list[Trial]] = {}
        if self.given.ablations:
            standard = next(variant for variant in [*compared, *methods([STANDARD])] if variant.name == STANDARD)
            rate = best.get(STANDARD) or max(self.search(standard), key=quality).rate
            changed = {variant: self.trained(variant, rate) for variant in [standard, *ablations()]}
        everything = [trial for group in (equal_steps, equal_tokens, changed) for of in group.values() for trial in of]
        self.score(everything)
        write_report(self.given, searched, equal_steps, equal_tokens, changed)
        self.console.print(f"Report: {self.given.to / 'report.md'}", highlight=False, soft_wrap=True)

    def trial(self, variant: Variant, rate: float, seed: int) -> Trial:
        """A training of the comparison's own number of steps."""
        return Trial(variant, rate, seed, self.steps, self.settings, self.given.to)

    def search(self, variant: Variant) -> list[Trial]:
        """The first seed with every learning rate, lowest first; of equals, `max` then takes the lowest."""
        return self.train([self.trial(variant, rate, self.seeds[0]) for rate in self.rates])

    def trained(self, variant: Variant, rate: float) -> list[Trial]:
        """All seeds with one learning rate."""
        return self.train([self.trial(variant, rate, seed) for seed in self.seeds])

    def to_equal_tokens(self, trials: dict[Variant, list[Trial]]) -> dict[Variant, list[Trial]]:
        """Each seed trained for as many steps as generate the tokens of the method that generated most with it."""
        out: dict[Variant, list[Trial]] = {variant: [] for variant in trials}
        for of_seed in zip(*trials.values(), strict=True):
            budget = max(trial.outcome.generated_tokens for trial in of_seed)
            for variant, trial in zip(trials, of_seed, strict=True):
                steps = max(self.steps, round(self.steps * budget / trial.outcome.generated_tokens))
                longer = replace(trial, steps=steps, longer=True) if steps > self.steps else trial
                begin_from(trial, longer)
                out[variant].append(longer)
        self.train([trial for of_variant in out.values() for trial in of_variant])
        return out

    def train(self, trials: list[Trial]) -> list[Trial]:
        """Train those that are not finished."""
        self.run([trial.job() for trial in trials if not trial.finished])
        return trials

    def score(self, trials: Sequence[Trial]) -> None:
        """Answer the test problems with every adapter, and once with the base."""
        given = self.given
        common = ("--problems", str(given.problems), "--samples", str(given.samples), "--k", "1", str(given.k))
        unique = list({trial.name: trial for trial in trials}.values())
        jobs = [
            trial.scoring((*common, *(() if number == 0 else ("--only", "adapter"))))
            for number, trial in enumerate(unique)
            if not (trial.scores / "results.json").is_file()
        ]
        self.run(jobs)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run commands and say of each how long it took."""

        def done(job: Job, seconds: float) -> None:
            self.console.print(f"{job.log.stem}: {in_words(seconds)}", highlight=False)

        run_all(jobs, self.given.jobs, done)


def quality(trial: Trial) -> float:
    """What a learning rate is chosen by: validation pass@1, over levels, of the best step."""
    return trial.outcome.validation

"""A comparison from its first training to its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from rich.console import Console

from expo_lite.core.errors import CheckpointError, ConfigError, first_line
from expo_lite.core.terminal import say
from expo_lite.grading.scores import ADAPTER, BASE
from expo_lite.runs import files
from expo_lite.runs.lock import RunLock
from expo_lite.studies.methods.jobs import Job, run_all
from expo_lite.studies.methods.progress import JobsDisplay, Tally
from expo_lite.studies.methods.report import write_report
from expo_lite.studies.methods.request import StudyRequest
from expo_lite.studies.methods.trials import StudyTrials, Trial, begin_from
from expo_lite.studies.methods.variants import STANDARD, Variant

TESTED = ("problems", "samples")
"""What all scores of a folder share."""


class Study:
    """Everything lies below `asked.to`, locked for this process until `close`; what is finished is not done again.

    Raises ConfigError or CheckpointError where the folder cannot be used for this.
    """

    def __init__(self, asked: StudyRequest, console: Console) -> None:
        self.asked = asked
        self.console = console
        trainings = sum(asked.trainings(variant) for variant in (*asked.searched, *asked.changed))
        self.trainings = Tally(trainings, "trainings", asked.jobs)
        self._lock = _locked(asked)
        try:
            _claim(asked)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to_the_end(self) -> None:
        """Search learning rates, train, train on to equal tokens, score, report."""
        asked = self.asked
        searched = self.search()
        rates = {variant.name: best_rate(trials) for variant, trials in searched.items()}
        for name, rate in rates.items():
            say(self.console, f"{name}: learning rate {rate:g}")
        trials = {variant: self.seeds(variant, rates[variant.name]) for variant in asked.searched}
        trials |= {variant: self.seeds(variant, rates[STANDARD]) for variant in asked.changed}
        self.train(list(chain(*trials.values())))
        equal_steps = {variant: trials[variant] for variant in asked.compared}
        changed = {v: of for v, of in trials.items() if v.name == STANDARD or v in asked.changed}
        trained = StudyTrials(
            searched, equal_steps, self.to_equal_tokens(equal_steps), changed if asked.ablations else {}
        )
        self.score(trained.scored)
        write_report(asked, trained)
        say(self.console, f"Report: {asked.to / 'report.md'}")

    def trial(self, variant: Variant, rate: float, seed: int) -> Trial:
        """A training of the comparison's own number of steps."""
        return Trial(variant, rate, seed, self.asked.steps, self.asked)

    def search(self) -> dict[Variant, list[Trial]]:
        """The first seed with every learning rate, lowest first."""
        asked = self.asked
        searched = {v: [self.trial(v, rate, asked.seeds[0]) for rate in asked.rates] for v in asked.searched}
        self.train(list(chain(*searched.values())))
        return searched

    def seeds(self, variant: Variant, rate: float) -> list[Trial]:
        """All seeds with one learning rate."""
        return [self.trial(variant, rate, seed) for seed in self.asked.seeds]

    def to_equal_tokens(self, trials: dict[Variant, list[Trial]]) -> dict[Variant, list[Trial]]:
        """Each seed trained for as many steps as generate the tokens of the method that generated most with it."""
        out: dict[Variant, list[Trial]] = {variant: [] for variant in trials}
        for of_seed in zip(*trials.values(), strict=True):
            budget = max(trial.outcome.generated_tokens for trial in of_seed)
            for variant, trial in zip(trials, of_seed, strict=True):
                steps = max(trial.steps, round(trial.steps * budget / trial.outcome.generated_tokens))
                longer = replace(trial, steps=steps, longer=True) if steps > trial.steps else trial
                begin_from(trial, longer)
                out[variant].append(longer)
        every = list(chain(*out.values()))
        self.trainings.total += sum(trial.longer for trial in every)
        self.train(every)
        return out

    def train(self, trials: Sequence[Trial]) -> None:
        """Train those that are not finished. Raises ConfigError where a folder holds another training."""
        for trial in trials:
            trial.refuse_another()
        waiting = [trial for trial in trials if not trial.finished]
        self.trainings.done |= {trial.name for trial in trials} - {trial.name for trial in waiting}
        self.run([trial.job() for trial in waiting], self.trainings)

    def score(self, trials: Sequence[Trial]) -> None:
        """Answer the test problems with every adapter, and with the base beside the first."""
        asked = self.asked
        common = ("--problems", str(asked.problems), "--samples", str(asked.samples), "--k", *map(str, asked.ks[::-1]))
        jobs = []
        for number, trial in enumerate(trials):
            trial.drop_old_scores()
            if not trial.scored_as(ADAPTER if number else BASE):
                jobs.append(trial.scoring((*common, *(("--only", ADAPTER) if number else ()))))
        tally = Tally(len(trials), "adapters scored", asked.jobs)
        tally.done = {trial.name for trial in trials} - {job.name for job in jobs}
        self.run(jobs, tally)

    def run(self, jobs: Sequence[Job], tally: Tally) -> None:
        """Run commands, show how far they are, and say of each how long it took, and how many are done."""

        def done(job: Job, seconds: float) -> None:
            say(self.console, tally.add(job.name, seconds))

        with JobsDisplay(self.console, tally, self.asked.to) as display:
            run_all(jobs, self.asked.jobs, done, self.console.print, display.watch)


def best_rate(trials: Sequence[Trial]) -> float:
    """The learning rate with the best validation pass@1, over levels, of the best step; of equals the lowest."""
    return max(sorted(trials, key=lambda trial: trial.rate), key=lambda trial: trial.outcome.validation).rate


def _locked(asked: StudyRequest) -> RunLock:
    try:
        asked.to.mkdir(parents=True, exist_ok=True)
        return RunLock(asked.to / ".lock", "--to")
    except OSError as error:
        raise ConfigError(f"--to: {asked.to} cannot be written ({error.strerror or error})") from None


def _claim(asked: StudyRequest) -> None:
    """Note what scores are made with, or see that it is what was noted."""
    path, now = asked.to / "scores.json", {name: getattr(asked, name) for name in TESTED}
    if not path.is_file():
        files.write_text(path, files.to_json(now) + "\n")
        return
    try:
        was = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"--to: {path} is damaged ({first_line(error)}); choose another --to") from None
    for name in TESTED:
        if was.get(name) != now[name]:
            raise ConfigError(f"--{name}: was {was.get(name)} in {asked.to} (got {now[name]}); choose another --to")

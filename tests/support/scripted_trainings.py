"""Trainings and evaluations of a comparison, without a model: folders are written as the script says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expo_lite.config.methods import method_of
from expo_lite.config.read import dump_yaml, read_config, read_request
from expo_lite.grading.evaluator import Evaluation, LevelScore
from expo_lite.grading.intervals import Estimate
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.runs.files import digest
from expo_lite.runs.folder import EVAL, METRICS, RunDir
from expo_lite.studies.evaluate.answer_sheet import ANSWERS, SETTINGS
from expo_lite.studies.methods.jobs import Job

Counts = dict[int, list[int]]
"""Right answers of each problem by level."""


@dataclass
class Script:
    """What trainings come to: metrics of a step by method, validation by method and rate, answers by method and seed.

    `run_all` stands in for that of expo_lite.studies.methods.jobs; `done` are its jobs' names with their modules.
    """

    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    validation: dict[tuple[str, float], float] = field(default_factory=dict)
    answers: dict[tuple[str, int], Counts] = field(default_factory=dict)
    base: Counts = field(default_factory=lambda: {1: [4, 4], 2: [0, 0]})
    jobs: list[Job] = field(default_factory=list)

    def run_all(
        self,
        jobs: Sequence[Job],
        at_once: int,
        done: Callable[[Job, float], None],
        note: Callable[..., None] = print,
        watch: Callable[[Sequence[Job]], None] = lambda running: None,
    ) -> None:
        """Do the jobs at once."""
        for job in jobs:
            self.jobs.append(job)
            (self.train if job.arguments[0] == "train" else self.evaluate)(job)
            done(job, 60.0)

    def names(self, command: str) -> list[str]:
        """The jobs of a command so far."""
        return [job.name for job in self.jobs if job.arguments[0] == command]

    def train(self, job: Job) -> None:
        """Leave a finished run."""
        config = read_request(list(job.arguments[1:])).config
        run = RunDir(str(config.run))
        run.path.mkdir(parents=True, exist_ok=True)
        run.config.write_text(dump_yaml(config))
        method = method_of(config)
        before = len(run.read(METRICS))
        for step in range(before + 1, config.steps + 1):
            run.append(METRICS, {"step": step, "generated_tokens": 100, **self.metrics.get(method, {})})
        if not before:
            run.append(EVAL, {"step": 0, "name": "base_validation", "levels": levels(0.1)})
        score = self.validation.get((method, config.optimizer.learning_rate), 0.5)
        run.append(EVAL, {"step": config.steps, "name": "validation", "levels": levels(score)})
        run.adapter.mkdir(exist_ok=True)
        (run.adapter / WEIGHTS).write_text(f"{run.path.name} {config.steps}")
        run.status(config.steps, state="finished", steps=config.steps)

    def evaluate(self, job: Job) -> None:
        """Leave answers and what else comparisons read."""
        run, to = RunDir(job.arguments[1]), Path(job.arguments[job.arguments.index("--to") + 1])
        config = read_config(run.config)
        models = {"base": self.base, "adapter": self.answers.get((method_of(config), config.seed), self.base)}
        if "--only" in job.arguments:
            del models["base"]
        to.mkdir(exist_ok=True)
        (to / SETTINGS).write_text(json.dumps({"adapter": digest(run.adapter / WEIGHTS)}))
        (to / "results.json").write_text(json.dumps({"levels": [{"pass_at": dict.fromkeys(models)}]}))
        lines = [
            {"model": model, "problem": f"{level}/{number}", "level": level, "samples": 4, "correct": correct}
            for model, counts in models.items()
            for level, of_level in counts.items()
            for number, correct in enumerate(of_level)
        ]
        (to / ANSWERS).write_text("".join(json.dumps(line) + "\n" for line in lines))


def levels(mean: float) -> list[dict[str, Any]]:
    """A validation as it is recorded; the two levels have this mean."""
    scores = [mean - 0.05, mean + 0.05]
    estimates = [Estimate(score, score, score) for score in scores]
    return Evaluation([LevelScore(n, 4, 4, 4, e, e, 0.0) for n, e in enumerate(estimates, 1)]).record()

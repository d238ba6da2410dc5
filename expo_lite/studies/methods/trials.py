"""One training of a study: where it lies, how it is begun or gone on with, and what came out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from expo_lite.config.dotted import replaced
from expo_lite.config.flags import as_flags
from expo_lite.config.read import read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.runs import files
from expo_lite.runs.files import digest
from expo_lite.runs.folder import EVAL, METRICS, RunDir
from expo_lite.runs.history import validation_curves
from expo_lite.runs.open import MAY_CHANGE, changes, short
from expo_lite.studies.evaluate.answer_sheet import SETTINGS
from expo_lite.studies.methods.jobs import Job
from expo_lite.studies.methods.request import StudyRequest
from expo_lite.studies.methods.variants import Variant
from expo_lite.training.metrics import PHASES

PLACE_AND_FIT = {*MAY_CHANGE} - {"evaluation"}
"""What trainings that are compared may differ in: all are scored alike."""


@dataclass(frozen=True)
class Trial:
    """A variant of a study, trained with one learning rate and seed."""

    variant: Variant
    rate: float
    seed: int
    steps: int
    asked: StudyRequest
    longer: bool = False  # than `steps` of the comparison, to reach a budget of generated tokens

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.variant.name}-rate{self.rate:g}-seed{self.seed}" + ("-equal-tokens" if self.longer else "")

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return RunDir(self.asked.to / self.name)

    @property
    def finished(self) -> bool:
        """Whether all its steps are done."""
        status = self.run.read_status() if self.run.path.is_dir() else {}
        return status.get("state") == "finished" and status.get("steps") == self.steps

    @property
    def _place(self) -> dict[str, Any]:
        return {"run": str(self.run.path), "steps": self.steps}

    @property
    def _settings(self) -> dict[str, Any]:
        """Over those that all trainings share, by dotted name."""
        return {**dict(self.variant.settings), "seed": self.seed, "optimizer.learning_rate": self.rate, **self._place}

    def job(self) -> Job:
        """The command that begins it, or goes on with it."""
        begun = self.run.config.is_file()
        words = ["--resume", *as_flags(self._place)] if begun else [*self.asked.settings, *as_flags(self._settings)]
        return self._job(self.name, ("train", *words))

    def refuse_another(self) -> None:
        """Raises ConfigError where its folder holds a training with other settings, or one that is no part of it."""
        if not self.run.config.is_file():
            return
        was, now = read_config(self.run.config), replaced(self.asked.config, self._settings)
        differing = changes(was, now, PLACE_AND_FIT)
        if was.steps > self.steps or (was.steps < self.steps and not _goes_on(was)):
            differing.append(("steps", was.steps, self.steps))
        if differing:
            name, before, after = differing[0]
            raise ConfigError(
                f"--to: {self.run.path} was trained with {name} {short(before)} (now {short(after)}); choose another"
            )

    def scoring(self, arguments: Sequence[str]) -> Job:
        """The command that scores its adapter on the test problems."""
        return self._job(
            f"{self.name}-scores",
            ("evaluate", str(self.run.path), *arguments, "--to", str(self.scores)),
        )

    def _job(self, log: str, command: tuple[str, ...]) -> Job:
        return Job(self.name, "expo_lite", command, self.asked.to / "logs" / f"{log}.log")

    def scored_as(self, model: str) -> bool:
        """Whether BASE, or its adapter, has been scored in its folder."""
        path = self.scores / "results.json"
        return path.is_file() and model in json.loads(path.read_text(encoding="utf-8"))["levels"][0]["pass_at"]

    def drop_old_scores(self) -> None:
        """Remove the scores of an adapter that has been trained on since."""
        path = self.scores / SETTINGS
        if path.is_file():
            scored = json.loads(path.read_text(encoding="utf-8"))["adapter"]
            if scored != digest(self.run.adapter / WEIGHTS):
                files.remove(self.scores)

    @property
    def scores(self) -> Path:
        """The folder of its evaluation."""
        return self.run.path / "comparison"

    @cached_property
    def outcome(self) -> Outcome:
        """What the finished run's records say."""
        return Outcome.of(self.run)


@dataclass(frozen=True)
class StudyTrials:
    """All trainings of a comparison by variant. `changed` begins with what is changed; empty without ablations."""

    searched: Mapping[Variant, Sequence[Trial]]
    equal_steps: Mapping[Variant, Sequence[Trial]]
    equal_tokens: Mapping[Variant, Sequence[Trial]]
    changed: Mapping[Variant, Sequence[Trial]]

    @property
    def scored(self) -> list[Trial]:
        """Those that the report gives test scores of, each once."""
        groups = chain(self.equal_steps.values(), self.equal_tokens.values(), self.changed.values())
        return list({trial.name: trial for trial in chain(*groups)}.values())


def begin_from(shorter: Trial, longer: Trial) -> None:
    """Let a longer trial go on where a shorter one ended, if a longer run is the same up to there."""
    goes_on = _goes_on(read_config(shorter.run.config))
    if goes_on and shorter.steps < longer.steps and not longer.run.path.exists():
        with files.staged(longer.run.path) as folder:
            shutil.copytree(shorter.run.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("comparison"))


def _goes_on(config: Config) -> bool:
    """Whether a longer run is the same up to the end of a shorter one: no schedule ends with the last step."""
    return config.optimizer.schedule == config.explanation.schedule == "constant"


@dataclass(frozen=True)
class Outcome:
    """Numbers of one finished run. Shares in [0, 1]; curves by step: levels -> validation pass@1."""

    config: Config
    validation: float
    seconds: float
    generated_tokens: float
    taught_nothing_share: float
    rescued_share: float
    wrong_steps_share: float | None
    curve: dict[int, dict[int, float]]

    @classmethod
    def of(cls, run: RunDir) -> Outcome:
        """Read a run's folder."""
        config, metrics, curve = read_config(run.config), run.read(METRICS), validation_curves(run.read(EVAL))

        def total(name: str) -> float:
            return sum(record.get(name, 0) for record in metrics)

        groups = len(metrics) * config.rollout.prompts_per_step
        return cls(
            config=config,
            validation=max(float(np.mean([*levels.values()])) for step, levels in curve.items() if step),
            seconds=sum(total(f"{phase}_seconds") for phase in PHASES),
            generated_tokens=total("generated_tokens"),
            taught_nothing_share=1 - total("groups_taught") / groups,
            rescued_share=total("rescued_groups") / max(1, total("failed_groups")),
            wrong_steps_share=_share(metrics, "explanations_trained_wrong_steps", "explanations_trained"),
            curve=curve,
        )


def _share(metrics: Sequence[dict], part: str, whole: str) -> float | None:
    """A sum over a sum; None where the part was never counted, or the whole is 0."""
    counted = [record for record in metrics if part in record]
    out_of = sum(record[whole] for record in counted)
    return float(np.sum([record[part] for record in counted]) / out_of) if out_of else None

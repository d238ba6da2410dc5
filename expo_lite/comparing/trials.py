"""One training of a comparison: where it lies, how it is begun or gone on with, and what came out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from expo_lite import files
from expo_lite.comparing.jobs import Job
from expo_lite.comparing.variants import Variant
from expo_lite.config import Config
from expo_lite.config_reader import read_config
from expo_lite.evaluation import Evaluation
from expo_lite.metrics import PHASES
from expo_lite.run_dir import EVAL, METRICS, RunDir


@dataclass(frozen=True)
class Trial:
    """A variant trained with one learning rate and seed. `common` are the settings that all trials share."""

    variant: Variant
    rate: float
    seed: int
    steps: int
    common: tuple[str, ...]
    root: Path
    longer: bool = False  # than `steps` of the comparison, to reach a budget of generated tokens

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"{self.variant.name}-rate{self.rate:g}-seed{self.seed}" + ("-equal-tokens" if self.longer else "")

    @property
    def run(self) -> RunDir:
        """The run's folder."""
        return RunDir(self.root / self.name)

    @property
    def finished(self) -> bool:
        """Whether all its steps are done."""
        status = self.run.read_status() if self.run.path.is_dir() else {}
        return status.get("state") == "finished" and status.get("steps") == self.steps

    def job(self) -> Job:
        """The command that begins it, or goes on with it."""
        place = ("--run", str(self.run.path), "--steps", str(self.steps))
        if self.run.config.is_file():
            arguments = ("--resume", *place)
        else:
            own = ("--seed", str(self.seed), "--optimizer.learning-rate", str(self.rate))
            arguments = (*self.common, *self.variant.flags, *own, *place)
        return Job("expo_lite.train", arguments, self.root / "logs" / f"{self.name}.log")

    def scoring(self, arguments: Sequence[str]) -> Job:
        """The command that scores its adapter on the test problems."""
        log = self.root / "logs" / f"{self.name}-scores.log"
        return Job("expo_lite.evaluate", (str(self.run.path), *arguments, "--to", str(self.scores)), log)

    @property
    def scores(self) -> Path:
        """The folder of its evaluation."""
        return self.run.path / "comparison"

    @cached_property
    def outcome(self) -> Outcome:
        """What the finished run's records say."""
        return Outcome.of(self.run)


def begin_from(shorter: Trial, longer: Trial) -> None:
    """Let a longer trial go on where a shorter one ended, if a longer run is the same up to there.

    It is, unless a schedule ends at 0 with the last step.
    """
    config = read_config(shorter.run.config)
    constant = config.optimizer.schedule == config.explanation.schedule == "constant"
    if constant and shorter.steps < longer.steps and not longer.run.path.exists():
        with files.staged(longer.run.path) as folder:
            shutil.copytree(shorter.run.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("comparison"))


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
        config, metrics, validations = read_config(run.config), run.read(METRICS), _validations(run)

        def total(name: str) -> float:
            return sum(record.get(name, 0) for record in metrics)

        groups = len(metrics) * config.rollout.prompts_per_step
        return cls(
            config=config,
            validation=max(evaluation.mean_pass_at_1 for step, evaluation in validations.items() if step),
            seconds=sum(total(f"{phase}_seconds") for phase in PHASES),
            generated_tokens=total("generated_tokens"),
            taught_nothing_share=1 - total("groups_taught") / groups,
            rescued_share=total("rescued_groups") / max(1, total("failed_groups")),
            wrong_steps_share=_share(metrics, "explanations_trained_wrong_steps", "explanations_trained"),
            curve={
                step: {score.level: score.pass_at_1.mean for score in evaluation.levels}
                for step, evaluation in validations.items()
            },
        )


def _validations(run: RunDir) -> dict[int, Evaluation]:
    """The base's (step 0) and every later validation."""
    records = [record for record in run.read(EVAL) if record["name"] in ("base_validation", "validation")]
    return {record["step"]: Evaluation.from_record(record["levels"]) for record in records}


def _share(metrics: Sequence[dict], part: str, whole: str) -> float | None:
    """A sum over a sum; None where the part was never counted, or the whole is 0."""
    counted = [record for record in metrics if part in record]
    out_of = sum(record[whole] for record in counted)
    return float(np.sum([record[part] for record in counted]) / out_of) if out_of else None

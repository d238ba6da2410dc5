"""Held-out problems answered and judged, and the scores by level that follow: pass@1 and pass@k with intervals."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from expo_lite.core.progress import OnProgress, announced, silent
from expo_lite.core.records import Answered, Problem, Verdict
from expo_lite.core.tables import TextTable
from expo_lite.grading.intervals import Estimate, pass_at_k, share_interval
from expo_lite.grading.judge import Judge, attempt_verdicts
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import Sampler, SampleRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LevelScore:
    """How one level's problems were answered; `k` is the k of pass@k."""

    level: int
    problems: int
    samples: int
    k: int
    pass_at_1: Estimate
    pass_at_k: Estimate
    truncated_share: float

    @classmethod
    def from_record(cls, score: Mapping[str, Any]) -> LevelScore:
        """One level of `Evaluation.record`; what a later version wrote besides is passed over."""
        values: dict[str, Any] = {field.name: score[field.name] for field in fields(cls)}
        values |= {name: Estimate(**values[name]) for name in ("pass_at_1", "pass_at_k")}
        return cls(**values)


@dataclass(frozen=True)
class Evaluation:
    """Scores by level, easiest first."""

    levels: list[LevelScore]

    @property
    def mean_pass_at_1(self) -> float:
        """pass@1 averaged over levels: what the best checkpoint is chosen by."""
        return float(np.mean([score.pass_at_1.mean for score in self.levels]))

    def record(self) -> list[dict[str, Any]]:
        """Plain values for eval.jsonl."""
        return [asdict(score) for score in self.levels]

    @classmethod
    def from_record(cls, levels: Sequence[dict[str, Any]]) -> Evaluation:
        """The evaluation that `record` wrote."""
        return cls([LevelScore.from_record(score) for score in levels])


def comparison_table(before: Evaluation, after: Evaluation) -> TextTable:
    """Before and after by level, with 95 % intervals."""
    first = before.levels[0]
    title = f"Held-out problems, {first.problems} a level, {first.samples} samples each; % with 95 % intervals"
    heads = ["level", "pass@1 before", "pass@1 after", f"pass@{first.k} before", f"pass@{first.k} after"]
    rows = [
        [str(cell) for cell in (old.level, old.pass_at_1, new.pass_at_1, old.pass_at_k, new.pass_at_k)]
        for old, new in zip(before.levels, after.levels, strict=True)
    ]
    return TextTable(title, heads, rows)


class Evaluator:
    """Answers problems with the sampler's weights and judges them.

    The random numbers depend on seed and problem only, so two models are compared on the same draws.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompts: Prompts,
        judge: Judge,
        seed: int,
        samples: int,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self.sampler = sampler
        self.prompts = prompts
        self.judge = judge
        self.seed = seed
        self.samples = samples
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature

    def answer(self, problems: Sequence[Problem], on_progress: OnProgress = silent) -> list[Answered]:
        """Every problem answered `samples` times; the same whatever other problems are asked for, up to rounding."""
        requests = [
            SampleRequest(self.prompts.task(p), self.samples, (self.seed, "evaluation", p.id)) for p in problems
        ]
        written = self.sampler.sample(requests, self.max_new_tokens, self.temperature, on_progress=on_progress)
        with announced("verifying", self.samples * len(problems), "completions", on_progress):
            verdicts = attempt_verdicts(self.judge, problems, written)
        late = sum(of_problem.count(Verdict.TIMEOUT) for of_problem in verdicts)
        if late:
            logger.warning(
                "%d of %d answers could not be judged in time, and are not among the right ones: "
                "raise verifier.timeout_seconds",
                *(late, self.samples * len(problems)),
            )
        return [
            Answered(p.id, p.level, len(found), found.count(Verdict.CORRECT), sum(not c.finished for c in completions))
            for p, found, completions in zip(problems, verdicts, written, strict=True)
        ]

    def evaluate(
        self, problems: Sequence[Problem], k: int | None = None, on_progress: OnProgress = silent
    ) -> Evaluation:
        """pass@1 and pass@k (k at most and by default the number of samples) by level."""
        levels = by_level(self.answer(problems, on_progress))
        return Evaluation([level_score(of_level, k or self.samples) for of_level in levels.values()])

    def close(self) -> None:
        """End the judge's workers, if any."""
        self.judge.close()


def by_level(answered: Sequence[Answered]) -> dict[int, list[Answered]]:
    """The answers of each level, easiest level first."""
    return {level: [a for a in answered if a.level == level] for level in sorted({a.level for a in answered})}


def level_score(answered: Sequence[Answered], k: int) -> LevelScore:
    """The scores of problems of one level with the same number of samples. ValueError if k exceeds that number."""
    samples, correct = answered[0].samples, [a.correct for a in answered]
    return LevelScore(
        level=answered[0].level,
        problems=len(answered),
        samples=samples,
        k=k,
        pass_at_1=share_interval(pass_at_k(correct, samples, 1)),
        pass_at_k=share_interval(pass_at_k(correct, samples, k)),
        truncated_share=sum(a.truncated for a in answered) / (samples * len(answered)),
    )

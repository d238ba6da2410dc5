"""pass@1 and pass@k by level, with intervals, on held-out problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from expo_lite.prompts import Prompts
from expo_lite.sampler import Sampler, SampleRequest
from expo_lite.types import Problem, Verdict
from expo_lite.verifier import Verifier

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A share of problems with its 95 % bootstrap interval; as text in per cent."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.0f} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


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
        return cls(
            [
                LevelScore(
                    **{
                        **score,
                        "pass_at_1": Estimate(**score["pass_at_1"]),
                        "pass_at_k": Estimate(**score["pass_at_k"]),
                    }
                )
                for score in levels
            ]
        )


class Evaluator:
    """Answers problems with the sampler's weights and judges them.

    The random numbers depend on seed and problem only, so two models are compared on the same draws.
    """

    def __init__(
        self,
        sampler: Sampler,
        prompts: Prompts,
        verifier: Verifier,
        seed: int,
        samples: int,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self.sampler = sampler
        self.prompts = prompts
        self.verifier = verifier
        self.seed = seed
        self.samples = samples
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature

    def evaluate(self, problems: Sequence[Problem], k: int | None = None) -> Evaluation:
        """pass@1 and pass@k (k at most and by default the number of samples) by level."""
        requests = [
            SampleRequest(self.prompts.task(p), self.samples, (self.seed, "evaluation", p.id)) for p in problems
        ]
        written = self.sampler.sample(requests, self.max_new_tokens, self.temperature)
        verdicts = self.verifier.judge_completions(problems, written)
        counts = np.array([of_problem.count(Verdict.CORRECT) for of_problem in verdicts])
        truncated = np.array([[not c.finished for c in completions] for completions in written])
        levels = np.array([p.level for p in problems])
        k = k or self.samples
        return Evaluation(
            [
                LevelScore(
                    level=int(level),
                    problems=int((levels == level).sum()),
                    samples=self.samples,
                    k=k,
                    pass_at_1=bootstrap_mean(counts[levels == level] / self.samples),
                    pass_at_k=bootstrap_mean(pass_at_k(counts[levels == level], self.samples, k)),
                    truncated_share=float(truncated[levels == level].mean()),
                )
                for level in np.unique(levels)
            ]
        )


def pass_at_k(correct: npt.ArrayLike, samples: int, k: int) -> npt.NDArray[np.float64]:
    """Unbiased probability that one of k samples is right, by problem: 1 - C(n - c, k) / C(n, k).

    arXiv 2107.03374, eq. 1. ValueError if k exceeds the number of samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem, there are {samples}")
    total = comb(samples, k)
    return np.array([1 - comb(samples - int(c), k) / total for c in np.asarray(correct)])


def bootstrap_mean(values: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Mean of one value per problem, with a percentile bootstrap interval over problems."""
    values = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(values.mean()), float(low), float(high))

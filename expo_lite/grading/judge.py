"""What it takes to judge completions: the verifier of mathematics does, and so does a custom reward function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.model.ranks import Ranks


@dataclass(frozen=True)
class Judgement:
    """Whether a completion's text solves its problem, and the reward that it earns as an attempt."""

    verdict: Verdict
    reward: float


class Judge(Protocol):
    """Judges batches of completions. Threads take turns."""

    def judge_completions(
        self, problems: Sequence[Problem], completions: Sequence[Sequence[Completion]]
    ) -> list[list[Judgement]]:
        """One judgement for each of each problem's completions. Raises ExpoLiteError."""
        ...

    def close(self) -> None:
        """Let go of what judging needs."""
        ...


def attempt_verdicts(
    judge: Judge, problems: Sequence[Problem], completions: Sequence[Sequence[Completion]]
) -> list[list[Verdict]]:
    """Verdicts on attempts: one that was cut off is wrong whatever it says."""
    judged = judge.judge_completions(problems, completions)
    return [
        [attempt_verdict(completion, judgement.verdict) for completion, judgement in zip(of_p, found, strict=True)]
        for of_p, found in zip(completions, judged, strict=True)
    ]


def attempt_verdict(completion: Completion, verdict: Verdict) -> Verdict:
    """A verdict on a text, as one on an attempt."""
    return Verdict.WRONG if verdict is Verdict.CORRECT and not completion.finished else verdict


@dataclass(frozen=True)
class SharedJudge:
    """A judge of which every rank has its own, for its share of the problems."""

    own: Judge
    ranks: Ranks

    def judge_completions(
        self, problems: Sequence[Problem], completions: Sequence[Sequence[Completion]]
    ) -> list[list[Judgement]]:
        """All judgements, on every rank."""
        pairs = list(zip(problems, completions, strict=True))
        return self.ranks.each(
            pairs, lambda share: self.own.judge_completions([p for p, _ in share], [of_p for _, of_p in share])
        )

    def close(self) -> None:
        """Close this rank's own."""
        self.own.close()

"""The records that flow through a step, from a problem to a training sequence.

Letters used for shapes everywhere: P prompts per step, G rollouts per prompt, B sequences,
T tokens, N completion tokens of several sequences laid end to end, H hidden size, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple


class Verdict(str, Enum):
    """What is said of one completion: by the verifier, or by what a reward function gives (correct or wrong).

    TIMEOUT: judging took too long or too much memory. Nothing is earned, and nothing is known to be wrong.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no answer"
    TIMEOUT = "timeout"


Rejection = Literal["incomplete", "unverified", "leak", "bare_answer", "false_step"]
"""The filter that turned an explanation down."""
REJECTIONS: dict[str, str] = {
    "incomplete": "it did not come to an end",
    "unverified": "it does not arrive at the answer",
    "leak": "it betrays that the answer was told",
    "bare_answer": "it names the answer and derives nothing",
    "false_step": "one of its calculations is not true",
}
"""Why, in words."""


def why_rejected(reason: str) -> str:
    """The words for a recorded reason; that of another version stands for itself."""
    return REJECTIONS.get(reason, reason)


class Turn(NamedTuple):
    """What one side says in a chat; `role` is system (in the first turn only), user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Problem:
    """One question with its known answer.

    `solution` is the data set's own worked solution (the expert's), where there is one; `columns` are the row's, where
    a reward function is to see them; `where` is the row's place, such as a file and a line; `turns` come before the
    question, where that is the last turn of a chat.
    """

    id: str
    question: str
    answer: str
    level: int = 1
    solution: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    where: str | None = field(default=None, repr=False, compare=False)
    turns: tuple[Turn, ...] = field(default=(), repr=False)  # no repr: runs from before keep their data's digest

    @property
    def asked(self) -> str:
        """The question below what user and assistant have said before it."""
        return "\n".join([*(turn.content for turn in self.turns if turn.role != "system"), self.question])


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a prompt.

    `completion_ids` include the end token if `finished`; `logprobs` are the sampler's own, one per
    token, of logits / temperature.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    finished: bool
    text: str


@dataclass(frozen=True)
class Rollout:
    """One attempt at a problem, with its verdict and reward."""

    completion: Completion
    verdict: Verdict
    reward: float


@dataclass(frozen=True)
class RolloutGroup:
    """The G attempts at one problem, with their advantages.

    Failed / mixed / solved says how many rollouts are correct; signal says whether an advantage
    differs from 0. They are separate: shaped rewards can give a failed group signal.
    """

    problem: Problem
    rollouts: list[Rollout]
    advantages: list[float]

    @property
    def pass_rate(self) -> float:
        """The share of correct rollouts."""
        return sum(rollout.verdict is Verdict.CORRECT for rollout in self.rollouts) / len(self.rollouts)

    @property
    def kind(self) -> Literal["failed", "mixed", "solved"]:
        """failed: no rollout is correct; solved: all are."""
        return "failed" if self.pass_rate == 0 else "solved" if self.pass_rate == 1 else "mixed"

    @property
    def has_signal(self) -> bool:
        """Whether the policy term has a gradient here."""
        return any(advantage != 0 for advantage in self.advantages)


@dataclass(frozen=True)
class Explanation:
    """A way to a known answer: the model's own explanation of it, or the expert's solution.

    `rejected` names the filter that turned it down, or is None. `unhinted_ids` is the prompt it is
    trained under, with the answer hidden. `answer_span` is where the final answer's tokens start and end.
    """

    problem: Problem
    unhinted_ids: list[int]
    completion: Completion
    verdict: Verdict
    rejected: Rejection | None = None
    answer_span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Answered:
    """How one problem fared in an evaluation: of `samples` completions, how many were right and how many cut off."""

    problem: str
    level: int
    samples: int
    correct: int
    truncated: int


@dataclass(frozen=True)
class TrainingSequence:
    """A prompt and a completion with what each completion token weighs in the loss.

    A token's share of the loss is `policy_weight` times its clipped policy term (and KL estimate), and
    `likelihood_weight` times its negative log-probability (below 0 for what DPO makes less likely). The weights
    already hold the step's denominators, so that sequences can be cut into micro-batches in any way. Old
    log-probabilities (before the update) and the reference's are filled in only where the loss needs them.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    advantage: float = 0.0
    policy_weight: float = 0.0
    likelihood_weight: float = 0.0
    sampler_logprobs: list[float] | None = None
    old_logprobs: list[float] | None = None
    reference_logprobs: list[float] | None = None
    answer_span: tuple[int, int] | None = None  # of an explanation's completion; for the metrics only

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True)
class PreferencePair:
    """What DPO learns from: two completions of one unhinted prompt, the first to be preferred."""

    chosen: TrainingSequence
    rejected: TrainingSequence
